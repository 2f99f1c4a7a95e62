//! Where connections are forwarded to.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::str::FromStr;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, getpeername, getsockname,
    socket_with, sockopt,
};

/// The address of a backend: `tcp://IP:PORT`, `unix:PATH`, or `called`.
#[derive(Debug, Clone)]
pub enum Target {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a Unix stream socket.
    Unix(SocketAddrUnix),
    /// The address that the client itself has connected to: connections that were left waiting go
    /// where the others go. So a connection does not come from 127.0.0.1, which programs trust,
    /// unless it came from this machine: from far away it comes from the machine's own address.
    Called,
}

/// Why a text names no backend.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// None of the forms.
    #[error("expected tcp://IP:PORT, unix:PATH or called")]
    Form,
    /// An address without a number, or without a port.
    #[error("{address}: not an IP address and a port")]
    Address {
        /// What stands after `tcp://`.
        address: String,
    },
    /// Empty, or longer than 107 bytes.
    #[error("{path}: a path of a Unix socket has 1 to 107 bytes")]
    Path {
        /// What stands after `unix:`.
        path: String,
    },
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        if let Some(address) = text.strip_prefix("tcp://") {
            let bad = |_| TargetError::Address { address: address.to_owned() };
            return address.parse().map(Self::Tcp).map_err(bad);
        }
        if text == "called" {
            return Ok(Self::Called);
        }
        let path = text.strip_prefix("unix:").ok_or(TargetError::Form)?;
        let bad = || TargetError::Path { path: path.to_owned() };
        if path.is_empty() {
            return Err(bad());
        }
        SocketAddrUnix::new(path).map(Self::Unix).map_err(|_| bad())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Unix(address) => {
                let path = address.path_bytes().unwrap_or_default();
                write!(f, "unix:{}", String::from_utf8_lossy(path))
            }
            Self::Called => f.write_str("called"),
        }
    }
}

impl Target {
    /// A socket on its way to the backend of a client. On loopback it is connected when this returns, although
    /// the kernel says `EINPROGRESS`: it answers the handshake before `connect(2)` has returned
    /// (seen on Linux 6.18).
    ///
    /// # Errors
    /// `socket(2)`'s and `connect(2)`'s, and `getsockname(2)`'s of the client.
    pub fn connect(&self, client: impl AsFd) -> Result<OwnedFd, Errno> {
        let (socket, begun) = match self {
            Self::Tcp(address) => tcp(address)?,
            Self::Called => tcp(&called(client)?)?,
            Self::Unix(address) => {
                let socket = socket_of(AddressFamily::UNIX)?;
                let begun = connect(&socket, address);
                (socket, begun)
            }
        };
        match begun {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
            Err(errno) => Err(errno),
        }
    }
}

/// Whether this socket, which was on its way, has arrived: on loopback that is known at once.
pub fn has_arrived(socket: impl AsFd) -> bool {
    getpeername(socket).is_ok_and(|peer| peer.is_some())
}

fn tcp(address: &SocketAddr) -> Result<(OwnedFd, Result<(), Errno>), Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_of(family)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    let begun = connect(&socket, address);
    Ok((socket, begun))
}

/// The address that a client has called. One that called IPv4 is heard on `[::]` in IPv6 clothes.
fn called(client: impl AsFd) -> Result<SocketAddr, Errno> {
    let mut address = SocketAddr::try_from(getsockname(client)?)?;
    address.set_ip(address.ip().to_canonical());
    Ok(address)
}

fn socket_of(family: AddressFamily) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    socket_with(family, SocketType::STREAM, flags, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_written() {
        for text in ["tcp://127.0.0.1:21000", "tcp://[::1]:80", "unix:/run/x.sock", "called"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_backend_is_refused() {
        let long = format!("unix:/{}", "x".repeat(120));
        for text in ["127.0.0.1:80", "tcp://127.0.0.1", "tcp://localhost:80", "unix:", &long] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
