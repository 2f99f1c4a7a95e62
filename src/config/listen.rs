//! Addresses as they are written in `listen`, and which of them get in each other's way.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use super::model::Listen;

/// Why a text is not an address to listen on. The second half of a message is the fix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadListen {
    /// A unix socket's path that is none.
    #[error("{0:?} is not the path of a unix socket; write unix:/run/halley/web.sock ({1})")]
    Path(String, &'static str),
    /// Another or no scheme.
    #[error(
        "{0:?} is not an address; write tcp://0.0.0.0:8080, tcp://[::]:8080, udp://0.0.0.0:53 or \
         unix:/run/halley/web.sock"
    )]
    Scheme(String),
    /// Port 0.
    #[error("port 0 is not a stable address; name a port from 1 to 65535")]
    PortZero,
    /// A host name instead of an IP address.
    #[error("{0:?} is a name; write its IP address (the address of a name may change)")]
    Name(String),
}

/// Longest path of a unix socket (`unix(7)`: 108 bytes with the end), less what a temporary name
/// beside it takes.
const PATH_BYTES_MAX: usize = 90;

/// Reads `tcp://ADDRESS:PORT`, `udp://ADDRESS:PORT` or `unix:/PATH`.
///
/// # Errors
/// [`BadListen`] with what to write instead.
pub fn parse(text: &str) -> Result<Listen, BadListen> {
    let bad = || BadListen::Scheme(text.to_owned());
    let (scheme, rest) = text.split_once(':').ok_or_else(bad)?;
    if scheme == "unix" {
        return path(rest).map(Listen::Unix);
    }
    let listen = match scheme {
        "tcp" => Listen::Tcp,
        "udp" => Listen::Udp,
        _ => return Err(bad()),
    };
    let place = rest.strip_prefix("//").ok_or_else(bad)?;
    let Ok(address) = place.parse::<SocketAddr>() else {
        let name = place.rsplit_once(':').filter(|(name, port)| is_name(name, port));
        return Err(name.map_or_else(bad, |(name, _)| BadListen::Name(name.to_owned())));
    };
    if address.port() == 0 { Err(BadListen::PortZero) } else { Ok(listen(address)) }
}

fn path(rest: &str) -> Result<PathBuf, BadListen> {
    let text = rest.strip_prefix("//").unwrap_or(rest);
    let bad = |why| Err(BadListen::Path(rest.to_owned(), why));
    let path = Path::new(text);
    if !path.is_absolute() {
        bad("it must begin with a /")
    } else if text.ends_with('/') || path.file_name().is_none() {
        bad("it must name a file")
    } else if path.components().any(|part| part == std::path::Component::ParentDir) {
        bad("it must not have .. in it")
    } else if text.len() > PATH_BYTES_MAX {
        bad("90 bytes at most")
    } else {
        Ok(path.to_owned())
    }
}

/// Whether a connection to some address could be meant for both: the same port, and one of them
/// is a wildcard that takes in the other. `[::]` is dual stack, so it takes in IPv4 too.
#[must_use]
pub fn overlap(one: &Listen, other: &Listen) -> bool {
    match (one, other) {
        (Listen::Tcp(one), Listen::Tcp(other)) | (Listen::Udp(one), Listen::Udp(other)) => {
            one.port() == other.port()
                && (covers(one.ip(), other.ip()) || covers(other.ip(), one.ip()))
        }
        (Listen::Unix(one), Listen::Unix(other)) => one == other,
        _ => false,
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Udp(address) => write!(f, "udp://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

fn covers(wide: IpAddr, narrow: IpAddr) -> bool {
    let narrow = narrow.to_canonical();
    match wide.to_canonical() {
        IpAddr::V6(wide) if wide.is_unspecified() => true,
        IpAddr::V4(wide) if wide.is_unspecified() => narrow.is_ipv4(),
        wide => wide == narrow,
    }
}

fn is_name(name: &str, port: &str) -> bool {
    let is_dns = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let has_letter = name.contains(|c: char| c.is_ascii_alphabetic());
    has_letter && name.chars().all(is_dns) && port.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_back_is_what_was_read() {
        for text in [
            "tcp://0.0.0.0:80",
            "tcp://127.0.0.1:8080",
            "tcp://[::]:80",
            "tcp://[::1]:1",
            "udp://0.0.0.0:53",
            "udp://[::]:53",
            "unix:/run/halley/web.sock",
        ] {
            assert_eq!(parse(text).map(|listen| listen.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn each_other_spelling_is_answered_with_what_to_write() {
        for (text, expected) in [
            ("unix:web.sock", BadListen::Path("web.sock".to_owned(), "it must begin with a /")),
            ("unix:/run/", BadListen::Path("/run/".to_owned(), "it must name a file")),
            ("unix:/a/../b", BadListen::Path("/a/../b".to_owned(), "it must not have .. in it")),
            ("udp://0.0.0.0", BadListen::Scheme("udp://0.0.0.0".to_owned())),
            ("8080", BadListen::Scheme("8080".to_owned())),
            ("0.0.0.0:80", BadListen::Scheme("0.0.0.0:80".to_owned())),
            ("http://0.0.0.0:80", BadListen::Scheme("http://0.0.0.0:80".to_owned())),
            ("tcp://0.0.0.0", BadListen::Scheme("tcp://0.0.0.0".to_owned())),
            ("tcp://0.0.0.0:99999", BadListen::Scheme("tcp://0.0.0.0:99999".to_owned())),
            ("tcp://1.2.3:80", BadListen::Scheme("tcp://1.2.3:80".to_owned())),
            ("tcp://localhost:80", BadListen::Name("localhost".to_owned())),
            ("tcp://127.0.0.1:0", BadListen::PortZero),
        ] {
            assert_eq!(parse(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn wildcards_take_in_what_they_cover() {
        for (one, other, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "[::1]:80", false),
            ("[::]:80", "127.0.0.1:80", true),
            ("[::]:80", "0.0.0.0:80", true),
            ("[::]:80", "[::1]:80", true),
            ("[::1]:80", "127.0.0.1:80", false),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80", true),
            ("[::ffff:127.0.0.1]:80", "0.0.0.0:80", true),
        ] {
            let (one, other) =
                (Listen::Tcp(one.parse().unwrap()), Listen::Tcp(other.parse().unwrap()));
            assert_eq!(overlap(&one, &other), expected, "{one} {other}");
            assert_eq!(overlap(&other, &one), expected, "{other} {one}");
        }
    }
}
