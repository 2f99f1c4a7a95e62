//! What several kinds of proxies have among their keys.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::super::raw::Section;

/// Longest path of a unix socket: `sun_path` has 108 bytes and ends with a NUL (unix(7)).
const SOCKET_BYTES_MAX: usize = 107;

/// Where an admin API listens: `http://127.0.0.1:2019`, `tcp://127.0.0.1:9999`, `unix:/run/x.sock`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admin {
    /// On a port.
    Tcp(SocketAddr),
    /// On a unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Reports each key that a kind needs and that is not there, with an example of it.
pub(super) fn require(section: &Section<'_>, kind: &str, needed: &[(&str, &str)]) {
    for (key, example) in needed.iter().filter(|(key, _)| !section.has(key)) {
        let hint = format!("write {key} = {example}");
        section.problem_with_hint(key, format!("is missing: {kind} needs it"), hint);
    }
}

/// The place of an admin API; `scheme` is how one on a port is written.
pub(super) fn admin(section: &Section<'_>, scheme: &str) -> Option<Admin> {
    let text = section.text("admin")?.value;
    if let Some(path) = text.strip_prefix("unix:") {
        return socket(section, path).map(Admin::Unix);
    }
    let place = text.strip_prefix(scheme).map(|place| place.strip_suffix('/').unwrap_or(place));
    let address = place.and_then(|place| place.parse::<SocketAddr>().ok());
    let address = address.filter(|address| address.port() != 0);
    if address.is_none() {
        let hint = format!("write {scheme}127.0.0.1:PORT or unix:/PATH (an IP address, no name)");
        section.problem_with_hint("admin", format!("{text:?} is not an admin address"), hint);
    }
    address.map(Admin::Tcp)
}

fn socket(section: &Section<'_>, path: &str) -> Option<PathBuf> {
    if !path.starts_with('/') {
        let message = format!("{path:?} is not an absolute path");
        section.problem_with_hint("admin", message, "write unix:/run/x.sock");
        return None;
    }
    if path.len() > SOCKET_BYTES_MAX {
        let message = format!("{path} has {} bytes; a socket's path has at most 107", path.len());
        section.problem_with_hint("admin", message, "use a shorter path");
        return None;
    }
    Some(PathBuf::from(path))
}

/// A name that goes into a command or a path of the API as it is.
pub(super) fn name(section: &Section<'_>, key: &str) -> Option<String> {
    let text = section.text(key)?.value;
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    if text.is_empty() || !text.bytes().all(is_good) {
        let hint = "only letters, digits and - _ . : may be in it";
        section.problem_with_hint(key, format!("{text:?} is not a name"), hint);
        return None;
    }
    Some(text)
}
