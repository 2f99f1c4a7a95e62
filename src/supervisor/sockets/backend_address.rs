//! Where an instance listens that is given an address: a port, or a socket's path, of its own.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;

use crate::config::model::Settings;

/// The first port that is given out. Below it are the well-known ones.
const FIRST: u16 = 20_000;
/// Where the kernel begins to take ports for outgoing connections, when that cannot be read.
const EPHEMERAL: u16 = 32_768;
/// What stands for the port in a program's arguments and environment.
const PORT: &str = "{port}";
/// What stands for the socket's path.
const SOCKET: &str = "{socket}";

/// A place of an instance's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BackendAddress {
    /// `127.0.0.1` and this port.
    Port(u16),
    /// A unix socket's path.
    Socket(PathBuf),
}

impl BackendAddress {
    /// The address of a port's place.
    #[must_use]
    pub(crate) fn address(port: u16) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)
    }

    /// As an address to pass connections on to.
    #[must_use]
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Port(port) => format!("tcp://{}", Self::address(*port)),
            Self::Socket(path) => format!("unix:{}", path.display()),
        }
    }

    /// A text of the settings with this place in it.
    #[must_use]
    pub(crate) fn fill(&self, text: &str) -> String {
        match self {
            Self::Port(port) => text.replace(PORT, &port.to_string()),
            Self::Socket(path) => text.replace(SOCKET, &path.to_string_lossy()),
        }
    }

    /// The variable that carries it.
    #[must_use]
    pub(crate) fn variable(&self) -> (String, String) {
        match self {
            Self::Port(port) => ("PORT".to_owned(), port.to_string()),
            Self::Socket(path) => ("SOCKET".to_owned(), path.to_string_lossy().into_owned()),
        }
    }
}

/// Whether the settings ask for a socket's path instead of a port.
#[must_use]
pub(crate) fn wants_socket(settings: &Settings) -> bool {
    settings.command.iter().chain(settings.env.values()).any(|text| text.contains(SOCKET))
}

/// A port that is not in use: not by the kernel, not by a listener, not by another instance. Ports
/// go round, so that one that has just become free is not the next, and begin somewhere else for
/// every supervisor, so that two of them side by side do not reach for the same one at the same
/// moment.
///
/// # Errors
/// When there is none left.
pub(crate) fn free_port(taken: &BTreeSet<u16>, next_port: &Cell<u16>) -> std::io::Result<u16> {
    let end = ephemeral_start();
    let begin = match next_port.get() {
        0 => FIRST + u16::try_from(std::process::id() * 61 % u32::from(end - FIRST)).unwrap_or(0),
        next => next.clamp(FIRST, end),
    };
    let all = (FIRST..end).cycle().skip(usize::from(begin - FIRST));
    let free = |port: &u16| {
        !taken.contains(port) && TcpListener::bind(BackendAddress::address(*port)).is_ok()
    };
    let found = all.take(usize::from(end - FIRST)).find(free);
    let port = found.ok_or(std::io::ErrorKind::AddrNotAvailable)?;
    next_port.set(port + 1);
    Ok(port)
}

fn ephemeral_start() -> u16 {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let first = text.ok().and_then(|text| text.split_ascii_whitespace().next()?.parse().ok());
    first.filter(|first| *first > FIRST + 1000).unwrap_or(EPHEMERAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_filled_in_where_it_is_asked_for() {
        let port = BackendAddress::Port(20_001);
        assert_eq!(port.fill("--listen=127.0.0.1:{port}"), "--listen=127.0.0.1:20001");
        assert_eq!(port.fill("{socket}"), "{socket}");
        assert_eq!(port.text(), "tcp://127.0.0.1:20001");
        let socket = BackendAddress::Socket("/run/a.sock".into());
        assert_eq!(socket.fill("unix:{socket}"), "unix:/run/a.sock");
        assert_eq!(socket.variable(), ("SOCKET".to_owned(), "/run/a.sock".to_owned()));
    }
}
