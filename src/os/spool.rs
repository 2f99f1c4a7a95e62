//! A buffer outside of the process that uses it (`memfd_create(2)`): a killed process loses nothing
//! of it, and the next one knows how far it was read and whether that had been written elsewhere.
//!
//! Bytes come in by `splice(2)`, so that each is either in the pipe or here, whenever the process is
//! killed; the two numbers at the front change in one `pwrite(2)` of one page, which a signal does
//! not divide.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, fstat, memfd_create};
use rustix::io::{pread, pwrite};
use rustix::pipe::{SpliceFlags, splice};

/// The numbers have a page of their own.
const BEGIN: u64 = 4096;

/// What was read is given back in pieces of this size.
const PUNCH_BYTES: u64 = 1024 * 1024;

/// The buffer.
#[derive(Debug)]
pub struct Spool {
    memory: OwnedFd,
    /// What lies before it was read.
    start: u64,
    /// What lies before it was given back.
    freed: u64,
    /// See [`Self::writing`].
    writing: Option<u64>,
}

impl Spool {
    /// An empty one.
    ///
    /// # Errors
    /// `memfd_create(2)`'s.
    pub fn new() -> io::Result<Self> {
        let memory = memfd_create("output", MemfdFlags::CLOEXEC)?;
        let mut spool = Self { memory, start: BEGIN, freed: BEGIN, writing: None };
        spool.note(BEGIN, None)?;
        rustix::fs::ftruncate(&spool.memory, BEGIN)?;
        Ok(spool)
    }

    /// One that another process used.
    ///
    /// # Errors
    /// `pread(2)`'s.
    pub fn adopt(memory: OwnedFd) -> io::Result<Self> {
        let mut numbers = [0; 16];
        pread(&memory, &mut numbers, 0)?;
        let (start, writing) = numbers.split_at(8);
        let number = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
        let start = number(start).max(BEGIN);
        Ok(Self { memory, start, freed: BEGIN, writing: number(writing).checked_sub(1) })
    }

    /// Moves up to so many bytes here, without waiting. 0 when the pipe has no writer any more.
    ///
    /// # Errors
    /// `splice(2)`'s.
    pub fn fill(&self, pipe: impl AsFd, n_max: usize) -> io::Result<usize> {
        fill(self.memory.as_fd(), pipe, n_max)
    }

    /// The first of what was not read yet, at most so many bytes.
    ///
    /// # Errors
    /// `pread(2)`'s.
    pub fn unread(&self, n_max: usize) -> io::Result<Vec<u8>> {
        let n = end(self.memory.as_fd())?.saturating_sub(self.start);
        let mut bytes = vec![0; usize::try_from(n).map_or(n_max, |n| n.min(n_max))];
        let n = pread(&self.memory, &mut bytes, self.start)?;
        bytes.truncate(n);
        Ok(bytes)
    }

    /// Where a process before this one was about to write, and did not come to say that it had.
    #[must_use]
    pub fn writing(&self) -> Option<u64> {
        self.writing
    }

    /// What was not read is about to be written at this place of a file.
    ///
    /// # Errors
    /// `pwrite(2)`'s.
    pub fn begin_writing(&mut self, at: u64) -> io::Result<()> {
        self.note(self.start, Some(at))
    }

    /// So many bytes are read, and written.
    ///
    /// # Errors
    /// `pwrite(2)`'s.
    pub fn advance(&mut self, n: usize) -> io::Result<()> {
        self.note(self.start + n as u64, None)?;
        let (flags, from) = (FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, self.freed);
        if self.start - from >= PUNCH_BYTES {
            fallocate(&self.memory, flags, from, self.start - from)?;
            self.freed = self.start;
        }
        Ok(())
    }

    fn note(&mut self, start: u64, writing: Option<u64>) -> io::Result<()> {
        let numbers = [start, writing.map_or(0, |at| at + 1)].map(u64::to_le_bytes).concat();
        pwrite(&self.memory, &numbers, 0)?;
        (self.start, self.writing) = (start, writing);
        Ok(())
    }
}

/// Moves up to so many bytes from a pipe to a spool that this process only holds, without waiting.
///
/// # Errors
/// `splice(2)`'s.
pub fn fill(memory: BorrowedFd<'_>, pipe: impl AsFd, n_max: usize) -> io::Result<usize> {
    let mut end = end(memory)?;
    Ok(splice(pipe, None, memory, Some(&mut end), n_max, SpliceFlags::NONBLOCK)?)
}

/// How much of a spool was not read yet.
///
/// # Errors
/// `pread(2)`'s.
pub fn unread_bytes(memory: BorrowedFd<'_>) -> io::Result<u64> {
    let mut start = [0; 8];
    pread(memory, &mut start, 0)?;
    Ok(end(memory)?.saturating_sub(u64::from_le_bytes(start).max(BEGIN)))
}

fn end(memory: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(u64::try_from(fstat(memory)?.st_size).unwrap_or(BEGIN))
}

impl AsFd for Spool {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_next_process_goes_on_where_the_last_one_was() {
        let (read, write) = io::pipe().unwrap();
        let mut spool = Spool::new().unwrap();
        (&write).write_all(b"one\ntwo").unwrap();
        assert_eq!(spool.fill(&read, 1000).unwrap(), 7);
        assert_eq!(spool.fill(&read, 1000).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        spool.begin_writing(0).unwrap();
        let again = |spool: &Spool| Spool::adopt(spool.as_fd().try_clone_to_owned().unwrap());
        let next = again(&spool).unwrap();
        assert_eq!(
            (next.writing(), next.unread(1 << 20).unwrap()),
            (Some(0), b"one\ntwo".to_vec())
        );
        spool.advance(4).unwrap();
        let next = again(&spool).unwrap();
        assert_eq!((next.writing(), next.unread(1 << 20).unwrap()), (None, b"two".to_vec()));
        drop(write);
        assert_eq!(next.fill(&read, 1000).unwrap(), 0);
    }

    #[test]
    fn what_was_read_takes_no_memory() {
        let (read, write) = io::pipe().unwrap();
        let mut spool = Spool::new().unwrap();
        let chunk = [b'x'; 60_000];
        for _ in 0..100 {
            (&write).write_all(&chunk).unwrap();
            assert_eq!(spool.fill(&read, 1 << 20).unwrap(), chunk.len());
            assert_eq!(spool.unread(1 << 20).unwrap(), chunk);
            spool.advance(chunk.len()).unwrap();
        }
        let blocks = fstat(&spool.memory).unwrap().st_blocks;
        assert!(blocks * 512 < 2 * 1024 * 1024, "{blocks}");
    }
}
