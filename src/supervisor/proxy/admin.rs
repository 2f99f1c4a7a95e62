//! A connection to a proxy's admin API, over TCP or a unix socket.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::config::model::Admin;
use crate::supervisor::proxy::{DEADLINE, EntryError};

/// Bytes both ways.
pub trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// Whom an error is about, and how a person asks the same.
#[derive(Debug, Clone)]
pub struct Place {
    /// The proxy and its address.
    pub name: String,
    /// A command that shows whether it answers.
    pub next: String,
}

impl Place {
    /// It answered, and not well.
    pub fn refused(&self, why: impl Into<String>, next: impl Into<String>) -> EntryError {
        EntryError::Refused { place: self.name.clone(), why: why.into(), next: next.into() }
    }

    /// The connection to it failed.
    pub fn unreachable(&self, source: io::Error) -> EntryError {
        EntryError::Unreachable { place: self.name.clone(), source, next: self.next.clone() }
    }

    /// What takes longer than the deadline has failed.
    ///
    /// # Errors
    /// Those of `what`, and [`EntryError::Late`].
    pub async fn within<T>(
        &self,
        what: impl Future<Output = Result<T, EntryError>>,
    ) -> Result<T, EntryError> {
        tokio::time::timeout(DEADLINE, what).await.unwrap_or_else(|_| {
            Err(EntryError::Late { place: self.name.clone(), next: self.next.clone() })
        })
    }
}

/// Connects.
///
/// # Errors
/// `connect(2)`'s.
pub async fn connect(admin: &Admin) -> io::Result<Box<dyn Stream>> {
    Ok(match admin {
        Admin::Tcp(address) => Box::new(TcpStream::connect(address).await?),
        Admin::Unix(path) => Box::new(UnixStream::connect(path).await?),
    })
}
