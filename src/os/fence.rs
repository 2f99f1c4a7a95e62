//! A fence: what a program may reach over sockets.
//!
//! It keeps a program that is only tried out from what is live. It is no prison: the kernel carries
//! an allowed call out after it was looked at, and a program that changes the address meanwhile, from
//! another thread, gets what it wrote last.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::path::{Component, Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, sockopt};
use serde::{Deserialize, Serialize};

/// A loopback connection is there at once; only a machine out of breath takes this long.
const CONNECT_MS_MAX: i64 = 200;

/// What a program may reach.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Fence {
    /// The first one that fits counts.
    pub doors: Vec<Door>,
    /// What comes of an address that no door leads to.
    pub otherwise: Otherwise,
    /// Which trial it belongs to: its programs share the ports that they bind.
    #[serde(default)]
    pub trial: u64,
    /// Ports that the program was given. Any other that it binds becomes a private one.
    #[serde(default)]
    pub given: Vec<u16>,
    /// Ports of this host at which nobody but the live release listens. If the program ran alone, nobody
    /// would be there.
    #[serde(default)]
    pub live: Vec<u16>,
    /// The same for datagrams.
    #[serde(default)]
    pub live_datagrams: Vec<u16>,
    /// Where the unix sockets of the live release are: the same.
    #[serde(default)]
    pub live_paths: BTreeSet<PathBuf>,
    /// Where connections within this host lead that no door is for, when all are allowed.
    #[serde(default)]
    pub here: Option<Here>,
}

/// Connections within this host, whoever listens there by the time they are made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Here {
    /// Addresses of this host beside those of the loopback interface.
    pub ips: Vec<IpAddr>,
    /// Where those to an internet address lead.
    pub inet: Via,
    /// Where those to a path lead.
    pub unix: Via,
    /// What the file name of such a path begins with.
    pub named: String,
}

/// An address that may be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Door {
    /// The address.
    pub to: To,
    /// Where a connection to it leads instead.
    #[serde(default)]
    pub via: Option<Via>,
}

/// Addresses that a door is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum To {
    /// This one.
    Inet(SocketAddr),
    /// Every address of the loopback interface, with this port.
    Loopback(u16),
    /// Every address, with this port.
    Port(u16),
    /// A unix socket at this path; an abstract one begins with `@`.
    Unix(PathBuf),
    /// Every unix socket below this directory.
    UnixBelow(PathBuf),
    /// Every unix socket with this file name.
    UnixNamed(String),
}

/// A listener of ours that takes a connection over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// On the loopback interface.
    Inet(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
    /// One of these, which is told first where the connection was to go ([`ASKED_END`]), behind a secret:
    /// it connects to wherever it is told.
    Asked(Box<Via>, String),
}

/// Ends what a listener is told.
pub const ASKED_END: u8 = 0;

/// What comes of an address that no door leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Otherwise {
    /// `EACCES`.
    #[default]
    Refuse,
    /// It is reached.
    Allow,
}

/// Whom a program reaches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// An internet address.
    Inet(SocketAddr),
    /// A path, made absolute; an abstract name begins with `@`.
    Unix(PathBuf),
    /// An address of another family.
    Family(i32),
    /// An address that could not be read out of the program's memory.
    Unreadable,
}

/// As it is written in a configuration: `10.0.0.5:6379`, `/run/redis.sock`.
impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => plain(*address).fmt(f),
            Self::Unix(path) => path.display().fmt(f),
            Self::Family(family) => write!(f, "an address of family {family}"),
            Self::Unreadable => f.write_str("an address that cannot be read"),
        }
    }
}

/// What a fence does with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage<'a> {
    /// It goes on.
    Open,
    /// It is connected to this listener of ours.
    Via(&'a Via),
    /// It fails.
    Shut,
}

impl Fence {
    /// What comes of reaching for this destination.
    #[must_use]
    pub fn passage(&self, to: &Destination) -> Passage<'_> {
        match (self.doors.iter().find(|door| door.to.fits(to)), self.otherwise) {
            (Some(Door { via: Some(via), .. }), _) => Passage::Via(via),
            (Some(Door { via: None, .. }), _) => Passage::Open,
            (None, Otherwise::Allow) if !self.is_of_live(to) => {
                let via = self.here.as_ref().and_then(|here| here.via(to));
                via.map_or(Passage::Open, Passage::Via)
            }
            (None, _) => Passage::Shut,
        }
    }

    /// Whether nobody but the live release is there, for streams or for datagrams.
    #[must_use]
    pub fn is_live(&self, to: SocketAddr, is_stream: bool) -> bool {
        let ports = if is_stream { &self.live } else { &self.live_datagrams };
        is_here(to) && ports.contains(&to.port())
    }

    /// Whether an address is one of this host beside the loopback interface, as far as it is known.
    #[must_use]
    pub fn is_own_ip(&self, at: SocketAddr) -> bool {
        self.here.as_ref().is_some_and(|here| here.ips.contains(&plain(at).ip()))
    }

    fn is_of_live(&self, to: &Destination) -> bool {
        match to {
            Destination::Inet(to) => self.is_live(*to, true) || self.is_live(*to, false),
            Destination::Unix(path) => self.live_paths.contains(path),
            Destination::Family(_) | Destination::Unreadable => false,
        }
    }
}

impl Here {
    fn via(&self, to: &Destination) -> Option<&Via> {
        match to {
            Destination::Inet(at) => {
                (is_here(*at) || self.ips.contains(&plain(*at).ip())).then_some(&self.inet)
            }
            Destination::Unix(path) if path.is_absolute() => {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                name.starts_with(&self.named).then_some(&self.unix)
            }
            _ => None,
        }
    }
}

impl To {
    fn fits(&self, destination: &Destination) -> bool {
        match (self, destination) {
            (Self::Inet(ours), Destination::Inet(theirs)) => plain(*ours) == plain(*theirs),
            (Self::Loopback(port), Destination::Inet(theirs)) => {
                let theirs = plain(*theirs);
                theirs.port() == *port && theirs.ip().is_loopback()
            }
            (Self::Port(port), Destination::Inet(theirs)) => theirs.port() == *port,
            (Self::Unix(ours), Destination::Unix(theirs)) => ours == theirs,
            (Self::UnixBelow(dir), Destination::Unix(theirs)) => {
                theirs.starts_with(dir) && !climbs(theirs)
            }
            (Self::UnixNamed(name), Destination::Unix(theirs)) => {
                theirs.file_name().is_some_and(|theirs| theirs == name.as_str())
            }
            _ => false,
        }
    }
}

/// Whether an address is one of the loopback interface, or the unspecified one, which connects to it.
#[must_use]
pub fn is_here(address: SocketAddr) -> bool {
    plain(address).ip().is_loopback()
}

fn climbs(path: &Path) -> bool {
    path.components().any(|part| part == Component::ParentDir)
}

/// One form for addresses that are the same: IPv4 within IPv6, scopes, and the unspecified address,
/// which connects to this host.
fn plain(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip().to_canonical() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Connects a program's socket to a listener of ours, without waiting for anybody. `to` is where it was
/// to go.
///
/// # Errors
/// `connect(2)`'s, for the program: `EINPROGRESS` only when its socket does not block.
pub fn connect(socket: impl AsFd, via: &Via, to: &Destination) -> io::Result<()> {
    let socket = socket.as_fd();
    let flags = rustix::fs::fcntl_getfl(socket)?;
    let blocks = !flags.contains(rustix::fs::OFlags::NONBLOCK);
    // The flag is the program's own; it waits in its call meanwhile.
    rustix::io::ioctl_fionbio(socket, true)?;
    let secret = if let Via::Asked(_, secret) = via { Some(secret) } else { None };
    let mut connected = match begin(socket, via) {
        Err(Errno::INPROGRESS) if blocks || secret.is_some() => finish(socket),
        connected => connected,
    };
    if let (Some(secret), Ok(())) = (secret, connected) {
        let mut told = format!("{secret}{to}").into_bytes();
        told.push(ASKED_END);
        connected = rustix::net::send(socket, &told, SendFlags::NOSIGNAL).map(drop);
    }
    rustix::io::ioctl_fionbio(socket, !blocks)?;
    Ok(connected?)
}

fn begin(socket: impl AsFd, via: &Via) -> Result<(), Errno> {
    match via {
        Via::Asked(via, _) => begin(socket, via),
        Via::Unix(path) => rustix::net::connect(socket, &SocketAddrUnix::new(path)?),
        Via::Inet(address) => {
            let is_v6 = sockopt::socket_domain(&socket)? == AddressFamily::INET6;
            match address {
                SocketAddr::V4(v4) if is_v6 => {
                    // Where it is bound already it stays as it is, and the connection fails.
                    let _same = sockopt::set_ipv6_v6only(&socket, false);
                    let ip = v4.ip().to_ipv6_mapped();
                    rustix::net::connect(socket, &SocketAddr::new(ip.into(), v4.port()))
                }
                address => rustix::net::connect(socket, address),
            }
        }
    }
}

fn finish(socket: impl AsFd) -> Result<(), Errno> {
    let mut fds = [PollFd::new(&socket, PollFlags::OUT)];
    let limit = Timespec { tv_sec: 0, tv_nsec: CONNECT_MS_MAX * 1_000_000 };
    match poll(&mut fds, Some(&limit))? {
        0 => Err(Errno::TIMEDOUT),
        _ => sockopt::socket_error(&socket)?,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(text: &str) -> Door {
        let (to, via) = text.split_once(" via ").map_or((text, None), |(to, via)| (to, Some(via)));
        let to = match to.split_once(' ').unwrap() {
            ("inet", address) => To::Inet(address.parse().unwrap()),
            ("loopback", port) => To::Loopback(port.parse().unwrap()),
            ("port", port) => To::Port(port.parse().unwrap()),
            ("unix", path) => To::Unix(path.into()),
            ("below", path) => To::UnixBelow(path.into()),
            (_, name) => To::UnixNamed(name.to_owned()),
        };
        Door { to, via: via.map(|via| Via::Inet(via.parse().unwrap())) }
    }

    fn check(fence: &Fence, to: &str, expected: &str) {
        let destination = match to.parse() {
            Ok(address) => Destination::Inet(address),
            Err(_) => Destination::Unix(to.into()),
        };
        let passage = match fence.passage(&destination) {
            Passage::Open => "open".to_owned(),
            Passage::Shut => "shut".to_owned(),
            Passage::Via(Via::Inet(address)) => address.to_string(),
            Passage::Via(Via::Unix(path)) => path.display().to_string(),
            Passage::Via(Via::Asked(..)) => "asked".to_owned(),
        };
        assert_eq!(passage, expected, "{to}");
    }

    #[test]
    fn only_doors_lead_out() {
        let doors = [
            "inet 10.0.0.5:5432 via 127.0.0.1:1",
            "loopback 5432 via 127.0.0.1:2",
            "named .s.PGSQL.5432 via 127.0.0.1:3",
            "inet 10.0.0.1:53",
            "unix /dev/log",
            "unix @bus",
            "below /private/tmp",
        ];
        let doors: Vec<Door> = doors.into_iter().map(door).collect();
        let mut fence = Fence { doors, ..Fence::default() };
        for (to, expected) in [
            ("10.0.0.5:5432", "127.0.0.1:1"),
            ("[::ffff:10.0.0.5]:5432", "127.0.0.1:1"),
            ("10.0.0.5:5433", "shut"),
            ("127.0.0.1:5432", "127.0.0.1:2"),
            ("127.9.9.9:5432", "127.0.0.1:2"),
            ("[::1]:5432", "127.0.0.1:2"),
            // Both connect to this host.
            ("0.0.0.0:5432", "127.0.0.1:2"),
            ("[::]:5432", "127.0.0.1:2"),
            ("[::ffff:127.0.0.1]:5432", "127.0.0.1:2"),
            ("/run/postgresql/.s.PGSQL.5432", "127.0.0.1:3"),
            ("/private/tmp/.s.PGSQL.5432", "127.0.0.1:3"),
            ("/private/tmp/a/b", "open"),
            ("/private/tmp/../../run/x", "shut"),
            ("/private/tmpx", "shut"),
            ("10.0.0.1:53", "open"),
            ("/dev/log", "open"),
            ("@bus", "open"),
            ("@other", "shut"),
            ("/run/redis.sock", "shut"),
            ("127.0.0.1:6379", "shut"),
        ] {
            check(&fence, to, expected);
        }
        assert_eq!(fence.passage(&Destination::Unreadable), Passage::Shut);
        assert_eq!(fence.passage(&Destination::Family(40)), Passage::Shut);
        fence.otherwise = Otherwise::Allow;
        fence.doors.push(door("port 5432 via 127.0.0.1:4"));
        check(&fence, "127.0.0.1:6379", "open");
        check(&fence, "127.0.0.1:5432", "127.0.0.1:2");
        check(&fence, "192.168.0.9:5432", "127.0.0.1:4");
        // Not the live release itself, where no door leads there.
        (fence.live, fence.live_datagrams) = (vec![5432, 80], vec![81]);
        fence.live_paths = ["/run/web.sock", "@web"].map(PathBuf::from).into();
        for (to, expected) in [("/run/web.sock", "shut"), ("@web", "shut"), ("@other", "open")] {
            check(&fence, to, expected);
        }
        for port in [80, 81] {
            check(&fence, &format!("127.0.0.1:{port}"), "shut");
            check(&fence, &format!("0.0.0.0:{port}"), "shut");
            check(&fence, &format!("10.0.0.5:{port}"), "open");
        }
        check(&fence, "127.0.0.1:5432", "127.0.0.1:2");
        let inet = Via::Inet("127.0.0.1:5".parse().unwrap());
        let asked = Via::Asked(Box::new(inet), String::new());
        let (ips, named) = (vec!["10.0.0.7".parse().unwrap()], ".s.PGSQL.".to_owned());
        fence.here = Some(Here { ips, inet: asked.clone(), unix: asked, named });
        for to in ["127.0.0.1:6379", "[::1]:6379", "10.0.0.7:80", "/run/x/.s.PGSQL.6432"] {
            check(&fence, to, "asked");
        }
        for to in ["10.0.0.8:80", "/run/redis.sock", "@.s.PGSQL.6432", "/dev/log", "10.0.0.1:53"] {
            check(&fence, to, "open");
        }
        check(&fence, "127.0.0.1:80", "shut");
        check(&fence, "192.168.0.9:5432", "127.0.0.1:4");
    }

    #[test]
    fn a_socket_of_either_family_is_led_to_our_listener() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let via = Via::Inet(listener.local_addr().unwrap());
        for family in [AddressFamily::INET, AddressFamily::INET6] {
            for blocks in [true, false] {
                let kind = rustix::net::SocketType::STREAM;
                let socket = rustix::net::socket(family, kind, None).unwrap();
                if family == AddressFamily::INET6 {
                    sockopt::set_ipv6_v6only(&socket, true).unwrap();
                }
                rustix::io::ioctl_fionbio(&socket, !blocks).unwrap();
                match connect(&socket, &via, &Destination::Unreadable) {
                    Ok(()) => {}
                    Err(error) if !blocks => {
                        assert_eq!(error.raw_os_error(), Some(libc::EINPROGRESS));
                    }
                    Err(error) => panic!("{error}"),
                }
                listener.accept().unwrap();
                let asked = rustix::net::socket(family, kind, None).unwrap();
                rustix::io::ioctl_fionbio(&asked, !blocks).unwrap();
                let to = Destination::Inet("[::ffff:10.0.0.5]:80".parse().unwrap());
                let secret = "secret ".to_owned();
                connect(&asked, &Via::Asked(Box::new(via.clone()), secret), &to).unwrap();
                let mut told = [0; 19];
                io::Read::read_exact(&mut listener.accept().unwrap().0, &mut told).unwrap();
                assert_eq!(&told, b"secret 10.0.0.5:80\0");
                let flags = rustix::fs::fcntl_getfl(&socket).unwrap();
                assert_eq!(flags.contains(rustix::fs::OFlags::NONBLOCK), !blocks);
            }
        }
    }
}
