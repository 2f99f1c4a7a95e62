//! What the watcher and the holder say to each other: one byte and the number of a connection.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::os::scm;

/// A message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// To the holder, with a duplicate: its mark may go up from here on.
    Hold(u64),
    /// To the holder: the request that waits there is passed on.
    Take(u64),
    /// To the holder: all that waits and comes there is passed on; the program has left it.
    Pass(u64),
    /// To the holder: its mark is down and stays there.
    Forget(u64),
    /// To the watcher: the request was passed on, and the connection has ended.
    Done(u64),
    /// To the watcher: the program got the request after all.
    Returned(u64),
    /// Either way: I am here.
    Beat,
}

/// Sends one.
///
/// # Errors
/// When the other side is gone.
pub fn send(
    socket: impl AsFd,
    message: Message,
    connection: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let (kind, id) = match message {
        Message::Hold(id) => (b'h', id),
        Message::Take(id) => (b't', id),
        Message::Pass(id) => (b'p', id),
        Message::Forget(id) => (b'f', id),
        Message::Done(id) => (b'd', id),
        Message::Returned(id) => (b'r', id),
        Message::Beat => (b'b', 0),
    };
    let mut bytes = [kind; 9];
    bytes[1..].copy_from_slice(&id.to_le_bytes());
    scm::send(socket, &bytes, connection.as_slice())
}

/// The next one, with its duplicate. Nothing when the other side is gone.
///
/// # Errors
/// `recvmsg(2)`'s, so also when none has come.
pub fn receive(socket: impl AsFd) -> io::Result<Option<(Message, Option<OwnedFd>)>> {
    let mut bytes = Vec::new();
    let Some(mut fds) = scm::receive(socket, &mut bytes)? else { return Ok(None) };
    let unknown = || io::Error::from(io::ErrorKind::InvalidData);
    let (kind, id) = bytes.split_first().ok_or_else(unknown)?;
    let id = u64::from_le_bytes(id.try_into().map_err(|_| unknown())?);
    let message = match kind {
        b'h' => Message::Hold(id),
        b't' => Message::Take(id),
        b'p' => Message::Pass(id),
        b'f' => Message::Forget(id),
        b'd' => Message::Done(id),
        b'r' => Message::Returned(id),
        b'b' => Message::Beat,
        _ => return Err(unknown()),
    };
    Ok(Some((message, fds.pop())))
}
