//! Listening sockets: making them, reading their state, reaching one of a group on purpose.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

pub use rustix::net::SocketType;
use rustix::net::{
    AddressFamily, SocketFlags, bind, getsockname, listen as sys_listen, socket_with, sockopt,
};

use crate::core::ordered::Ordered as _;
use crate::os::diag::{self, Wanted};
use crate::os::proc;

/// Why an address cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another process has it.
    #[error("{address} is in use by {holder}")]
    InUse {
        /// The address.
        address: SocketAddr,
        /// The process that has it, as far as it can be seen.
        holder: String,
    },
    /// A port below 1024 without the right to it.
    #[error("{address} needs permission to bind ports below {first_free} (CAP_NET_BIND_SERVICE)")]
    Forbidden {
        /// The address.
        address: SocketAddr,
        /// The first port that needs no right.
        first_free: u16,
    },
    /// No interface has the address.
    #[error("{address} is not an address of this machine")]
    NotOurs {
        /// The address.
        address: SocketAddr,
    },
    /// The system's own reason.
    #[error("{address}: {source}")]
    System {
        /// The address.
        address: SocketAddr,
        /// The error.
        #[source]
        source: io::Error,
    },
}

/// The state of a slot, read from the kernel (`tcp(7)`, `TCP_INFO` of a listening socket).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotState {
    /// It is in its group; a program's `shutdown()` takes it out.
    pub is_listening: bool,
    /// Connections that wait to be accepted (`tcpi_unacked`).
    pub n_queued: u32,
    /// How many may wait (`tcpi_sacked`).
    pub backlog: u32,
}

/// A socket bound to a stable address: a member of its group from `listen()` on, or, for
/// datagrams, from now on.
///
/// # Errors
/// [`ListenError`].
pub fn slot(kind: SocketType, address: SocketAddr) -> Result<OwnedFd, ListenError> {
    let made = || -> io::Result<OwnedFd> {
        let fd = inet_socket(kind, address)?;
        sockopt::set_socket_reuseport(&fd, true)?;
        if kind == SocketType::STREAM {
            sockopt::set_socket_reuseaddr(&fd, true)?;
            // Accepted connections inherit it; a runtime that takes a listener as it is (uvicorn
            // --fd) otherwise answers keep-alive requests in 43 ms instead of 0.1 ms.
            sockopt::set_tcp_nodelay(&fd, true)?;
        }
        bind(&fd, &address)?;
        Ok(fd)
    };
    made().map_err(|error| explain(address, error))
}

/// [`slot`] for connections.
///
/// # Errors
/// [`ListenError`].
pub fn tcp_slot(address: SocketAddr) -> Result<OwnedFd, ListenError> {
    slot(SocketType::STREAM, address)
}

/// Fails when another process has the address, also one that would silently share the port with us
/// (`SO_REUSEPORT` of the same user).
///
/// # Errors
/// [`ListenError`].
pub fn probe_free(kind: SocketType, address: SocketAddr) -> Result<(), ListenError> {
    let tried = || -> io::Result<()> {
        let fd = inet_socket(kind, address)?;
        if kind == SocketType::DGRAM {
            return Ok(bind(&fd, &address)?);
        }
        sockopt::set_socket_reuseaddr(&fd, true)?;
        bind(&fd, &address)?;
        // With SO_REUSEADDR only listen() finds another listener.
        Ok(sys_listen(&fd, 1)?)
    };
    tried().map_err(|error| explain(address, error))
}

fn inet_socket(kind: SocketType, address: SocketAddr) -> io::Result<OwnedFd> {
    let (family, v6) = match address.ip() {
        IpAddr::V4(_) => (AddressFamily::INET, None),
        IpAddr::V6(ip) => (AddressFamily::INET6, Some(!ip.is_unspecified())),
    };
    let fd = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    if let Some(only) = v6 {
        sockopt::set_ipv6_v6only(&fd, only)?;
    }
    Ok(fd)
}

fn explain(address: SocketAddr, error: io::Error) -> ListenError {
    match error.raw_os_error() {
        Some(libc::EADDRINUSE) => ListenError::InUse { address, holder: holder_text(address) },
        Some(libc::EACCES) => ListenError::Forbidden { address, first_free: first_free_port() },
        Some(libc::EADDRNOTAVAIL) => ListenError::NotOurs { address },
        _ => ListenError::System { address, source: error },
    }
}

/// The longest accept queue that the kernel allows.
#[must_use]
pub fn somaxconn() -> u32 {
    let text = fs::read_to_string("/proc/sys/net/core/somaxconn");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(128)
}

fn first_free_port() -> u16 {
    let path = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024)
}

fn holder_text(address: SocketAddr) -> String {
    let inodes = listeners(address.port()).into_iter().map(|row| row.inode).into_set();
    holder(&inodes, &[])
}

fn listeners(port: u16) -> Vec<diag::Row> {
    diag::rows(Wanted { states: &[diag::LISTEN], local_port: Some(port), remote_port: None })
}

/// The process that has one of these sockets, but for some.
fn holder(inodes: &BTreeSet<u64>, but: &[i32]) -> String {
    let has_one = |pid: &i32| proc::socket_inodes(*pid).intersection(inodes).next().is_some();
    match proc::all().into_iter().filter(|pid| !but.contains(pid)).find(has_one) {
        Some(pid) => format!("{} (pid {pid})", proc::name(pid).unwrap_or_default()),
        None => "a process that is not visible to this user".to_owned(),
    }
}

/// Who else listens at an address of ours (`SO_REUSEPORT` of the same user), which has these sockets there.
#[must_use]
pub fn stranger(address: SocketAddr, own: &BTreeSet<u64>) -> Option<String> {
    let rows = listeners(address.port()).into_iter();
    let others = rows.filter(|row| row.local == address && !own.contains(&row.inode));
    let others: BTreeSet<u64> = others.map(|row| row.inode).into_set();
    (!others.is_empty()).then(|| holder(&others, &[]))
}

/// Which program has this socket that is none of this binary's, if any has: one that was forked away keeps
/// what its parent had.
///
/// # Errors
/// `fstat(2)`'s.
pub fn kept_by(socket: impl AsFd) -> io::Result<Option<String>> {
    let inode = inode(socket)?;
    let exe = |pid: &str| {
        fs::metadata(format!("/proc/{pid}/exe")).ok().map(|meta| (meta.dev(), meta.ino()))
    };
    let (own, parent) = (exe("self"), proc::own_parent());
    let is_other = |pid: &i32| {
        let has_it = *pid != parent && proc::socket_inodes(*pid).contains(&inode);
        has_it && exe(&pid.to_string()) != own
    };
    let found = proc::all().into_iter().find(is_other);
    Ok(found.map(|pid| format!("{} (pid {pid})", proc::name(pid).unwrap_or_default())))
}

/// Who has this socket beside this process and its parent.
#[must_use]
pub fn other_holder(socket: impl AsFd) -> String {
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let inodes = inode(socket).into_iter().collect();
    holder(&inodes, &[own, proc::own_parent()])
}

/// Makes a bound socket listen, or gives a listening one this backlog again: a program's own
/// `listen(fd, 5)` shrinks it.
///
/// # Errors
/// `listen(2)`'s.
pub fn listen(slot: impl AsFd, backlog: u32) -> io::Result<()> {
    Ok(sys_listen(slot, i32::try_from(backlog).unwrap_or(i32::MAX))?)
}

/// Reads a slot's state.
///
/// # Errors
/// `getsockopt(2)`'s.
pub fn slot_state(slot: impl AsFd) -> io::Result<SlotState> {
    // tcp_info: state is byte 0; unacked and sacked are the words at 24 and 28 (linux/tcp.h).
    let mut info = [0_u8; 104];
    let mut length = u32::try_from(info.len()).unwrap_or(0);
    // SAFETY: the kernel writes at most `length` bytes into `info`.
    let result = unsafe {
        libc::getsockopt(
            slot.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let word = |at: usize| u32::from_ne_bytes([info[at], info[at + 1], info[at + 2], info[at + 3]]);
    let is_listening = info[0] == diag::LISTEN;
    let (n_queued, backlog) = if is_listening { (word(24), word(28)) } else { (0, 0) };
    Ok(SlotState { is_listening, n_queued, backlog })
}

/// The state of a socket for datagrams: whether one waits, not how many.
///
/// # Errors
/// `poll(2)`'s.
pub fn datagram_state(slot: impl AsFd) -> io::Result<SlotState> {
    let n_queued = u32::from(is_readable(slot)?);
    Ok(SlotState { is_listening: true, n_queued, backlog: 0 })
}

/// Whether something waits in a socket.
///
/// # Errors
/// `poll(2)`'s.
pub fn is_readable(socket: impl AsFd) -> io::Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let socket = socket.as_fd();
    let mut fds = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    Ok(fds[0].revents().contains(PollFlags::IN))
}

/// Throws away unread datagrams.
///
/// # Errors
/// `recvfrom(2)`'s.
pub fn discard(slot: impl AsFd) -> io::Result<u32> {
    use rustix::net::RecvFlags;
    let mut n = 0;
    loop {
        let mut byte = [0_u8; 1];
        match rustix::net::recv(&slot, &mut byte[..], RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
            Ok(_) => n += 1,
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(n),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNREFUSED) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether `accept(2)` blocks: the flag belongs to the open socket, and so to the program as well.
///
/// # Errors
/// `ioctl(2)`'s.
pub fn set_blocking(slot: impl AsFd) -> io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(slot, false)?)
}

/// The opposite of [`set_blocking`].
///
/// # Errors
/// `ioctl(2)`'s.
pub fn set_nonblocking(slot: impl AsFd) -> io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(slot, true)?)
}

/// Takes a connection out of a slot's queue. It never waits, also when the slot is a blocking one:
/// the flag belongs to the open socket, and others may have set it since.
///
/// # Errors
/// `accept(2)`'s; `WouldBlock` when no connection waits.
pub fn accept(slot: impl AsFd) -> io::Result<std::net::TcpStream> {
    if !is_readable(&slot)? {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    let fd = rustix::net::accept_with(slot, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    Ok(std::net::TcpStream::from(fd))
}

/// The address a socket is bound to.
///
/// # Errors
/// `getsockname(2)`'s.
pub fn address_of(slot: impl AsFd) -> io::Result<SocketAddr> {
    SocketAddr::try_from(getsockname(slot)?).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// The address at which this machine itself reaches a listener.
#[must_use]
pub fn reachable(listener: SocketAddr) -> SocketAddr {
    let ip = match listener.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listener.port())
}

/// A non-blocking socket whose source is bound already, so that a rule can name it before it
/// connects to `target`.
///
/// # Errors
/// The system's.
pub fn probe_socket(target: SocketAddr) -> io::Result<(OwnedFd, SocketAddr)> {
    let fd = inet_socket(SocketType::STREAM, target)?;
    set_nonblocking(&fd)?;
    bind(&fd, &SocketAddr::new(target.ip(), 0))?;
    let source = address_of(&fd)?;
    Ok((fd, source))
}

/// Remote ends of handshakes that are half open on a port.
#[must_use]
pub fn half_open(port: u16) -> BTreeSet<SocketAddr> {
    let wanted = Wanted { states: &[diag::SYN_RECV], local_port: Some(port), remote_port: None };
    diag::rows(wanted).into_iter().map(|row| row.remote).into_set()
}

/// Whether a program has taken this connection out of an accept queue: from then on the server's
/// side has an inode.
#[must_use]
pub fn is_accepted(client: SocketAddr, port: u16) -> bool {
    let (local_port, remote_port) = (Some(port), Some(client.port()));
    let wanted = Wanted { states: &diag::IN_USE, local_port, remote_port };
    let same = |remote: SocketAddr| remote.ip().to_canonical() == client.ip().to_canonical();
    diag::rows(wanted).iter().any(|row| same(row.remote) && row.inode != 0)
}

/// Connections to these ports whose socket is one of these.
#[must_use]
pub fn n_connections(ports: &BTreeSet<u16>, inodes: &BTreeSet<u64>) -> usize {
    let open = [diag::ESTABLISHED, diag::CLOSE_WAIT];
    let of = |port: &u16| {
        let rows = diag::rows(Wanted { states: &open, local_port: Some(*port), remote_port: None });
        rows.iter().filter(|row| inodes.contains(&row.inode)).count()
    };
    ports.iter().map(of).sum()
}

/// Addresses on which any of these sockets listens.
#[must_use]
pub fn listening(inodes: &BTreeSet<u64>) -> Vec<SocketAddr> {
    let rows = diag::rows(Wanted { states: &[diag::LISTEN], ..Wanted::default() }).into_iter();
    rows.filter(|row| inodes.contains(&row.inode)).map(|row| row.local).collect()
}

/// The inode of a socket, as `/proc/PID/fd` names it.
///
/// # Errors
/// `fstat(2)`'s.
pub fn inode(fd: impl AsFd) -> io::Result<u64> {
    Ok(rustix::fs::fstat(fd)?.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_on_the_port_is_named_also_one_that_would_share_it() {
        let plain = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = plain.local_addr().unwrap();
        assert!(matches!(tcp_slot(address), Err(ListenError::InUse { .. })));
        let text = probe_free(SocketType::STREAM, address).unwrap_err().to_string();
        assert!(text.contains(&format!("(pid {})", std::process::id())), "{text}");
        drop(plain);
        let sharing = tcp_slot(address).unwrap();
        listen(&sharing, 10).unwrap();
        assert!(tcp_slot(address).is_ok(), "the kernel lets a second one in");
        assert!(matches!(probe_free(SocketType::STREAM, address), Err(ListenError::InUse { .. })));
    }

    #[test]
    fn taking_a_connection_never_waits() {
        let slot = tcp_slot("127.0.0.1:0".parse().unwrap()).unwrap();
        listen(&slot, 8).unwrap();
        set_blocking(&slot).unwrap();
        assert_eq!(accept(&slot).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let client = std::net::TcpStream::connect(address_of(&slot).unwrap()).unwrap();
        assert_eq!(accept(&slot).unwrap().peer_addr().unwrap(), client.local_addr().unwrap());
        assert_eq!(accept(&slot).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn the_state_of_a_slot_tells_queue_backlog_and_shutdown() {
        let slot = tcp_slot("127.0.0.1:0".parse().unwrap()).unwrap();
        assert!(!slot_state(&slot).unwrap().is_listening);
        listen(&slot, 77).unwrap();
        let address = address_of(&slot).unwrap();
        let _a = std::net::TcpStream::connect(address).unwrap();
        let _b = std::net::TcpStream::connect(address).unwrap();
        let state = slot_state(&slot).unwrap();
        assert_eq!(state, SlotState { is_listening: true, n_queued: 2, backlog: 77 });
        rustix::net::shutdown(&slot, rustix::net::Shutdown::Both).unwrap();
        assert!(!slot_state(&slot).unwrap().is_listening);
    }
}
