//! Ports that programs on trial have bound by themselves.
//!
//! The live release listens at the same port, and the kernel would share its clients with the trial
//! (`SO_REUSEPORT`), or refuse the trial's `bind()`. So it gets a private port of the loopback
//! interface, and its own connections to the port that it asked for are led there.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::os::diag;
use crate::os::intercept::Own;
use crate::os::private_port;

/// A program that binds without end fills nobody's memory.
const N_MAX: usize = 4096;

/// Private ports by the addresses that were asked for.
#[derive(Debug, Default)]
pub struct OwnPorts(Vec<Private>);

#[derive(Debug)]
struct Private {
    trial: u64,
    is_stream: bool,
    asked: SocketAddr,
    at: SocketAddr,
}

impl OwnPorts {
    /// Binds a program's socket to a private port: always to the same one for the same address, so
    /// that programs share it, or are told that it is in use, as they would be live.
    ///
    /// # Errors
    /// `bind(2)`'s, for the program.
    pub fn bind(&mut self, trial: u64, own: &Own, asked: SocketAddr) -> io::Result<()> {
        let asked = SocketAddr::new(asked.ip().to_canonical(), asked.port());
        let same = |known: &&Private| {
            (known.trial, known.is_stream, known.asked) == (trial, own.is_stream, asked)
        };
        let before = self.0.iter().find(same).map(|known| known.at);
        if before.is_none() && self.0.len() >= N_MAX {
            return Err(io::Error::from_raw_os_error(libc::EADDRINUSE));
        }
        let at = private_port::bind(&own.socket, own.is_stream, asked.ip(), before)?;
        if before.is_none() {
            self.0.push(Private { trial, is_stream: own.is_stream, asked, at });
        }
        Ok(())
    }

    /// Whether anything was bound with this port.
    pub fn has(&self, trial: u64, port: u16) -> bool {
        self.0.iter().any(|known| known.trial == trial && known.asked.port() == port)
    }

    /// Where a connection to this address leads that would reach the trial if it were live.
    pub fn find(&self, trial: u64, is_stream: bool, to: SocketAddr) -> Option<SocketAddr> {
        let to = SocketAddr::new(meant(to.ip()), to.port());
        let known = self.0.iter().filter(|known| {
            (known.trial, known.is_stream, known.asked.port()) == (trial, is_stream, to.port())
        });
        let reached = known.filter_map(|known| Some((rank(known, to.ip())?, known.at)));
        let (_, at) = reached.min_by_key(|(rank, _)| *rank)?;
        let ip = match (at.ip().is_unspecified(), to.ip()) {
            (false, _) => at.ip(),
            (true, IpAddr::V4(_)) => Ipv4Addr::LOCALHOST.into(),
            (true, IpAddr::V6(_)) => Ipv6Addr::LOCALHOST.into(),
        };
        Some(SocketAddr::new(ip, at.port()))
    }

    /// Forgets trials that are over.
    pub fn keep(&mut self, goes_on: impl Fn(u64) -> bool) {
        self.0.retain(|known| goes_on(known.trial));
    }
}

/// The unspecified address connects to this host.
fn meant(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

/// How well a listener fits, best first. One of all addresses is reached by those of this host, as
/// far as is known here: by the loopback interface's.
fn rank(known: &Private, to: IpAddr) -> Option<u8> {
    let asked = known.asked.ip();
    match () {
        () if asked == to => Some(0),
        () if !asked.is_unspecified() || !to.is_loopback() => None,
        () if asked.is_ipv4() == to.is_ipv4() => Some(1),
        // A listener of both families.
        () if asked.is_ipv6() && (known.at.is_ipv4() || known.at.ip().is_unspecified()) => Some(2),
        () => None,
    }
}

/// Whether a program listens there.
pub fn is_listened_at(at: SocketAddr) -> bool {
    let states = [diag::LISTEN];
    let wanted = diag::Wanted { states: &states, local_port: Some(at.port()), remote_port: None };
    !diag::rows(wanted).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(known: &[(&str, &str)], to: &str, expected: Option<&str>) {
        let private = |(asked, at): &(&str, &str)| Private {
            trial: 1,
            is_stream: true,
            asked: asked.parse().unwrap(),
            at: at.parse().unwrap(),
        };
        let ports = OwnPorts(known.iter().map(private).collect());
        let to = to.parse().unwrap();
        assert_eq!(ports.find(1, true, to), expected.map(|at| at.parse().unwrap()), "{to}");
        assert_eq!((ports.find(2, true, to), ports.find(1, false, to)), (None, None));
    }

    #[test]
    fn a_port_is_found_by_the_addresses_that_would_reach_it() {
        let one = [("127.0.0.1:80", "127.0.0.1:1000")];
        check(&one, "127.0.0.1:80", Some("127.0.0.1:1000"));
        check(&one, "0.0.0.0:80", Some("127.0.0.1:1000"));
        check(&one, "[::ffff:127.0.0.1]:80", Some("127.0.0.1:1000"));
        check(&one, "127.0.0.2:80", None);
        check(&one, "[::1]:80", None);
        check(&one, "127.0.0.1:81", None);
        let all = [("0.0.0.0:80", "127.0.0.1:1000"), ("10.0.0.5:80", "127.0.0.1:1001")];
        check(&all, "127.0.0.9:80", Some("127.0.0.1:1000"));
        check(&all, "10.0.0.5:80", Some("127.0.0.1:1001"));
        check(&all, "10.0.0.6:80", None);
        let both = [("[::]:80", "127.0.0.1:1000")];
        check(&both, "127.0.0.1:80", Some("127.0.0.1:1000"));
        check(&both, "[::1]:80", Some("127.0.0.1:1000"));
        let six = [("[::]:80", "[::1]:1000")];
        check(&six, "127.0.0.1:80", None);
        check(&six, "[::]:80", Some("[::1]:1000"));
        // A datagram socket of all addresses.
        check(&[("[::]:80", "[::]:1000")], "127.0.0.1:80", Some("127.0.0.1:1000"));
    }
}
