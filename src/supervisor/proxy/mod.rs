//! The entry: an outside reverse proxy as the stable address of a service.
//!
//! This room tells a proxy where the instances listen, and asks it what it has. It must never start
//! or stop a proxy, or configure anything else. A flip is whole or leaves the proxy as it was,
//! as far as the proxy allows, and may be done again: a supervisor that was killed in the middle of
//! one does the same one again.
//!
//! What a proxy does with connections that are kept alive is its own. Measured, 50 flips under four
//! clients: HAProxy 2.6 keeps them and loses none. nginx 1.22 and Caddy 2.6 close the idle ones, and
//! a request that is written at that moment is lost. Clients that never look before they use a
//! connection again lost 33 and 143 that way; of clients that look, nginx lost 0 to 2 and Caddy 33
//! to 53. Requests that are being answered go on to their end with all three.

pub mod admin;
pub mod caddy;
pub mod command;
pub mod haproxy;
pub mod haproxy_server;
pub mod nginx;
pub mod nginx_include;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::duration;
use crate::config::model::Proxy;
use crate::supervisor::processes::host_command::ProgramError;
use crate::text;

/// A proxy that does not answer within this is not waited for: on the way there, and once more on
/// the way back where there is one.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Where an instance listens, as a proxy's upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upstream {
    /// An address of TCP.
    Tcp(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
}

/// Why a proxy could not be asked or flipped. Each text says what, why, and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// There is no connection to it.
    #[error("{place}: {}; is it running? ({next})", text::system_error(source))]
    Unreachable {
        /// The proxy and its address.
        place: String,
        /// The system's word.
        #[source]
        source: io::Error,
        /// A command to see for oneself.
        next: String,
    },
    /// It did not answer in time.
    #[error("{place}: no answer within {} ({next})", duration::print(DEADLINE))]
    Late {
        /// The proxy and its address.
        place: String,
        /// A command to see for oneself.
        next: String,
    },
    /// It answered, and not well.
    #[error("{place}: {why} ({next})")]
    Refused {
        /// The proxy and its address.
        place: String,
        /// What it said.
        why: String,
        /// What to do about it.
        next: String,
    },
    /// A file of the proxy could not be read or written.
    #[error("{}: {}; {next}", path.display(), text::system_error(source))]
    File {
        /// The file.
        path: PathBuf,
        /// The system's word.
        #[source]
        source: io::Error,
        /// What to do about it.
        next: String,
    },
    /// A command of the proxy's did not end well.
    #[error(transparent)]
    Command(#[from] ProgramError),
    /// A proxy cannot be pointed at nothing.
    #[error("a proxy needs an upstream, and no instance listens; halley-sup status says why")]
    NoUpstream,
}

/// Whether a flip to this many upstreams could be done; nothing is changed. The text is for people.
///
/// # Errors
/// [`EntryError`] with what is missing.
pub async fn check(proxy: &Proxy, n_upstreams: usize) -> Result<String, EntryError> {
    match proxy {
        Proxy::Caddy { admin, id } => caddy::check(admin, id).await,
        Proxy::HaProxy { admin, backend, server } => {
            haproxy::check(admin, backend, server, n_upstreams).await
        }
        Proxy::Nginx { file, test, .. } => nginx::check(file, test).await,
        Proxy::Command { check, .. } => command::check(check.as_deref()).await,
    }
}

/// Points the proxy at these upstreams and at no others. Done again it changes nothing.
///
/// # Errors
/// [`EntryError`]; the proxy is as it was, unless the text says otherwise.
pub async fn flip(proxy: &Proxy, upstreams: &[Upstream]) -> Result<(), EntryError> {
    if upstreams.is_empty() {
        return Err(EntryError::NoUpstream);
    }
    match proxy {
        Proxy::Caddy { admin, id } => caddy::flip(admin, id, upstreams).await,
        Proxy::HaProxy { admin, backend, server } => {
            haproxy::flip(admin, backend, server, upstreams).await
        }
        Proxy::Nginx { file, test, reload } => nginx::flip(file, test, reload, upstreams).await,
        Proxy::Command { flip, .. } => command::flip(flip, upstreams).await,
    }
}

/// `127.0.0.1:8000` or `unix:/run/x.sock`.
impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_why_and_what_next() {
        let place = || "caddy at 127.0.0.1:2019".to_owned();
        let next = || "curl http://127.0.0.1:2019/config/".to_owned();
        let source = io::Error::from_raw_os_error(libc::ECONNREFUSED);
        for (error, text) in [
            (
                EntryError::Unreachable { place: place(), source, next: next() },
                "caddy at 127.0.0.1:2019: connection refused; is it running? \
                 (curl http://127.0.0.1:2019/config/)",
            ),
            (
                EntryError::Late { place: place(), next: next() },
                "caddy at 127.0.0.1:2019: no answer within 10s (curl http://127.0.0.1:2019/config/)",
            ),
            (
                EntryError::Command(ProgramError {
                    command: "nginx -t".to_owned(),
                    why: "exit 1".to_owned(),
                    said: "bad".to_owned(),
                }),
                "nginx -t: exit 1\nbad",
            ),
        ] {
            assert_eq!(error.to_string(), text);
        }
    }
}
