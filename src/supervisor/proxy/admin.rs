//! A connection to a proxy's admin API, over TCP or a unix socket.

use std::io;

use crate::config::model::Admin;
use crate::supervisor::proxy::error::EntryError;
use crate::supervisor::sockets::stream::Stream;

/// The proxy that an error is about, and the command with which a person asks it the same.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The proxy and its address.
    pub name: String,
    /// A command that shows whether it answers.
    pub next: String,
}

impl Place {
    /// It answered, and not successfully.
    pub(crate) fn refused(&self, why: impl Into<String>, next: impl Into<String>) -> EntryError {
        EntryError::Refused { place: self.name.clone(), why: why.into(), next: next.into() }
    }

    /// The connection to it failed.
    pub(crate) fn unreachable(&self, source: io::Error) -> EntryError {
        EntryError::Unreachable { place: self.name.clone(), source, next: self.next.clone() }
    }

    /// It did not answer in time.
    pub(crate) fn late(&self) -> EntryError {
        EntryError::Late { place: self.name.clone(), next: self.next.clone() }
    }
}

/// Connects.
///
/// # Errors
/// `connect(2)`'s.
pub(crate) async fn connect(admin: &Admin) -> io::Result<Stream> {
    match admin {
        Admin::Tcp(address) => Stream::tcp(vec![*address]).await,
        Admin::Unix(path) => Stream::unix(path).await,
    }
}
