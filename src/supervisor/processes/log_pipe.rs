//! The way of what a process writes: from its FIFO through a [`Spool`] to its log, in whole lines.
//!
//! A supervisor may be killed anywhere on it, and no line is lost, written twice or torn: the spool
//! outlives it at the keeper, and has where the log ended before lines that may be in it or not.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::rc::Rc;

use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

use crate::os::ready;
use crate::os::spool::Spool;
use crate::supervisor::processes::log_files::{LINE_BYTES_MAX, SharedWriter};
use crate::supervisor::spawn;

/// What is read of a FIFO in one go.
const CHUNK_BYTES: usize = 64 * 1024;

/// What is read at the end: more than a pipe holds.
const N_LAST_PIECES: u32 = 64;

/// Reads a FIFO until it is dropped. Nothing wakes up while nothing is written.
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
        if let Some(at) = spool.writing() {
            writer.borrow_mut().cut(at)?;
        }
        let mut feed = Feed { fifo: own.try_clone()?, spool, instance, writer };
        feed.write(Rest::Waits)?;
        let (feed, own) = (Rc::new(RefCell::new(feed)), ready::readable(own)?);
        let fed = Rc::clone(&feed);
        let task = spawn::local(async move {
            if let Err(error) = read_all(&own, &fed).await {
                tracing::error!(%error, "reading a service's output");
            }
        });
        Ok(Self { feed, task })
    }

    /// Goes on where a supervisor before this one was, if the keeper has the FIFO.
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
        if let Err(error) = feed.write(Rest::Goes) {
            tracing::error!(%error, "reading the end of a service's output");
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
    /// Takes a piece over; 0 when there is nobody left to write.
    fn take(&mut self) -> io::Result<usize> {
        let n = self.spool.fill(&self.fifo, CHUNK_BYTES)?;
        self.write(Rest::Waits)?;
        Ok(n)
    }

    fn write(&mut self, rest: Rest) -> io::Result<()> {
        let bytes = self.spool.unread()?;
        let n = match bytes.iter().rposition(|byte| *byte == b'\n') {
            _ if rest == Rest::Goes => bytes.len(),
            Some(end) => end + 1,
            None if bytes.len() >= LINE_BYTES_MAX => bytes.len(),
            None => 0,
        };
        if n == 0 {
            return Ok(());
        }
        let spool = &mut self.spool;
        self.writer.borrow_mut().append_at(self.instance, &bytes[..n], &mut |at| {
            if let Err(error) = spool.begin_writing(at) {
                tracing::error!(%error, "noting where output is written");
            }
        });
        self.spool.advance(n)
    }
}
