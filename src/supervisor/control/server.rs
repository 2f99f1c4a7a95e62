//! The control socket: takes requests, streams events. A client that goes away changes nothing.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::rc::Rc;

use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};

use crate::api::{Event, Request, Trouble, VERSION};
use crate::os::scm;
use crate::supervisor::control::dispatch;
use crate::supervisor::service::stack::Stack;

/// The longest request.
const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// Opens the control socket, readable by its owner alone, and serves it.
///
/// # Errors
/// When it cannot be opened.
pub fn serve(stack: &Rc<Stack>, path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    // The root's lock says that nobody else is here: what lies there is of a supervisor before.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let bound = UnixListener::bind(path);
    rustix::process::umask(before);
    let listener = bound?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    let stack = Rc::clone(stack);
    tokio::task::spawn_local(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let stack = Rc::clone(&stack);
                    tokio::task::spawn_local(async move { converse(&stack, stream).await });
                }
                Err(error) => {
                    tracing::error!(%error, "accepting a client");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    });
    Ok(())
}

async fn converse(stack: &Rc<Stack>, stream: UnixStream) {
    let own = rustix::process::geteuid().as_raw();
    let allowed = stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own);
    let mut client = Client { stream };
    if !allowed {
        return client.refuse("only its own user and root may talk to this halley-sup", 4).await;
    }
    let (line, fds) = match client.hear().await {
        Ok(heard) => heard,
        Err(error) => return tracing::debug!(%error, "hearing a client"),
    };
    match serde_json::from_slice::<Request>(&line) {
        Ok(request) if request.version != VERSION => {
            let why = "client and supervisor are of different versions; use the same halley-sup";
            client.refuse(why, 2).await;
        }
        Ok(request) => dispatch::perform(stack, request, fds, &mut client).await,
        Err(error) => client.refuse(&format!("the request cannot be read: {error}"), 2).await,
    }
}

/// A client on the other end.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
}

impl Client {
    /// The request's line and the descriptors beside it.
    async fn hear(&mut self) -> io::Result<(Vec<u8>, VecDeque<OwnedFd>)> {
        let mut line = Vec::new();
        let mut fds = VecDeque::new();
        let mut chunk = vec![0; REQUEST_BYTES_MAX];
        loop {
            let (n, received) = self
                .stream
                .async_io(Interest::READABLE, || scm::receive_some(self.stream.as_fd(), &mut chunk))
                .await?;
            fds.extend(received);
            line.extend_from_slice(&chunk[..n]);
            if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
                line.truncate(end);
                return Ok((line, fds));
            }
            if n == 0 || line.len() > REQUEST_BYTES_MAX {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Tells the client something. `false`: it is gone.
    pub async fn tell(&mut self, event: &Event) -> bool {
        let Ok(mut line) = serde_json::to_vec(event) else { return false };
        line.push(b'\n');
        self.stream.write_all(&line).await.is_ok()
    }

    /// Resolves when the client is gone.
    pub async fn gone(&self) {
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

    async fn refuse(&mut self, why: &str, exit: u8) {
        let trouble = Trouble {
            what: "the request was not taken up".to_owned(),
            why: why.to_owned(),
            still: "nothing was changed".to_owned(),
            next: vec!["halley-sup status".to_owned()],
            exit,
        };
        self.tell(&Event::Error(trouble)).await;
    }
}
