//! A port of the loopback interface that nobody knows.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use rustix::net::{AddressFamily, SendFlags, SocketType, sockopt};

/// Somebody may take a port between its choice and its use.
const N_TRIES: usize = 8;

/// Binds a program's socket to a port that the kernel chooses, or to the one of before. Returns where
/// it is.
///
/// # Errors
/// `bind(2)`'s, for the program.
pub fn bind(
    socket: impl AsFd,
    is_stream: bool,
    asked: IpAddr,
    before: Option<SocketAddr>,
) -> io::Result<SocketAddr> {
    let socket = socket.as_fd();
    let is_v6 = sockopt::socket_domain(socket)? == AddressFamily::INET6;
    if let Some(at) = before {
        rustix::net::bind(socket, &formed(at, is_v6))?;
        return Ok(at);
    }
    let takes_v4 = !is_v6 || !sockopt::ipv6_v6only(socket)?;
    let ip: IpAddr = match asked {
        // It sends from there as well; a listener of datagrams is as little known as its port.
        any if any.is_unspecified() && !is_stream => any,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(any) if any.is_unspecified() && takes_v4 => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    let mut tries = 0;
    loop {
        tries += 1;
        let at = SocketAddr::new(ip, free(ip, is_stream)?);
        match rustix::net::bind(socket, &formed(at, is_v6)) {
            Ok(()) => return Ok(at),
            Err(rustix::io::Errno::ADDRINUSE) if tries < N_TRIES => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Sends a program's datagram there, without waiting for room.
///
/// # Errors
/// `sendto(2)`'s, for the program.
pub fn send(socket: impl AsFd, bytes: &[u8], at: SocketAddr) -> io::Result<usize> {
    let is_v6 = sockopt::socket_domain(&socket)? == AddressFamily::INET6;
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    Ok(rustix::net::sendto(socket, bytes, flags, &formed(at, is_v6))?)
}

/// A port that nobody has. For the program's own socket the kernel might choose one that its user
/// shares with others (`SO_REUSEPORT`).
fn free(ip: IpAddr, is_stream: bool) -> io::Result<u16> {
    let family = if ip.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = if is_stream { SocketType::STREAM } else { SocketType::DGRAM };
    let flags = rustix::net::SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, kind, flags, None)?;
    rustix::net::bind(&socket, &SocketAddr::new(ip, 0))?;
    let at = SocketAddr::try_from(rustix::net::getsockname(&socket)?);
    at.map(|at| at.port()).map_err(|_| io::ErrorKind::AddrNotAvailable.into())
}

/// As a socket of this family names it.
fn formed(at: SocketAddr, is_v6: bool) -> SocketAddr {
    match at.ip() {
        IpAddr::V4(ip) if is_v6 => SocketAddr::new(ip.to_ipv6_mapped().into(), at.port()),
        ip => SocketAddr::new(ip, at.port()),
    }
}
