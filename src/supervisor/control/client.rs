//! A client on the control socket: one request comes in, events go out.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;

use crate::api::{Event, Trouble};
use crate::core::exit::Exit;
use crate::json;
use crate::os::scm;

/// A request is sent at once, by a program: whoever takes longer keeps no place here.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// Descriptors that a request may bring: the sources of a set.
const N_FDS_MAX: usize = 64;

/// The longest request.
const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// A client on the other end.
#[derive(Debug)]
pub(crate) struct Client {
    stream: UnixStream,
}

impl Client {
    /// Over an accepted connection.
    #[must_use]
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream }
    }

    /// The connection, for whoever answers in the place of this process.
    pub(crate) fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// The request's line and the descriptors beside it.
    ///
    /// # Errors
    /// When the client is gone before its line ends, or the line is too long, or takes too long.
    pub(crate) async fn hear(&mut self) -> io::Result<(Vec<u8>, VecDeque<OwnedFd>)> {
        tokio::time::timeout(REQUEST_LIMIT, self.line()).await?
    }

    async fn line(&self) -> io::Result<(Vec<u8>, VecDeque<OwnedFd>)> {
        let mut line = Vec::new();
        let mut fds = VecDeque::new();
        let mut chunk = vec![0; REQUEST_BYTES_MAX];
        loop {
            let (n, received) = self
                .stream
                .async_io(Interest::READABLE, || scm::receive_some(self.stream.as_fd(), &mut chunk))
                .await?;
            fds.extend(received);
            let end = chunk[..n].iter().position(|byte| *byte == b'\n');
            line.extend_from_slice(&chunk[..end.unwrap_or(n)]);
            if end.is_some() {
                return Ok((line, fds));
            }
            if n == 0 || line.len() > REQUEST_BYTES_MAX || fds.len() > N_FDS_MAX {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Sends the client an event. `false`: it is gone.
    pub(crate) async fn tell(&mut self, event: &Event) -> bool {
        let Ok(mut line) = json::to_vec(event) else { return false };
        line.push(b'\n');
        self.stream.write_all(&line).await.is_ok()
    }

    /// Resolves when the client is gone.
    pub(crate) async fn gone(&self) {
        let mut byte = [0];
        loop {
            if self.stream.readable().await.is_err() {
                return;
            }
            match self.stream.try_read(&mut byte) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }

    /// Answers that the request was not accepted.
    pub(crate) async fn refuse(&mut self, why: &str, exit: Exit) {
        let trouble = Trouble {
            what: "the request was not accepted".to_owned(),
            why: why.to_owned(),
            still: "nothing was changed".to_owned(),
            next: vec!["halley-sup status".to_owned()],
            exit: exit.code(),
        };
        self.tell(&Event::Error(trouble)).await;
    }
}
