//! A few numbers in anonymous memory that outlives the process which wrote them, as long as
//! a process holds the descriptor (`memfd_create(2)`, Linux 3.17).

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::{pread, pwrite};

/// A list of numbers that another process can take over. Never on disk.
#[derive(Debug)]
pub struct Note(OwnedFd);

const N_MAX: usize = 4096;

impl Note {
    /// An empty note; `name` shows in `/proc/PID/fd`.
    ///
    /// # Errors
    /// `memfd_create(2)`'s.
    pub fn new(name: &str) -> io::Result<Self> {
        Ok(Self(memfd_create(name, MemfdFlags::CLOEXEC)?))
    }

    /// A note that another process wrote.
    #[must_use]
    pub fn adopt(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Replaces the list.
    ///
    /// # Errors
    /// `write(2)`'s.
    pub fn write(&self, numbers: &[u16]) -> io::Result<()> {
        let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        pwrite(&self.0, &bytes, 0)?;
        Ok(ftruncate(&self.0, bytes.len() as u64)?)
    }

    /// The list as last written.
    ///
    /// # Errors
    /// `read(2)`'s.
    pub fn read(&self) -> io::Result<Vec<u16>> {
        let mut bytes = vec![0; N_MAX * 2];
        let n = pread(&self.0, &mut bytes, 0)?;
        Ok(bytes[..n].chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect())
    }
}

/// Memory with this text, for a process that comes later; `name` shows in `/proc/PID/fd`.
///
/// # Errors
/// `memfd_create(2)`'s, `write(2)`'s.
pub fn filled(name: &str, text: &[u8]) -> io::Result<OwnedFd> {
    let memory = File::from(memfd_create(name, MemfdFlags::CLOEXEC)?);
    memory.write_all_at(text, 0)?;
    Ok(memory.into())
}

/// The text that another process filled it with.
///
/// # Errors
/// `read(2)`'s.
pub fn text_of(memory: OwnedFd) -> io::Result<Vec<u8>> {
    let mut memory = File::from(memory);
    memory.rewind()?;
    let mut text = Vec::new();
    memory.read_to_end(&mut text)?;
    Ok(text)
}

/// The text in memory that an earlier program of this process has left open under this number. It is
/// closed.
///
/// # Errors
/// The system's.
pub fn text_at(number: RawFd) -> io::Result<Vec<u8>> {
    if number < 3 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: only borrowed, to look at it; a number that is not open is an error of fcntl(2).
    let memory = rustix::io::fcntl_dupfd_cloexec(unsafe { BorrowedFd::borrow_raw(number) }, 3)?;
    // SAFETY: it is open, and was left open by the program before this one for this call alone.
    drop(unsafe { OwnedFd::from_raw_fd(number) });
    text_of(memory)
}

impl AsFd for Note {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_adopts_the_descriptor_reads_the_last_list() {
        let note = Note::new("test").unwrap();
        note.write(&[3, 1, 2]).unwrap();
        note.write(&[2, 1]).unwrap();
        let other = Note::adopt(note.as_fd().try_clone_to_owned().unwrap());
        assert_eq!(other.read().unwrap(), [2, 1]);
    }
}
