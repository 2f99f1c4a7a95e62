//! `NOTIFY_SOCKET` of the services: a program sends `READY=1` there (`sd_notify(3)`).
//!
//! The socket is kept by the keeper, so that a message sent while no supervisor runs is read by the
//! next one.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::rc::Rc;

use crate::core::backoff::Pauses;
use crate::os::beneath::Dir;
use crate::os::{fs, proc, ready};
use crate::supervisor::service::Service;
use crate::supervisor::spawn;

/// Between tries to make a socket on a disk that does not take it.
const TRIES: Pauses = Pauses::doubling(1_000, 30_000);

/// Makes the service's socket, or takes it over, and listens on it. When the disk does not take it, the
/// service goes without one until it does.
///
/// # Errors
/// When it cannot be made or kept.
pub(crate) async fn open(service: &Rc<Service>, kept: Option<OwnedFd>) -> io::Result<()> {
    let socket = match kept {
        Some(socket) => Some(socket),
        None => match make(service).await {
            Err(error) if fs::is_of_disk(&error) => None,
            made => Some(made?),
        },
    };
    let heard = Rc::clone(service);
    let task = spawn::local(async move {
        if let Err(error) = hear_once_made(&heard, socket).await {
            tracing::error!(service = %heard.name, %error, "receiving READY=1");
        }
    });
    service.attendants.add(task);
    Ok(())
}

async fn hear_once_made(service: &Rc<Service>, mut socket: Option<OwnedFd>) -> io::Result<()> {
    let mut backoff = TRIES.begin();
    loop {
        if let Some(socket) = socket {
            return hear(service, socket).await;
        }
        tokio::time::sleep(backoff.pause()).await;
        socket = make(service).await.ok();
    }
}

async fn make(service: &Service) -> io::Result<OwnedFd> {
    let path = service.paths.notify_socket();
    let socket = bind(&path)?;
    if let Some(user) = service.config().settings.user.as_deref().and_then(proc::user) {
        fs::give_to(&path, user.uid, user.gid)?;
    }
    let name = service.notify_socket();
    service.link().keep(name, socket.as_fd()).await.map_err(io::Error::other)?;
    Ok(socket)
}

fn bind(path: &Path) -> io::Result<OwnedFd> {
    let (run, name) = Dir::parent(path)?;
    run.remove_file(&name)?;
    let socket = UnixDatagram::bind(path)?;
    socket.set_nonblocking(true)?;
    rustix::net::sockopt::set_socket_passcred(&socket, true)?;
    run.pin(&name)?.set_mode(0o600)?;
    Ok(socket.into())
}

async fn hear(service: &Rc<Service>, socket: OwnedFd) -> io::Result<()> {
    let socket = ready::readable(socket)?;
    loop {
        let mut readable = socket.readable().await?;
        // Not held while it waits.
        let mut buffer = [0; 4096];
        let heard =
            readable.try_io(|socket| crate::os::scm::receive_from(socket.get_ref(), &mut buffer));
        match heard {
            Ok(Ok((n, Some(pid)))) if says_ready(&buffer[..n]) => mark_ready(service, pid),
            Ok(Ok(_)) | Err(_) => {}
            Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {}
            Ok(Err(error)) => return Err(error),
        }
    }
}

fn says_ready(message: &[u8]) -> bool {
    message.split(|byte| *byte == b'\n').any(|line| line == b"READY=1")
}

/// The sender, or one of its ancestors, is an instance.
fn mark_ready(service: &Service, sender: i32) {
    let mut ancestors = vec![sender];
    while let Some(pid) = ancestors.last().copied().filter(|pid| *pid > 1) {
        match proc::parent(pid) {
            Ok(parent) if ancestors.len() < 64 => ancestors.push(parent),
            _ => break,
        }
    }
    for generation in service.fleet.all() {
        for instance in &generation.instances() {
            if instance.pid().is_some_and(|pid| ancestors.contains(&pid)) {
                instance.say_ready();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_a_line_of_its_own() {
        for (message, ready) in [
            ("READY=1", true),
            ("STATUS=up\nREADY=1\n", true),
            ("READY=0", false),
            ("NOTREADY=1", false),
            ("", false),
        ] {
            assert_eq!(says_ready(message.as_bytes()), ready, "{message:?}");
        }
    }
}
