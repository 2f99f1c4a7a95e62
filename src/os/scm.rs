//! Messages with descriptors over unix sockets (`unix(7)`, `SCM_RIGHTS`).
//!
//! A message is whole or an error: a truncated text or a truncated list of descriptors is never
//! handed on. Received descriptors are close-on-exec.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg,
    sendmsg, socketpair, sockopt,
};

/// Descriptors per message: a set has one for each of its members. The kernel takes 253
/// (`SCM_MAX_FD`).
pub const N_FDS_MAX: usize = 64;

/// The longest message. Environments travel in one.
pub const MESSAGE_BYTES_MAX: usize = 192 * 1024;

/// A connected pair of `SOCK_SEQPACKET` sockets.
///
/// # Errors
/// `socketpair(2)`'s.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (a, b) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    for end in [&a, &b] {
        sockopt::set_socket_send_buffer_size(end, MESSAGE_BYTES_MAX * 2)?;
    }
    Ok((a, b))
}

/// Sends one message with its descriptors, whole.
///
/// # Errors
/// `sendmsg(2)`'s; [`io::ErrorKind::InvalidInput`] when it is too long or has too many descriptors.
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if bytes.len() > MESSAGE_BYTES_MAX || fds.len() > N_FDS_MAX {
        let text = format!("a message of {} bytes, {} descriptors", bytes.len(), fds.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(N_FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
    }
    let sent = sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    if sent == bytes.len() {
        Ok(())
    } else {
        Err(io::Error::other("a message was truncated on sending"))
    }
}

/// Receives one message of a `SOCK_SEQPACKET` socket into `bytes`, and its descriptors. `None`
/// when the peer is gone.
///
/// # Errors
/// `recvmsg(2)`'s; [`io::ErrorKind::InvalidData`] when something was cut off.
pub fn receive(socket: impl AsFd, bytes: &mut Vec<u8>) -> io::Result<Option<Vec<OwnedFd>>> {
    // How long it is, first: the longest buffer would have to be filled with zeros each time.
    let (_, length) = recv(&socket, [0; 0].as_mut_slice(), RecvFlags::PEEK | RecvFlags::TRUNC)?;
    bytes.resize(length.min(MESSAGE_BYTES_MAX), 0);
    let (n, fds) = receive_some(socket, bytes)?;
    bytes.truncate(n);
    Ok(if n == 0 { None } else { Some(fds) })
}

/// Receives what is there of a stream, at most `bytes` whole, and the descriptors beside it.
///
/// # Errors
/// As [`receive`].
pub fn receive_some(socket: impl AsFd, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(N_FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got =
        recvmsg(socket, &mut [IoSliceMut::new(bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    let cut = match got.flags {
        flags if flags.contains(ReturnFlags::CTRUNC) => "a message: no room for its descriptors",
        flags if flags.contains(ReturnFlags::TRUNC) => "a message was truncated on receiving",
        _ => return Ok((got.bytes, fds)),
    };
    Err(io::Error::new(io::ErrorKind::InvalidData, cut))
}

/// Receives a datagram and the pid of its sender, as the kernel vouches for it (`SO_PASSCRED`).
///
/// # Errors
/// `recvmsg(2)`'s; [`io::ErrorKind::InvalidData`] when it was cut off.
pub fn receive_from(socket: impl AsFd, bytes: &mut [u8]) -> io::Result<(usize, Option<i32>)> {
    let mut space =
        [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1), ScmRights(N_FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got =
        recvmsg(socket, &mut [IoSliceMut::new(bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut sender = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmCredentials(credentials) = message {
            sender = Some(credentials.pid.as_raw_nonzero().get());
        }
    }
    if got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a datagram was truncated"));
    }
    Ok((got.bytes, sender))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_arrives_whole_with_its_descriptors_close_on_exec() {
        let (a, b) = pair().unwrap();
        let (x, y) = rustix::pipe::pipe().unwrap();
        send(&a, b"hello", &[x.as_fd(), y.as_fd()]).unwrap();
        let mut bytes = Vec::new();
        let fds = receive(&b, &mut bytes).unwrap().unwrap();
        assert_eq!((bytes.as_slice(), fds.len()), (b"hello".as_slice(), 2));
        for fd in &fds {
            let flags = rustix::io::fcntl_getfd(fd).unwrap();
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        }
        drop(a);
        assert!(receive(&b, &mut bytes).unwrap().is_none());
    }

    #[test]
    fn a_message_that_is_too_long_is_refused_before_it_is_sent() {
        let (a, _b) = pair().unwrap();
        let error = send(&a, &vec![0; MESSAGE_BYTES_MAX + 1], &[]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
