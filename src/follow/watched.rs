//! A connection that is watched: the duplicate, its mark, and what is known of it.

use std::io;
use std::os::fd::OwnedFd;

use super::connection::{Connection, Look};
use super::head::{self, Head};
use super::program::Place;
use crate::os::connection::{self, Counts};

/// A quiet connection is one where nothing went either way for so long.
const QUIET_MS: u32 = 1_000;
/// More than the mark holds back is no head that is taken.
const ROOM_BYTES: usize = 32 * 1024;

/// A connection that is watched.
#[derive(Debug)]
pub struct Watched {
    /// Its number between watcher and holder.
    pub id: u64,
    /// Which socket.
    pub inode: u64,
    /// Whose it is: the place of the program in the list.
    pub program: usize,
    /// Where the program has it.
    pub place: Place,
    /// Orders as they were when it was found.
    pub since: u32,
    /// The duplicate.
    pub fd: OwnedFd,
    /// What is known.
    pub connection: Connection,
    /// The mark is up.
    pub is_marked: bool,
    /// The holder has a duplicate.
    pub is_held: bool,
    /// When its mark went down last.
    pub given_ns: u64,
    /// Its request is being passed on.
    pub carried: Option<Carry>,
}

/// A request that the holder was asked to pass on.
#[derive(Debug)]
pub struct Carry {
    /// The bytes of the request; none when the program has left the connection.
    pub request: Vec<u8>,
    /// How its head was read.
    pub head: Option<Head>,
    /// What had come by then, and was written.
    pub before: Counts,
}

/// What a look at the kernel's numbers says.
#[derive(Debug)]
pub enum Seen {
    /// It goes on.
    Open(Look, Counts),
    /// Something comes in this very moment.
    Moving,
    /// One side has ended it.
    Ended,
}

impl Watched {
    /// Looks at it.
    ///
    /// # Errors
    /// The system's.
    pub fn see(&self, may_take: bool) -> io::Result<Seen> {
        let before = connection::n_unread(&self.fd)?;
        let counts = connection::counts(&self.fd)?;
        if counts.state != crate::os::diag::ESTABLISHED {
            return Ok(Seen::Ended);
        }
        let mut queue = None;
        if before > 0 && self.connection.wants_queue() {
            let mut room = vec![0; ROOM_BYTES];
            match connection::peek(&self.fd, &mut room) {
                Ok(n) => queue = room.get(..n).map(head::read),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Seen::Moving),
                Err(error) => return Err(error),
            }
        }
        if connection::n_unread(&self.fd)? != before {
            return Ok(Seen::Moving);
        }
        let look = Look {
            received: counts.received,
            unread: before,
            written: counts.written,
            // In the same tick of the kernel's clock nobody knows.
            is_asked: counts.received_ms < counts.sent_ms && counts.received > 0,
            queue,
            may_take,
        };
        Ok(Seen::Open(look, counts))
    }

    /// The request that waits.
    ///
    /// # Errors
    /// `recv(2)`'s.
    pub fn request(&self, head: Head) -> io::Result<Vec<u8>> {
        let mut room = vec![0; usize::try_from(head.length).unwrap_or(0)];
        let n = connection::peek(&self.fd, &mut room)?;
        room.truncate(n);
        Ok(room)
    }

    /// Puts the mark down, whatever is known.
    pub fn lower(&mut self) {
        self.is_marked = false;
        // One that has ended has none.
        let _ = connection::lower(&self.fd);
    }

    /// Whether nothing has gone either way for a while, and the program spoke last.
    #[must_use]
    pub fn is_quiet(look: &Look, counts: &Counts) -> bool {
        let is_long = counts.sent_ms >= QUIET_MS && counts.received_ms >= QUIET_MS;
        is_long && look.unread == 0 && look.written > 0 && !look.is_asked
    }
}
