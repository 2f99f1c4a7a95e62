//! The way of what a process writes: from its pipe through a [`Spool`] to its log, in whole lines.
//!
//! A supervisor may be killed anywhere on it, and no line is lost, written twice or torn: the spool
//! outlives it at the keeper, and has where the log ended before lines that may be in it or not.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

use crate::os::ready;
use crate::os::spool::Spool;
use crate::supervisor::processes::log_files::{LINE_BYTES_MAX, SharedWriter};
use crate::supervisor::spawn;

/// What is read of a pipe in one go.
const CHUNK_BYTES: usize = 64 * 1024;

/// What is written to the log in one go: more than its longest line.
const PIECE_BYTES: usize = 256 * 1024;

/// Between tries to write to a log that waits for its disk.
const RETRY: Duration = Duration::from_secs(1);

/// What is read at the end: more than a pipe holds.
const N_LAST_PIECES: u32 = 64;

/// Reads a pipe until it is dropped. Nothing wakes up while nothing is written.
#[derive(Debug)]
pub(crate) struct Pump {
    feed: Rc<RefCell<Feed>>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Feed {
    fifo: OwnedFd,
    spool: Spool,
    instance: u16,
    writer: SharedWriter,
    /// The log cannot be written, and its service waits for that.
    waits: bool,
}

/// What becomes of a line that has no end yet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    Waits,
    Goes,
}

impl Pump {
    /// Begins to read.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn begin(
        fifo: &OwnedFd,
        spool: Spool,
        instance: u16,
        writer: SharedWriter,
    ) -> io::Result<Self> {
        // An open file of our own: O_NONBLOCK on the other one would reach the service's stdout.
        let own: OwnedFd = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(format!("/proc/self/fd/{}", fifo.as_raw_fd()))?
            .into();
        let feed = Feed::take_up(own.try_clone()?, spool, instance, writer)?;
        let (feed, own) = (Rc::new(RefCell::new(feed)), ready::readable(own)?);
        let fed = Rc::clone(&feed);
        let task = spawn::local(async move {
            if let Err(error) = read_all(&own, &fed).await {
                tracing::error!(%error, "reading a service's output");
            }
        });
        Ok(Self { feed, task })
    }

    /// Goes on where a supervisor before this one was, if the keeper has the pipe.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn resume(
        (fifo, spool): (Option<OwnedFd>, Option<OwnedFd>),
        instance: u16,
        writer: SharedWriter,
    ) -> io::Result<Option<Self>> {
        let Some(fifo) = fifo else { return Ok(None) };
        let spool = spool.map_or_else(Spool::new, Spool::adopt)?;
        Self::begin(&fifo, spool, instance, writer).map(Some)
    }

    /// Reads what is left: its processes have ended.
    pub(crate) fn finish(self) {
        let mut feed = self.feed.borrow_mut();
        // Somebody else may have it open, and write without end.
        let mut pieces = 0..N_LAST_PIECES;
        while pieces.next().is_some() && feed.take().is_ok_and(|n| n > 0) {}
        loop {
            match feed.write(Rest::Goes) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    tracing::error!(%error, "reading the end of a service's output");
                    break;
                }
            }
        }
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read_all(own: &AsyncFd<OwnedFd>, feed: &RefCell<Feed>) -> io::Result<()> {
    loop {
        // What came in while there was no supervisor, a piece at a time.
        while feed.borrow_mut().write(Rest::Waits)? > 0 {
            tokio::task::yield_now().await;
        }
        if feed.borrow().waits {
            tokio::time::sleep(RETRY).await;
            continue;
        }
        let mut ready = own.readable().await?;
        match ready.try_io(|_| feed.borrow_mut().take()) {
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(Err(error)) => return Err(error),
            Ok(Ok(_)) | Err(_) => {}
        }
        // A service that logs a lot does not keep the others waiting.
        tokio::task::yield_now().await;
    }
}

impl Feed {
    /// Goes on where a supervisor before this one was: what it was about to write is written whole,
    /// whatever of it is in the log.
    fn take_up(
        fifo: OwnedFd,
        spool: Spool,
        instance: u16,
        writer: SharedWriter,
    ) -> io::Result<Self> {
        if let Some(at) = spool.writing() {
            writer.borrow_mut().cut(at)?;
        }
        let mut feed = Self { fifo, spool, instance, writer, waits: false };
        feed.write(Rest::Waits)?;
        Ok(feed)
    }

    /// Takes a piece over; 0 when there is nobody left to write.
    fn take(&mut self) -> io::Result<usize> {
        let n = self.spool.fill(&self.fifo, CHUNK_BYTES)?;
        self.write(Rest::Waits)?;
        Ok(n)
    }

    /// Writes a piece of what was read. Returns its length; 0 when nothing can be written.
    fn write(&mut self, rest: Rest) -> io::Result<usize> {
        let bytes = self.spool.unread(PIECE_BYTES)?;
        let n = match bytes.iter().rposition(|byte| *byte == b'\n') {
            _ if rest == Rest::Goes => bytes.len(),
            Some(end) => end + 1,
            None if bytes.len() >= LINE_BYTES_MAX => bytes.len(),
            None => 0,
        };
        if n == 0 {
            return Ok(0);
        }
        let spool = &mut self.spool;
        let written = self.writer.borrow_mut().append_at(self.instance, &bytes[..n], &mut |at| {
            if let Err(error) = spool.begin_writing(at) {
                tracing::error!(%error, "noting where output is written");
            }
        });
        self.waits = written.is_err();
        if self.waits {
            return Ok(0);
        }
        self.spool.advance(n)?;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;

    use super::*;
    use crate::config::model::Full;
    use crate::core::ids::ReleaseId;
    use crate::supervisor::processes::log_files::{LogFiles, tail};

    #[test]
    fn lines_that_a_killed_supervisor_had_written_in_part_are_there_once_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let logs = || LogFiles::new(dir.path().to_owned(), Full::Drop);
        let path = logs().path(ReleaseId(1));
        let (read, write) = io::pipe().unwrap();
        let mut spool = Spool::new().unwrap();
        logs().writer(ReleaseId(1)).borrow_mut().append_at(0, b"zero\n", &mut |_| {}).unwrap();
        (&write).write_all(b"one\ntwo\nthree").unwrap();
        spool.fill(&read, 1000).unwrap();
        spool.begin_writing(std::fs::metadata(&path).unwrap().len()).unwrap();
        // It is killed in the middle of its write.
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"2026-11-30T00:00:00.000Z 0 one\n2026-11-30T00:0").unwrap();
        let kept = spool.as_fd().try_clone_to_owned().unwrap();
        let spool = Spool::adopt(kept).unwrap();
        let writer = logs().writer(ReleaseId(1));
        let mut feed = Feed::take_up(read.into(), spool, 0, writer).unwrap();
        let texts = || {
            let lines = tail(&path, 100).into_iter();
            lines.map(|line| line.split_once(' ').unwrap().1.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(texts(), ["0 zero", "0 one", "0 two"]);
        (&write).write_all(b" and four\n").unwrap();
        feed.take().unwrap();
        assert_eq!(texts(), ["0 zero", "0 one", "0 two", "0 three and four"]);
    }

    #[test]
    fn what_waits_for_a_full_disk_is_written_once_there_is_room() {
        let dir = tempfile::tempdir().unwrap();
        let logs = LogFiles::new(dir.path().join("logs"), Full::Block);
        let (read, write) = io::pipe().unwrap();
        let writer = logs.writer(ReleaseId(1));
        let mut feed = Feed::take_up(read.into(), Spool::new().unwrap(), 0, writer).unwrap();
        (&write).write_all(b"one\ntwo\n").unwrap();
        // There is no directory.
        feed.take().unwrap();
        assert!(feed.waits);
        std::fs::create_dir(dir.path().join("logs")).unwrap();
        assert_eq!(feed.write(Rest::Waits).unwrap(), 8);
        assert!(!feed.waits);
        assert_eq!(tail(&logs.path(ReleaseId(1)), 10).len(), 2);
    }
}
