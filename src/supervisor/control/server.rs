//! The control socket: takes requests, streams events. A client that goes away changes nothing.

use std::fs::File;
use std::io;
use std::path::Path;
use std::rc::Rc;

use tokio::net::{UnixListener, UnixStream};

use crate::api::{Request, VERSION};
use crate::core::exit::Exit;
use crate::json;
use crate::os::beneath::Dir;
use crate::os::fs;
use crate::supervisor::control::client::Client;
use crate::supervisor::control::dispatch;
use crate::supervisor::service::stack::Stack;
use crate::supervisor::spawn;

/// Opens the control socket, readable by its owner alone, and serves it.
///
/// # Errors
/// When it cannot be opened.
pub(crate) fn serve(stack: &Rc<Stack>, path: &Path) -> io::Result<()> {
    let listener = match bind(path) {
        Err(error) if fs::is_of_disk(&error) => {
            let refuge = fs::refuge_of_socket(path);
            tracing::error!(path = %path.display(), %error, refuge = %refuge.display(),
                "the control socket is in the runtime directory");
            bind(&refuge)?
        }
        bound => bound?,
    };
    let stack = Rc::clone(stack);
    spawn::local(async move {
        // Where no descriptor is left, this one makes room for who wants to know why.
        let mut spare = spare();
        let mut is_told = false;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let stack = Rc::clone(&stack);
                    spawn::local(async move { converse(&stack, stream).await });
                    is_told = false;
                }
                Err(_) if spare.take().is_some() => continue,
                Err(error) => {
                    if !std::mem::replace(&mut is_told, true) {
                        tracing::error!(%error, "accepting a client");
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
            spare = spare.or_else(self::spare);
        }
    });
    Ok(())
}

fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

/// A socket that its owner alone can use.
fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(parent) = path.parent() {
        Dir::have(parent, 0o755)?;
    }
    // The root's lock excludes any other supervisor: a socket here is left from an earlier one.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // It has its mode from its making: nothing is done to its path afterwards.
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let bound = UnixListener::bind(path);
    rustix::process::umask(before);
    bound
}

async fn converse(stack: &Rc<Stack>, stream: UnixStream) {
    let own = rustix::process::geteuid().as_raw();
    let allowed = stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own);
    let mut client = Client::new(stream);
    if !allowed {
        return client
            .refuse("only its own user and root may use this halley-sup", Exit::Forbidden)
            .await;
    }
    let (line, fds) = match client.hear().await {
        Ok(heard) => heard,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            let why = format!("the request cannot be received: {error}");
            return client.refuse(&why, Exit::Internal).await;
        }
        Err(error) => return tracing::debug!(%error, "reading from a client"),
    };
    match json::from_slice::<Request>(&line) {
        Ok(request) if request.version != VERSION => {
            let why = "client and supervisor are of different versions; use the same halley-sup";
            client.refuse(why, Exit::Usage).await;
        }
        Ok(request) => dispatch::perform(stack, request, fds, &mut client).await,
        Err(error) => {
            client.refuse(&format!("the request cannot be read: {error}"), Exit::Usage).await
        }
    }
}
