//! Where connections are forwarded to.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::str::FromStr;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt,
};

/// The address of a backend: `tcp://IP:PORT` or `unix:PATH`.
#[derive(Debug, Clone)]
pub enum Target {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a Unix stream socket.
    Unix(SocketAddrUnix),
}

/// Why a text names no backend.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Neither form.
    #[error("expected tcp://IP:PORT or unix:PATH")]
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
        }
    }
}

impl Target {
    /// A socket on its way to the backend. On loopback it is connected when this returns, although
    /// the kernel says `EINPROGRESS`: it answers the handshake before `connect(2)` has returned
    /// (seen on Linux 6.18).
    ///
    /// # Errors
    /// `socket(2)`'s and `connect(2)`'s.
    pub fn connect(&self) -> Result<OwnedFd, Errno> {
        let family = match self {
            Self::Tcp(SocketAddr::V4(_)) => AddressFamily::INET,
            Self::Tcp(SocketAddr::V6(_)) => AddressFamily::INET6,
            Self::Unix(_) => AddressFamily::UNIX,
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::STREAM, flags, None)?;
        let begun = match self {
            Self::Tcp(address) => {
                sockopt::set_tcp_nodelay(&socket, true)?;
                connect(&socket, address)
            }
            Self::Unix(address) => connect(&socket, address),
        };
        match begun {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
            Err(errno) => Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_written() {
        for text in ["tcp://127.0.0.1:21000", "tcp://[::1]:80", "unix:/run/x.sock"] {
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
