//! Listening sockets: making them, reading their state, reaching one of a group on purpose.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, getsockname, listen as sys_listen, socket_with,
    sockopt,
};

use crate::os::proc;

/// Why an address cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody else has it.
    #[error("{address} is in use by {holder}")]
    InUse {
        /// The address.
        address: SocketAddr,
        /// Who has it, as far as it can be seen.
        holder: String,
    },
    /// A port below 1024 without the right to it.
    #[error("{address} needs the right to bind ports below {first_free} (CAP_NET_BIND_SERVICE)")]
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

/// A socket bound to a stable address, member of its group from `listen()` on.
///
/// # Errors
/// [`ListenError`].
pub fn tcp_slot(address: SocketAddr) -> Result<OwnedFd, ListenError> {
    let made = || -> io::Result<OwnedFd> {
        let fd = stream_socket(address)?;
        sockopt::set_socket_reuseaddr(&fd, true)?;
        sockopt::set_socket_reuseport(&fd, true)?;
        // Accepted connections inherit it; a runtime that takes a listener as it is (uvicorn --fd)
        // otherwise answers keep-alive requests in 43 ms instead of 0.1 ms.
        sockopt::set_tcp_nodelay(&fd, true)?;
        bind(&fd, &address)?;
        Ok(fd)
    };
    made().map_err(|error| explain(address, error))
}

/// Fails when anybody else listens on the address, also one that would silently share the port
/// with us (`SO_REUSEPORT` of the same user).
///
/// # Errors
/// [`ListenError`].
pub fn probe_free(address: SocketAddr) -> Result<(), ListenError> {
    let tried = || -> io::Result<()> {
        let fd = stream_socket(address)?;
        sockopt::set_socket_reuseaddr(&fd, true)?;
        bind(&fd, &address)?;
        // With SO_REUSEADDR only listen() finds another listener.
        Ok(sys_listen(&fd, 1)?)
    };
    tried().map_err(|error| explain(address, error))
}

fn stream_socket(address: SocketAddr) -> io::Result<OwnedFd> {
    let (family, v6) = match address.ip() {
        IpAddr::V4(_) => (AddressFamily::INET, None),
        IpAddr::V6(ip) => (AddressFamily::INET6, Some(!ip.is_unspecified())),
    };
    let fd = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
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

fn first_free_port() -> u16 {
    let path = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024)
}

fn holder_text(address: SocketAddr) -> String {
    let inodes: BTreeSet<u64> = rows()
        .into_iter()
        .filter(|row| row.state == Row::LISTEN && row.local.port() == address.port())
        .map(|row| row.inode)
        .collect();
    let holder = proc::all()
        .into_iter()
        .find(|pid| proc::socket_inodes(*pid).intersection(&inodes).next().is_some());
    match holder {
        Some(pid) => format!("{} (pid {pid})", proc::name(pid).unwrap_or_default()),
        None => "a process that cannot be seen from here".to_owned(),
    }
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
    let is_listening = info[0] == Row::LISTEN;
    let (n_queued, backlog) = if is_listening { (word(24), word(28)) } else { (0, 0) };
    Ok(SlotState { is_listening, n_queued, backlog })
}

/// Whether `accept(2)` waits: the flag belongs to the open socket, and so to the program as well.
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

/// Takes a connection out of a slot's queue.
///
/// # Errors
/// `accept(2)`'s.
pub fn accept(slot: impl AsFd) -> io::Result<std::net::TcpStream> {
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
    let fd = stream_socket(target)?;
    set_nonblocking(&fd)?;
    bind(&fd, &SocketAddr::new(target.ip(), 0))?;
    let source = address_of(&fd)?;
    Ok((fd, source))
}

/// Remote ends of handshakes that are half open on a port (`SYN_RECV` in `/proc/net/tcp`).
#[must_use]
pub fn half_open(port: u16) -> BTreeSet<SocketAddr> {
    rows()
        .into_iter()
        .filter(|row| row.state == Row::SYN_RECV && row.local.port() == port)
        .map(|row| row.remote)
        .collect()
}

/// Whether a program has taken this connection out of an accept queue: from then on the server's
/// side has an inode.
#[must_use]
pub fn is_accepted(client: SocketAddr, port: u16) -> bool {
    let same = |remote: SocketAddr| {
        remote.port() == client.port() && remote.ip().to_canonical() == client.ip().to_canonical()
    };
    rows().iter().any(|row| row.local.port() == port && same(row.remote) && row.inode != 0)
}

/// Addresses on which any of these sockets listens.
#[must_use]
pub fn listening(inodes: &BTreeSet<u64>) -> Vec<SocketAddr> {
    let rows = rows().into_iter();
    rows.filter(|row| row.state == Row::LISTEN && inodes.contains(&row.inode))
        .map(|row| row.local)
        .collect()
}

/// The inode of a socket, as `/proc/PID/fd` names it.
///
/// # Errors
/// `fstat(2)`'s.
pub fn inode(fd: impl AsFd) -> io::Result<u64> {
    Ok(rustix::fs::fstat(fd)?.st_ino)
}

/// A row of `/proc/net/tcp` or `/proc/net/tcp6`.
struct Row {
    local: SocketAddr,
    remote: SocketAddr,
    state: u8,
    inode: u64,
}

impl Row {
    const SYN_RECV: u8 = 3;
    const LISTEN: u8 = 10;
}

fn rows() -> Vec<Row> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let text = [read("/proc/net/tcp"), read("/proc/net/tcp6")];
    text.iter().flat_map(|text| text.lines().skip(1).filter_map(row)).collect()
}

fn row(line: &str) -> Option<Row> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let local = hex_address(fields.next()?)?;
    let remote = hex_address(fields.next()?)?;
    let state = u8::from_str_radix(fields.next()?, 16).ok()?;
    let inode = fields.nth(5)?.parse().ok()?;
    Some(Row { local, remote, state, inode })
}

/// `0100007F:1F90` is 127.0.0.1:8080: words in the machine's own byte order.
fn hex_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words: Option<Vec<u32>> = (0..ip.len() / 8)
        .map(|n| u32::from_str_radix(ip.get(n * 8..n * 8 + 8)?, 16).ok())
        .collect();
    let bytes: Vec<u8> = words?.into_iter().flat_map(u32::to_ne_bytes).collect();
    let ip = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_proc_net_tcp_is_read() {
        let line = "   0: 0100007F:1F90 0200007F:C350 03 00000000:00000000 00:00000000 00000000     0        0 4242 1 0 100 0 0 10 0";
        let row = row(line).unwrap();
        assert_eq!(row.local, "127.0.0.1:8080".parse().unwrap());
        assert_eq!(row.remote, "127.0.0.2:50000".parse().unwrap());
        assert_eq!((row.state, row.inode), (Row::SYN_RECV, 4242));
    }

    #[test]
    fn a_stranger_on_the_port_is_named_also_one_that_would_share_it() {
        let plain = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = plain.local_addr().unwrap();
        assert!(matches!(tcp_slot(address), Err(ListenError::InUse { .. })));
        let text = probe_free(address).unwrap_err().to_string();
        assert!(text.contains(&format!("(pid {})", std::process::id())), "{text}");
        drop(plain);
        let sharing = tcp_slot(address).unwrap();
        listen(&sharing, 10).unwrap();
        assert!(tcp_slot(address).is_ok(), "the kernel lets a second one in");
        assert!(matches!(probe_free(address), Err(ListenError::InUse { .. })));
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
