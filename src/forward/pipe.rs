//! Pipes: where bytes are between two sockets, without ever being copied to this process.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// A direction holds at most this many bytes: a slow reader stops the sender at that.
pub const N_HELD_MAX: usize = 64 * 1024;

/// Slots that a pipe is asked to have. One slot holds what came in one segment, however small.
const N_SLOTS_WANTED: usize = 256;
/// Slots that every pipe has; fewer only for a user with more than 1024 pipes (`pipe(7)`).
const N_SLOTS_LEAST: usize = 1;
/// Linux counts a slot as a page of this size or larger.
const N_PAGE: usize = 4096;

const MODE: SpliceFlags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);

/// An empty pipe, or one with the bytes of one direction.
#[derive(Debug)]
pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    /// How many segments fit in.
    pub n_slots: usize,
}

impl Pipe {
    fn new() -> Result<Self, Errno> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Refused to a user with many pipes already; then it stays as small as it is.
        let n_slots = match fcntl_setpipe_size(&write, N_SLOTS_WANTED * N_PAGE) {
            Ok(_) => N_SLOTS_WANTED,
            Err(_) => N_SLOTS_LEAST,
        };
        Ok(Self { read, write, n_slots })
    }

    /// Takes bytes out of a socket: 0 when it has ended.
    ///
    /// # Errors
    /// `EAGAIN` when the socket is empty or the pipe is full; else the socket's own.
    pub fn fill(&self, from: BorrowedFd<'_>, n_most: usize) -> Result<usize, Errno> {
        again_if_interrupted(|| splice(from, None, self.write.as_fd(), None, n_most, MODE))
    }

    /// Puts bytes into a socket.
    ///
    /// # Errors
    /// `EAGAIN` when the socket takes no more; else the socket's own.
    pub fn drain(&self, to: BorrowedFd<'_>, n_most: usize) -> Result<usize, Errno> {
        again_if_interrupted(|| splice(self.read.as_fd(), None, to, None, n_most, MODE))
    }
}

fn again_if_interrupted(call: impl Fn() -> Result<usize, Errno>) -> Result<usize, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
}

/// Empty pipes of one worker, kept for the next bytes.
#[derive(Debug, Default)]
pub struct Pool(Vec<Pipe>);

impl Pool {
    /// A direction needs a pipe only while bytes are under way, so few are needed at once.
    pub const N_MOST: usize = 16;

    /// An empty pipe.
    ///
    /// # Errors
    /// `pipe2(2)`'s.
    pub fn take(&mut self) -> Result<Pipe, Errno> {
        self.0.pop().map_or_else(Pipe::new, Ok)
    }

    /// Takes an empty pipe back.
    pub fn give_back(&mut self, pipe: Pipe) {
        if self.0.len() < Self::N_MOST {
            self.0.push(pipe);
        }
    }
}
