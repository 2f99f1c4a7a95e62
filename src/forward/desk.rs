//! A worker's desk: how much it has to do, and the clients that others have put there.
//!
//! The kernel wakes the worker that went to sleep last, so that one would end up with most of the
//! long connections; a worker that accepts a client too many gives it to another.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// More than any worker has: nobody looks at one that has gone for the one with least to do.
const LEFT: usize = usize::MAX / 2;

/// The desk of one worker.
#[derive(Debug)]
pub struct Desk {
    /// Connections it has, and clients that lie here.
    n_open: AtomicUsize,
    /// None when the worker has gone.
    clients: Mutex<Option<Vec<OwnedFd>>>,
    /// An eventfd.
    wake: OwnedFd,
}

impl Desk {
    /// The empty desk of a worker that this eventfd wakes.
    pub const fn new(wake: OwnedFd) -> Self {
        Self { n_open: AtomicUsize::new(0), clients: Mutex::new(Some(Vec::new())), wake }
    }

    /// The eventfd, to be heard.
    pub const fn bell(&self) -> &OwnedFd {
        &self.wake
    }

    /// Wakes the worker.
    pub fn ring(&self) {
        // Refused after 2^64 - 2 unread wakes: the worker is awake then.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// How much there is to do.
    pub fn n_open(&self) -> usize {
        self.n_open.load(Ordering::Relaxed)
    }

    /// The worker begins with a client of its own.
    pub fn begin(&self) {
        self.n_open.fetch_add(1, Ordering::Relaxed);
    }

    /// The worker has done with one.
    pub fn end(&self) {
        self.n_open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Puts a client here; it comes back when the worker has gone.
    pub fn put(&self, client: OwnedFd) -> Option<OwnedFd> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(lying) = clients.as_mut() else { return Some(client) };
        lying.push(client);
        self.begin();
        drop(clients);
        self.ring();
        None
    }

    /// Every client that lies here.
    pub fn take(&self) -> Vec<OwnedFd> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The worker goes, unless there is a client here.
    pub fn leave(&self) -> bool {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let leaves = clients.take_if(|lying| lying.is_empty()).is_some();
        if leaves {
            self.n_open.store(LEFT, Ordering::Relaxed);
        }
        leaves
    }

    /// The worker has never begun: what lies here is for others.
    pub fn close(&self) -> Vec<OwnedFd> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        self.n_open.store(LEFT, Ordering::Relaxed);
        clients.take().unwrap_or_default()
    }

    /// Whether the worker has gone.
    pub fn is_left(&self) -> bool {
        self.n_open() >= LEFT
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{EventfdFlags, eventfd};

    #[test]
    fn nobody_leaves_a_client_on_the_desk() {
        let fd = || eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let desk = Desk::new(fd());
        assert!(desk.put(fd()).is_none());
        assert!(!desk.leave());
        assert_eq!((desk.take().len(), desk.n_open()), (1, 1));
        desk.end();
        assert!(desk.leave());
        assert!(desk.put(fd()).is_some(), "it comes back");
        assert!(desk.is_left());
    }
}
