//! A list of descriptors handed to another process of the same user, over a socket with a path.
//!
//! Each step has a deadline: neither side waits for one that hangs.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen,
    socket_with, sockopt,
};

use crate::os::beneath::Dir;
use crate::os::{memory, scm};

/// A step of the other side may take so long.
const STEP: Duration = Duration::from_secs(2);

/// Listens at a path, in the place of a socket that was left there.
///
/// # Errors
/// The system's.
pub fn offer_at(path: &Path) -> io::Result<OwnedFd> {
    let (dir, name) = Dir::parent(path)?;
    dir.remove_file(&name)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    bind(&socket, &SocketAddrUnix::new(dir.path_to(&name))?)?;
    dir.pin(&name)?.set_mode(0o600)?;
    listen(&socket, 1)?;
    Ok(socket)
}

/// Who asks for it, if anyone of this user or root does.
#[must_use]
pub fn asked(offer: &OwnedFd) -> Option<OwnedFd> {
    let other = accept_with(offer, SocketFlags::CLOEXEC).ok()?;
    let user = sockopt::socket_peercred(&other).ok()?.uid;
    (user.is_root() || user == rustix::process::geteuid()).then_some(other)
}

/// Gives a text and descriptors away. They are the other side's from its answer on.
///
/// # Errors
/// When it does not take all of them in time.
pub fn give(to: &OwnedFd, text: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    deadlines(to)?;
    let memory = memory::filled("estate", text)?;
    let n_fds = u32::try_from(fds.len()).unwrap_or(u32::MAX);
    scm::send(to, &n_fds.to_le_bytes(), &[memory.as_fd()])?;
    for part in fds.chunks(scm::N_FDS_MAX) {
        scm::send(to, b"fds", part)?;
        answer(to)?;
    }
    answer(to)
}

fn answer(from: &OwnedFd) -> io::Result<()> {
    scm::receive(from, &mut Vec::new())?.map(drop).ok_or(io::ErrorKind::UnexpectedEof.into())
}

/// Takes over what is offered at a path.
///
/// # Errors
/// When nothing is, or it does not come whole.
pub fn take(path: &Path) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let (dir, name) = Dir::parent(path)?;
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    connect(&socket, &SocketAddrUnix::new(dir.path_to(&name))?)?;
    deadlines(&socket)?;
    let gone = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let mut bytes = Vec::new();
    let memory =
        scm::receive(&socket, &mut bytes)?.and_then(|mut fds| fds.pop()).ok_or_else(gone)?;
    let n_fds = u32::from_le_bytes(bytes.as_slice().try_into().map_err(|_| gone())?);
    let mut fds = Vec::new();
    while fds.len() < usize::try_from(n_fds).unwrap_or(usize::MAX) {
        let part = scm::receive(&socket, &mut bytes)?.filter(|part| !part.is_empty());
        fds.extend(part.ok_or_else(gone)?);
        scm::send(&socket, b"next", &[])?;
    }
    let text = memory::text_of(memory)?;
    scm::send(&socket, b"taken", &[])?;
    Ok((text, fds))
}

fn deadlines(socket: &OwnedFd) -> io::Result<()> {
    sockopt::set_socket_timeout(socket, sockopt::Timeout::Recv, Some(STEP))?;
    Ok(sockopt::set_socket_timeout(socket, sockopt::Timeout::Send, Some(STEP))?)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;
    use crate::os::recover::id_of;

    #[test]
    fn more_descriptors_than_a_message_holds_arrive_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("handover.sock");
        let offer = offer_at(&path).unwrap();
        assert!(asked(&offer).is_none());
        let pipes: Vec<_> = (0..80).map(|_| std::io::pipe().unwrap()).collect();
        let fds: Vec<_> = pipes.iter().map(|(read, _)| read.as_fd()).collect();
        let taking = std::thread::spawn(move || take(&path).unwrap());
        let mut other = None;
        while other.is_none() {
            other = asked(&offer);
        }
        give(&other.unwrap(), b"text", &fds).unwrap();
        let (text, taken) = taking.join().unwrap();
        assert_eq!(text, b"text");
        let ids = |fd: BorrowedFd<'_>| id_of(fd).unwrap();
        let (given, taken): (Vec<_>, Vec<_>) =
            (fds.into_iter().map(ids).collect(), taken.iter().map(|fd| ids(fd.as_fd())).collect());
        assert_eq!(given, taken);
    }
}
