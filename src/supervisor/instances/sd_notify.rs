//! `NOTIFY_SOCKET` of the services: a program says there that it is ready, that it lives, how it is
//! (`sd_notify(3)`).
//!
//! The socket is kept by the keeper, so that a message sent while no supervisor runs is read by the
//! next one.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::rc::Rc;

use crate::core::backoff::Pauses;
use crate::core::watchdog::Watchdog;
use crate::os::beneath::Dir;
use crate::os::{clock, fs, proc, ready};
use crate::supervisor::service::Service;
use crate::supervisor::service::instances::Instance;
use crate::supervisor::spawn;

/// Of a status that is kept.
const STATUS_MAX: usize = 200;

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
            Ok(Ok((n, Some(pid)))) => hear_from(service, pid, &buffer[..n]),
            Ok(Ok(_)) | Err(_) => {}
            Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {}
            Ok(Err(error)) => return Err(error),
        }
    }
}

/// A line of a message that means something here.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Ready,
    /// It lives.
    Lives,
    /// It has found out itself that it does not work.
    Hangs,
    Status(String),
}

/// `MAINPID=` is not believed: which processes are an instance's, Halley knows. Nor does
/// `EXTEND_TIMEOUT_USEC=` move a deadline of the host's.
fn said(message: &[u8]) -> Vec<Said> {
    let lines = message.split(|byte| *byte == b'\n');
    let one = |line: &[u8]| match line {
        b"READY=1" => Some(Said::Ready),
        b"WATCHDOG=1" => Some(Said::Lives),
        b"WATCHDOG=trigger" => Some(Said::Hangs),
        line => {
            let text = String::from_utf8_lossy(line.strip_prefix(b"STATUS=")?);
            Some(Said::Status(text.chars().filter(|c| !c.is_control()).take(STATUS_MAX).collect()))
        }
    };
    lines.filter_map(one).collect()
}

/// The sender, or one of its ancestors, is an instance.
fn hear_from(service: &Service, sender: i32, message: &[u8]) {
    let all = said(message);
    if all.is_empty() {
        return;
    }
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
                all.iter().for_each(|said| take(instance, said));
            }
        }
    }
}

fn take(instance: &Instance, said: &Said) {
    let now = clock::tick();
    match said {
        Said::Ready => instance.say_ready(),
        Said::Lives => instance.heard.change(|dog| dog.heard(now)),
        Said::Hangs => {
            instance.heard.change(Watchdog::trigger);
            instance.heard.stir();
        }
        Said::Status(text) => {
            instance.heard.status.replace(Some(text.clone()).filter(|text| !text.is_empty()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_says_one_thing() {
        let status = |text: &str| Said::Status(text.to_owned());
        for (message, expected) in [
            ("READY=1", vec![Said::Ready]),
            ("STATUS=up\nREADY=1\n", vec![status("up"), Said::Ready]),
            ("WATCHDOG=1\nSTATUS=\u{1b}[2J", vec![Said::Lives, status("[2J")]),
            ("WATCHDOG=trigger", vec![Said::Hangs]),
            ("READY=0\nMAINPID=1\nEXTEND_TIMEOUT_USEC=9", vec![]),
            ("NOTREADY=1", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(said(message.as_bytes()), expected, "{message:?}");
        }
    }
}
