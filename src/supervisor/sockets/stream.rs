//! A connection to a program, over TCP or a unix socket.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::os::{listen, local};
use crate::supervisor::spawn;

/// A connection.
#[derive(Debug)]
pub(crate) enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a unix socket.
    Unix(UnixStream),
}

impl Stream {
    /// Connects over TCP, to the first address that lets it.
    ///
    /// # Errors
    /// `connect(2)`'s.
    pub(crate) async fn tcp(addresses: Vec<SocketAddr>) -> io::Result<Self> {
        TcpStream::connect(addresses.as_slice()).await.map(Self::Tcp)
    }

    /// Connects to `HOST:PORT`.
    ///
    /// # Errors
    /// `connect(2)`'s, and those of looking the name up.
    pub(crate) async fn to(place: String) -> io::Result<Self> {
        Self::tcp(look_up(place).await?).await
    }

    /// Connects to a unix socket.
    ///
    /// # Errors
    /// `connect(2)`'s.
    pub(crate) async fn unix(path: impl AsRef<Path>) -> io::Result<Self> {
        UnixStream::connect(path).await.map(Self::Unix)
    }

    /// Whether a process has taken this connection out of the accept queue, as the kernel reports
    /// it: the program need not be asked.
    pub(crate) fn is_taken(&self) -> bool {
        let mut byte = [0];
        let read = match self {
            Self::Tcp(stream) => stream.try_read(&mut byte),
            Self::Unix(stream) => stream.try_read(&mut byte),
        };
        // Data came, or the end: a process had taken it.
        if !matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
            return true;
        }
        match self {
            Self::Tcp(stream) => match (stream.local_addr(), stream.peer_addr()) {
                (Ok(source), Ok(target)) => listen::is_accepted(source, target.port()),
                _ => true,
            },
            Self::Unix(stream) => local::ask(stream).is_ok_and(|told| told.is_accepted),
        }
    }
}

/// The addresses of `HOST:PORT`.
///
/// # Errors
/// Those of looking the name up.
pub(crate) async fn look_up(place: String) -> io::Result<Vec<SocketAddr>> {
    match place.parse() {
        Ok(address) => Ok(vec![address]),
        Err(_) => spawn::lengthy(move || Ok(place.to_socket_addrs()?.collect())).await?,
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Self::Unix(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
