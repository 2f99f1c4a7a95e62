//! What the keeper is asked by signals.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1};

/// Signals wake the loop through a socket and are counted beside it.
#[derive(Debug)]
pub(super) struct Signals {
    wake: UnixStream,
    n_stops: Arc<AtomicUsize>,
    n_reloads: Arc<AtomicUsize>,
    n_leaves: Arc<AtomicUsize>,
    n_stops_seen: usize,
    n_reloads_seen: usize,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
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

    /// What is polled.
    pub(super) fn wake(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Something was asked for that is not taken up yet.
    pub(super) fn are_waiting(&self) -> bool {
        self.leave_asked()
            || self.n_stops.load(Ordering::Relaxed) != self.n_stops_seen
            || self.n_reloads.load(Ordering::Relaxed) != self.n_reloads_seen
    }

    pub(super) fn drain(&self) {
        let mut buffer = [0; 64];
        while rustix::io::read(&self.wake, &mut buffer).is_ok_and(|n| n > 0) {}
    }

    pub(super) fn leave_asked(&self) -> bool {
        self.n_leaves.load(Ordering::Relaxed) > 0
    }

    pub(super) fn stop_asked(&mut self) -> bool {
        let n = self.n_stops.load(Ordering::Relaxed);
        std::mem::replace(&mut self.n_stops_seen, n) != n
    }

    pub(super) fn reload_asked(&mut self) -> bool {
        let n = self.n_reloads.load(Ordering::Relaxed);
        std::mem::replace(&mut self.n_reloads_seen, n) != n
    }
}

fn counted(signal: i32, count: Arc<AtomicUsize>) -> io::Result<()> {
    crate::os::proc::on_signal(signal, move || {
        count.fetch_add(1, Ordering::Relaxed);
    })
}
