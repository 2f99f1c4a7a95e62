//! Stderr that nobody waits for: what a full pipe, socket or stopped terminal does not take is
//! dropped and counted.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::net::SendFlags;

static WAY: OnceLock<Way> = OnceLock::new();
static N_DROPPED: AtomicU64 = AtomicU64::new(0);

/// The writer.
#[derive(Debug)]
pub struct Stderr;

/// How it is written to.
#[derive(Debug)]
enum Way {
    /// systemd's.
    Socket,
    /// An open file of our own: O_NONBLOCK on the other one would reach whoever shares it.
    Own(File),
    /// A file.
    Plain,
}

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let stderr = io::stderr();
        let stderr = stderr.as_fd();
        let way = WAY.get_or_init(|| Way::to(stderr));
        let n = N_DROPPED.swap(0, Ordering::Relaxed);
        let missing = format!("{n} messages are missing here: stderr was full\n");
        if (n > 0 && way.put(stderr, missing.as_bytes()).is_err()) || way.put(stderr, line).is_err()
        {
            N_DROPPED.fetch_add(n + 1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Way {
    fn to(fd: BorrowedFd<'_>) -> Self {
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let Ok(kind) = std::fs::metadata(&path).map(|meta| meta.file_type()) else {
            return Self::Plain;
        };
        if kind.is_socket() {
            return Self::Socket;
        }
        let own = || {
            File::options().write(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)
        };
        match kind.is_fifo() || kind.is_char_device() {
            true => own().map_or(Self::Plain, Self::Own),
            false => Self::Plain,
        }
    }

    /// Writes without waiting; an error when not all of it found room.
    fn put(&self, fd: BorrowedFd<'_>, mut line: &[u8]) -> io::Result<()> {
        while !line.is_empty() {
            let n = match self {
                Self::Socket => {
                    rustix::net::send(fd, line, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?
                }
                Self::Own(own) => rustix::io::write(own.as_fd(), line)?,
                Self::Plain => rustix::io::write(fd, line)?,
            };
            line = line.get(n..).filter(|_| n > 0).ok_or(ErrorKind::WriteZero)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn check(read: OwnedFd, write: OwnedFd) {
        let way = Way::to(write.as_fd());
        let full = [b'x'; 8192];
        while way.put(write.as_fd(), &full).is_ok() {}
        assert!(way.put(write.as_fd(), &full).is_err());
        let mut taken = vec![0; 16 * 1024 * 1024];
        rustix::io::read(&read, &mut taken).unwrap();
        way.put(write.as_fd(), b"again\n").unwrap();
    }

    #[test]
    fn a_full_pipe_or_socket_that_nobody_reads_keeps_nobody_waiting() {
        let (read, write) = io::pipe().unwrap();
        check(read.into(), write.into());
        let (read, write) = UnixStream::pair().unwrap();
        check(read.into(), write.into());
    }
}
