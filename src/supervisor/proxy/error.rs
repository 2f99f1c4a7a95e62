//! Why a proxy could not be asked or flipped.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::duration;
use crate::supervisor::processes::host_command::CommandError;
use crate::text;

/// A proxy that does not answer within this is not waited for: on the way there, and once more on
/// the way back where there is one.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Why a proxy could not be asked or flipped. Each text states what, why, and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// There is no connection to it.
    #[error("{place}: {}; is it running? ({next})", text::system_error(source))]
    Unreachable {
        /// The proxy and its address.
        place: String,
        /// The system's error.
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
    /// It answered, and not successfully.
    #[error("{place}: {why} ({next})")]
    Refused {
        /// The proxy and its address.
        place: String,
        /// The reason it gave.
        why: String,
        /// What to do about it.
        next: String,
    },
    /// A file of the proxy could not be read or written.
    #[error("{}: {}; {next}", path.display(), text::system_error(source))]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
        /// What to do about it.
        next: String,
    },
    /// A command of the proxy's did not end successfully.
    #[error("{0}")]
    Command(String),
    /// A proxy cannot be pointed at nothing.
    #[error("a proxy needs an upstream, and no instance listens; see halley-sup status")]
    NoUpstream,
}

impl From<CommandError> for EntryError {
    fn from(error: CommandError) -> Self {
        Self::Command(error.to_string())
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
                EntryError::from(CommandError::Failed {
                    name: "nginx -t".to_owned(),
                    why: "exit 1: bad".to_owned(),
                }),
                "nginx -t: exit 1: bad",
            ),
        ] {
            assert_eq!(error.to_string(), text);
        }
    }
}
