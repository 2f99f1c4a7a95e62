//! The signals that a keeper heeds.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1};

/// Signals wake the loop through a socket and are counted beside it.
#[derive(Debug)]
pub struct Signals {
    wake: UnixStream,
    n_stops: Arc<AtomicUsize>,
    n_reloads: Arc<AtomicUsize>,
    n_leaves: Arc<AtomicUsize>,
    n_stops_seen: usize,
    n_reloads_seen: usize,
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

impl Signals {
    /// Listens to those that a keeper heeds.
    pub fn new() -> io::Result<Self> {
        let (wake, write) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let n_stops = Arc::new(AtomicUsize::new(0));
        let n_reloads = Arc::new(AtomicUsize::new(0));
        let n_leaves = Arc::new(AtomicUsize::new(0));
        for signal in [SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1] {
            signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
        }
        let counts =
            [(SIGTERM, &n_stops), (SIGINT, &n_stops), (SIGHUP, &n_reloads), (SIGUSR1, &n_leaves)];
        for (signal, count) in counts {
            counted(signal, Arc::clone(count))?;
        }
        Ok(Self { wake, n_stops, n_reloads, n_leaves, n_stops_seen: 0, n_reloads_seen: 0 })
    }

    /// Empties the socket.
    pub fn drain(&self) {
        let mut buffer = [0; 64];
        while rustix::io::read(&self.wake, &mut buffer).is_ok_and(|n| n > 0) {}
    }

    /// Whether it was asked to leave, and everything else to go on.
    pub fn leave_asked(&self) -> bool {
        self.n_leaves.load(Ordering::Relaxed) > 0
    }

    /// Whether a stop was asked for since the last time.
    pub fn stop_asked(&mut self) -> bool {
        let n = self.n_stops.load(Ordering::Relaxed);
        std::mem::replace(&mut self.n_stops_seen, n) != n
    }

    /// Whether a reload was asked for since the last time.
    pub fn reload_asked(&mut self) -> bool {
        let n = self.n_reloads.load(Ordering::Relaxed);
        std::mem::replace(&mut self.n_reloads_seen, n) != n
    }
}

fn counted(signal: i32, count: Arc<AtomicUsize>) -> io::Result<()> {
    crate::os::proc::on_signal(signal, move || {
        count.fetch_add(1, Ordering::Relaxed);
    })
}
