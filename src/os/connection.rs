//! One TCP connection as the kernel knows it, and the mark that holds back what comes on it (`tcp(7)`,
//! `SO_RCVLOWAT` of `socket(7)`).
//!
//! The mark belongs to the socket, not to a descriptor: it can be raised through a duplicate of another
//! process's. While it is up, fewer bytes than it says wake nobody who waits in `poll(2)` or `epoll(7)`;
//! when it goes down, the kernel wakes those who wait (`tcp_set_rcvlowat`, seen on 6.18). A `recv(2)` that
//! waits by itself has read the mark when it was entered and keeps to it: so never on a blocking socket.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, bind, connect,
    getsockname, recv, send, shutdown, socket_with, sockopt,
};

/// How many bytes wake a reader while the mark is up. Odd on purpose: whoever comes later knows whose mark it
/// is. The kernel need not enlarge a receive buffer for it, and no head of a request is longer.
pub const MARK: i32 = 30_011;

/// A call within this host is there at once; where its queue is full, the request is better left where it is.
const CALL_MAX: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// What the kernel counts of a connection, all at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Its state (`include/net/tcp_states.h`).
    pub state: u8,
    /// Bytes that have come, read or not.
    pub received: u64,
    /// Bytes that the program has written, sent or not.
    pub written: u64,
    /// Since when nothing was sent.
    pub sent_ms: u32,
    /// Since when nothing has come.
    pub received_ms: u32,
}

/// Asks for them (`TCP_INFO`; the last of these fields came with Linux 4.19).
///
/// # Errors
/// `getsockopt(2)`'s; when the kernel does not know all of them.
pub fn counts(socket: impl AsFd) -> io::Result<Counts> {
    const LENGTH: usize = 216;
    let mut info = [0_u8; LENGTH];
    let mut length = libc::socklen_t::try_from(LENGTH).unwrap_or(0);
    // SAFETY: the kernel writes at most `length` bytes, which is what the buffer has.
    let done = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    if usize::try_from(length).unwrap_or(0) < LENGTH {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let word = |at: usize| {
        let bytes = info.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        u32::from_ne_bytes(bytes.unwrap_or_default())
    };
    let long = |at: usize| {
        let bytes = info.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        u64::from_ne_bytes(bytes.unwrap_or_default())
    };
    // tcpi_bytes_sent, tcpi_bytes_retrans, tcpi_notsent_bytes.
    let written = long(200).saturating_sub(long(208)) + u64::from(word(144));
    Ok(Counts {
        state: info[0],
        received: long(128),
        written,
        sent_ms: word(44),
        received_ms: word(52),
    })
}

/// Bytes that have come and that nobody has read.
///
/// # Errors
/// `ioctl(2)`'s.
pub fn n_unread(socket: impl AsFd) -> io::Result<u64> {
    Ok(rustix::io::ioctl_fionread(socket)?)
}

/// The mark as it is.
///
/// # Errors
/// `getsockopt(2)`'s.
pub fn mark(socket: impl AsFd) -> io::Result<i32> {
    let mut mark: i32 = 0;
    let mut length = libc::socklen_t::try_from(size_of::<i32>()).unwrap_or(0);
    // SAFETY: the kernel writes at most `length` bytes, which is what the number has.
    let done = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVLOWAT,
            (&raw mut mark).cast(),
            &raw mut length,
        )
    };
    if done == 0 { Ok(mark) } else { Err(io::Error::last_os_error()) }
}

/// What comes from here on wakes nobody.
///
/// # Errors
/// `setsockopt(2)`'s.
pub fn raise(socket: impl AsFd) -> io::Result<()> {
    set_mark(socket, MARK)
}

/// What came and what comes wakes who waits for it.
///
/// # Errors
/// `setsockopt(2)`'s.
pub fn lower(socket: impl AsFd) -> io::Result<()> {
    set_mark(socket, 1)
}

fn set_mark(socket: impl AsFd, mark: i32) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<i32>()).unwrap_or(0);
    // SAFETY: the kernel reads `length` bytes of a number that lives until it returns.
    let done = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVLOWAT,
            (&raw const mark).cast(),
            length,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether reads of it wait for bytes: the flag belongs to the open file, so a duplicate shows the program's.
#[must_use]
pub fn is_blocking(socket: impl AsFd) -> bool {
    !rustix::fs::fcntl_getfl(socket).is_ok_and(|flags| flags.contains(rustix::fs::OFlags::NONBLOCK))
}

/// Looks at what is unread, as far as there is room, without taking it. Nothing when the peer has ended.
///
/// # Errors
/// `recv(2)`'s.
pub fn peek(socket: impl AsFd, room: &mut [u8]) -> io::Result<usize> {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    Ok(recv(socket, room, flags)?.0)
}

/// Takes what is there, without waiting.
///
/// # Errors
/// `recv(2)`'s.
pub fn take(socket: impl AsFd, room: &mut [u8]) -> io::Result<usize> {
    Ok(recv(socket, room, RecvFlags::DONTWAIT)?.0)
}

/// Gives what there is room for, without waiting.
///
/// # Errors
/// `send(2)`'s.
pub fn give(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(send(socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?)
}

/// Ends both ways.
pub fn end(socket: impl AsFd) {
    // It may have ended already.
    let _ = shutdown(socket, Shutdown::Both);
}

/// The program reads the end: nothing more comes for it.
pub fn end_of_reading(socket: impl AsFd) {
    let _ = shutdown(socket, Shutdown::Read);
}

/// The peer reads the end.
pub fn end_of_writing(socket: impl AsFd) {
    let _ = shutdown(socket, Shutdown::Write);
}

/// The address of this host that the client has called.
///
/// # Errors
/// `getsockname(2)`'s; when it is no internet address.
pub fn called(socket: impl AsFd) -> io::Result<SocketAddr> {
    let address = SocketAddr::try_from(getsockname(socket)?)?;
    match address.ip().to_canonical() {
        // A listener for both kinds.
        ip @ IpAddr::V4(_) => Ok(SocketAddr::new(ip, address.port())),
        // With the interface that it is an address of.
        IpAddr::V6(_) => Ok(address),
    }
}

/// Calls the same address from that very address: who is called sees a caller of this host's by the address
/// that the client had called, and never one from the loopback interface that did not come there.
///
/// # Errors
/// The system's.
pub fn call_from_there(called: SocketAddr) -> io::Result<OwnedFd> {
    let family = if called.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    let mut from = called;
    from.set_port(0);
    bind(&socket, &from)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    match connect(&socket, &called) {
        Ok(()) => return Ok(socket),
        Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    let mut fds = [PollFd::new(&socket, PollFlags::OUT)];
    if poll(&mut fds, Some(&CALL_MAX))? == 0 {
        return Err(io::ErrorKind::TimedOut.into());
    }
    sockopt::socket_error(&socket)??;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    fn is_readable(socket: &TcpStream) -> bool {
        let mut fds = [PollFd::new(socket, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() > 0
    }

    fn wait(is_true: impl Fn() -> bool) {
        let begun = std::time::Instant::now();
        while !is_true() {
            assert!(begun.elapsed().as_secs() < 10, "never");
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_comes_while_the_mark_is_up_wakes_nobody_until_it_goes_down() {
        let (mut client, server) = pair();
        let duplicate = server.try_clone().unwrap();
        raise(&duplicate).unwrap();
        assert_eq!(mark(&server).unwrap(), MARK);
        client.write_all(b"hello").unwrap();
        wait(|| n_unread(&duplicate).unwrap() == 5);
        assert!(!is_readable(&server));
        lower(&duplicate).unwrap();
        assert!(is_readable(&server));
        assert_eq!(mark(&server).unwrap(), 1);
    }

    #[test]
    fn what_was_written_and_what_came_is_counted() {
        let (mut client, mut server) = pair();
        client.write_all(b"hello").unwrap();
        server.read_exact(&mut [0; 5]).unwrap();
        server.write_all(b"hi").unwrap();
        wait(|| counts(&server).unwrap().received == 5);
        let counted = counts(&server).unwrap();
        assert_eq!((counted.state, counted.written), (1, 2));
        assert!(is_blocking(&server));
        server.set_nonblocking(true).unwrap();
        assert!(!is_blocking(&server));
    }

    #[test]
    fn a_call_comes_from_the_address_that_was_called() {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let _client = TcpStream::connect(("127.0.0.7", port)).unwrap();
        let (server, _) = listener.accept().unwrap();
        let at = called(&server).unwrap();
        let _call = call_from_there(at).unwrap();
        assert_eq!(listener.accept().unwrap().1.ip().to_string(), "127.0.0.7");
    }
}
