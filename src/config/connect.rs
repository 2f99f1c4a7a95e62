//! What a program may connect to when it is tried out on a copy of the data: `rehearse_connect`.

use std::fmt;
use std::path::{Path, PathBuf};

use super::raw::Section;

const KEY: &str = "rehearse_connect";
const HINT: &str = "write [\"127.0.0.1:6379\", \"/run/redis.sock\"], or \"any\"";

/// What it may connect to beside the copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RehearseConnect {
    /// These.
    Listed(Vec<Endpoint>),
    /// Everything but the live database.
    Any,
}

/// A server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A name or an address, and a port. Names are looked up when a rehearsal begins.
    Host(String, u16),
    /// The path of a unix socket; an abstract one begins with `@`.
    Unix(PathBuf),
}

/// As it was written.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Host(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

pub(super) fn read(section: &Section<'_>) -> RehearseConnect {
    if section.is_text(KEY) {
        section.word(KEY, &[("any", ())]);
        return RehearseConnect::Any;
    }
    let mut listed = Vec::new();
    for text in section.texts(KEY).unwrap_or_default() {
        match parse(&text.value) {
            Some(endpoint) => listed.push(endpoint),
            None => {
                let message = format!("{:?} is not HOST:PORT or the path of a socket", text.value);
                section.report().add_with_hint(text.line, &section.path(KEY), message, HINT);
            }
        }
    }
    RehearseConnect::Listed(listed)
}

fn parse(text: &str) -> Option<Endpoint> {
    if text.starts_with(['/', '@']) {
        let is_file = !text.ends_with('/') && text.len() > 1;
        return is_file.then(|| Endpoint::Unix(Path::new(text).to_owned()));
    }
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match inner {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            !host.is_empty() && host.chars().all(plain)
        }
    };
    is_host.then(|| Endpoint::Host(inner.unwrap_or(host).to_owned(), port))
}

#[cfg(test)]
mod tests {
    use toml::de::DeTable;

    use super::*;
    use crate::config::problem::Report;

    fn check(text: &str) -> (RehearseConnect, Vec<String>) {
        let table = DeTable::parse(text).unwrap();
        let report = Report::new(Path::new("t.toml"), text);
        let value = read(&Section::free("", &(0..0), table.get_ref(), &report));
        (value, report.into_problems().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn servers_are_named_as_they_are_reported() {
        for text in ["127.0.0.1:6379", "redis.lan:6379", "[::1]:25", "/run/redis.sock", "@bus"] {
            let (read, problems) = check(&format!("rehearse_connect = [{text:?}]"));
            assert_eq!(problems, [""; 0], "{text}");
            let RehearseConnect::Listed(listed) = read else { panic!("{read:?}") };
            assert_eq!(listed[0].to_string(), text);
        }
        assert_eq!(check("rehearse_connect = \"any\"").0, RehearseConnect::Any);
        assert_eq!(check("").0, RehearseConnect::Listed(Vec::new()));
    }

    #[test]
    fn what_names_no_server_is_refused_on_its_line() {
        for text in ["127.0.0.1", "redis:0", "::1:25", "redis://a:1", "/run/", "run/x", "a:b", ""] {
            let (_, problems) = check(&format!("\nrehearse_connect = [{text:?}]"));
            assert_eq!(problems.len(), 1, "{text}");
            let expected = format!("t.toml:2: rehearse_connect: {text:?} is not HOST:PORT");
            assert!(problems[0].starts_with(&expected), "{problems:?}");
        }
        let (_, problems) = check("rehearse_connect = \"all\"");
        assert!(problems[0].contains("is not one of any"), "{problems:?}");
    }
}
