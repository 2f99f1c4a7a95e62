//! What a driver of a proxy can do.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;

use crate::supervisor::proxy::error::EntryError;

/// What a driver does, and what comes of it.
pub type Work<'a, T> = Pin<Box<dyn Future<Output = Result<T, EntryError>> + 'a>>;

/// Runs the commands of a proxy: without a shell, exit 0 is good.
pub trait Host {
    /// Runs one of them to its end, with more variables. It is killed with all that it has started
    /// after [`DEADLINE`](super::error::DEADLINE).
    fn run<'a>(&'a self, words: &'a [String], env: &'a [(&'a str, String)]) -> Work<'a, ()>;
}

/// A kind of proxy, with the settings of its section.
pub(crate) trait Driver {
    /// Whether a flip to this many upstreams could be done; nothing is changed. The text is for
    /// people.
    fn check<'a>(&'a self, n_upstreams: usize, host: &'a dyn Host) -> Work<'a, String>;

    /// Points the proxy at these upstreams, of which there is one at least, and at no others. Done
    /// again it changes nothing. After an error the proxy is as it was, unless the error text
    /// states otherwise.
    fn flip<'a>(&'a self, upstreams: &'a [Upstream], host: &'a dyn Host) -> Work<'a, ()>;

    /// Whether it has forgotten its upstreams when it is started again, and may be flipped again
    /// and again.
    fn forgets(&self) -> bool {
        false
    }
}

/// Where an instance listens, as a proxy's upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upstream {
    /// An address of TCP.
    Tcp(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
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
