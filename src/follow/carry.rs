//! One request is passed on to where new connections go, and its answer back; then the connection ends.
//!
//! It calls the very address that the client has called, from that address: the steering decides who
//! answers. The call is made before the request is taken out of the queue: without one, the program gets it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};

use super::answer::Answer;
use super::head::{self, Head, Queue};
use crate::os::connection;

/// Calls for one request: a program that leaves before it answers is another one by then.
const N_CALLS_MAX: u32 = 3;
const ROOM_BYTES: usize = 64 * 1024;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carried {
    /// It was passed on, and the connection has ended.
    Done,
    /// It is where it was.
    Untouched,
}

/// Takes the request that waits, and passes it on. The mark of the connection is up until its end.
#[must_use]
pub fn take(client: &OwnedFd) -> Carried {
    let Ok((server, request, head)) = taken(client) else {
        return Carried::Untouched;
    };
    pass_on(client, Some(server), &request, head.is_for_head);
    Carried::Done
}

fn taken(client: &OwnedFd) -> io::Result<(OwnedFd, Vec<u8>, Head)> {
    let server = connection::call_from_there(connection::called(client)?)?;
    let mut room = vec![0; ROOM_BYTES];
    let n = connection::peek(client, &mut room)?;
    room.truncate(n);
    let other = || io::Error::from(io::ErrorKind::InvalidData);
    let head = match head::read(&room) {
        Queue::Head(head) if head.length == n as u64 && head.body == 0 && head.is_safe => head,
        _ => return Err(other()),
    };
    let mut request = vec![0; n];
    let n_taken = connection::take(client, &mut request)?;
    if request != room || n_taken != n {
        // The program has read of it in this very moment, in spite of the mark: neither has a whole one.
        tracing::warn!("a program read a request that was being passed on");
        connection::end(client);
    }
    Ok((server, request, head))
}

/// Passes a request on that is out of its queue already, and ends the connection.
pub fn pass_on(client: &OwnedFd, server: Option<OwnedFd>, request: &[u8], is_for_head: bool) {
    let request = head::with_close(request);
    let mut server = server;
    for _ in 0..N_CALLS_MAX {
        let called = || connection::call_from_there(connection::called(client)?);
        let Ok(server) = server.take().map_or_else(called, Ok) else { continue };
        let mut answer = Answer::new(is_for_head);
        // What has begun cannot begin again.
        match exchange(client, &server, &request, &mut answer) {
            Ok(0) | Err(Failed { n_given: 0, is_client: false }) => {}
            Ok(_) | Err(_) => break,
        }
    }
    leave(client);
}

fn leave(client: &OwnedFd) {
    connection::end(client);
    // The program reads the end at once.
    let _ = connection::lower(client);
}

/// How an exchange failed.
#[derive(Debug)]
struct Failed {
    n_given: u64,
    is_client: bool,
}

/// Returns how many bytes the client was given.
fn exchange(
    client: &OwnedFd,
    server: &OwnedFd,
    request: &[u8],
    answer: &mut Answer,
) -> Result<u64, Failed> {
    let mut n_given = 0;
    let server_failed = |n_given| move |_| Failed { n_given, is_client: false };
    let mut request = request;
    while !request.is_empty() {
        wait(&[(server.as_fd(), PollFlags::OUT)]).map_err(server_failed(0))?;
        let n = again(connection::give(server, request)).map_err(server_failed(0))?;
        request = request.get(n..).unwrap_or_default();
    }
    let mut room = vec![0; ROOM_BYTES];
    while !answer.is_over() {
        // A client that has left is seen, one that only has no more to say goes on reading.
        let fds = [(server.as_fd(), PollFlags::IN), (client.as_fd(), PollFlags::empty())];
        wait(&fds).map_err(server_failed(n_given))?;
        let n = match connection::take(server, &mut room) {
            Ok(0) => break,
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(Failed { n_given, is_client: true });
            }
            Err(_) => return Err(Failed { n_given, is_client: false }),
        };
        let passed = answer.take(room.get(..n).unwrap_or_default());
        let client_failed = |_| Failed { n_given, is_client: true };
        give_all(client, &passed).map_err(client_failed)?;
        n_given += passed.len() as u64;
    }
    Ok(n_given)
}

/// Passes on all that comes either way: the program has left the connection, and nobody else has it.
pub fn pass_all(client: &OwnedFd) {
    let called = || connection::call_from_there(connection::called(client)?);
    if let Ok(server) = called() {
        // Where it breaks off, both ends see it.
        let _ = both_ways(client, &server);
    }
    leave(client);
}

fn both_ways(client: &OwnedFd, server: &OwnedFd) -> io::Result<()> {
    let mut room = vec![0; ROOM_BYTES];
    let (mut is_client_open, mut is_server_open) = (true, true);
    // One byte is enough to be told of.
    connection::lower(client)?;
    while is_client_open || is_server_open {
        let fds = [(client, is_client_open), (server, is_server_open)];
        let still = fds.iter().filter(|(_, is_open)| *is_open);
        let fds: Vec<_> = still.map(|(fd, _)| (fd.as_fd(), PollFlags::IN)).collect();
        wait(&fds)?;
        pass_some(client, server, &mut room, &mut is_client_open)?;
        pass_some(server, client, &mut room, &mut is_server_open)?;
    }
    Ok(())
}

fn pass_some(from: &OwnedFd, to: &OwnedFd, room: &mut [u8], is_open: &mut bool) -> io::Result<()> {
    if !*is_open {
        return Ok(());
    }
    match connection::take(from, room) {
        Ok(0) => {
            *is_open = false;
            connection::end_of_writing(to);
            Ok(())
        }
        Ok(n) => give_all(to, room.get(..n).unwrap_or_default()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error),
    }
}

fn give_all(to: &OwnedFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let n = again(connection::give(to, bytes))?;
        bytes = bytes.get(n..).unwrap_or_default();
        if !bytes.is_empty() {
            wait(&[(to.as_fd(), PollFlags::OUT)])?;
        }
    }
    Ok(())
}

fn again(given: io::Result<usize>) -> io::Result<usize> {
    match given {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        given => given,
    }
}

fn wait(fds: &[(BorrowedFd<'_>, PollFlags)]) -> io::Result<()> {
    let mut fds: Vec<PollFd<'_>> = fds.iter().map(|(fd, flags)| PollFd::new(fd, *flags)).collect();
    match poll(&mut fds, None) {
        Err(rustix::io::Errno::INTR) | Ok(_) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
