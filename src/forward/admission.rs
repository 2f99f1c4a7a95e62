//! How many connections may be open, over all workers.
//!
//! A worker that may not accept takes the listeners out of its epoll, so that waiting connections
//! do not wake it, and registers here; a worker that ends a connection wakes it.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::desk::Desk;

/// So many connections more make it worth to wake another worker.
const CLEARLY: usize = 2;

/// The count that all workers share.
#[derive(Debug)]
pub struct Admission {
    n_most: usize,
    n_open: AtomicUsize,
    /// Workers that wait for an end.
    n_deaf: AtomicUsize,
    /// One of each worker.
    desks: Vec<Desk>,
}

impl Admission {
    /// At most so many connections.
    pub const fn new(n_most: usize, desks: Vec<Desk>) -> Self {
        Self { n_most, n_open: AtomicUsize::new(0), n_deaf: AtomicUsize::new(0), desks }
    }

    /// Gives a client that has a place to a worker that has clearly less to do; it comes back when
    /// there is no such worker.
    pub fn pass(&self, client: OwnedFd, own: &Desk) -> Option<OwnedFd> {
        let n_own = own.n_open();
        if n_own < CLEARLY {
            return Some(client);
        }
        match self.desks.iter().min_by_key(|desk| desk.n_open()) {
            Some(idlest) if idlest.n_open() + CLEARLY <= n_own => idlest.put(client),
            _ => Some(client),
        }
    }

    /// Gives a client that has a place to the worker that has least to do.
    pub fn deal(&self, mut client: OwnedFd) {
        let there = || self.desks.iter().filter(|desk| !desk.is_left());
        while let Some(idlest) = there().min_by_key(|desk| desk.n_open()) {
            match idlest.put(client) {
                Some(back) => client = back,
                None => return,
            }
        }
    }

    /// A worker does not begin: what others have given it goes to them.
    pub fn close(&self, desk: &Desk) {
        desk.close().into_iter().for_each(|client| self.deal(client));
    }

    /// The desk of each worker.
    pub fn desks(&self) -> &[Desk] {
        &self.desks
    }

    /// Takes a place, if there is one.
    pub fn enter(&self) -> bool {
        let next = |n| (n < self.n_most).then_some(n + 1);
        self.n_open.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next).is_ok()
    }

    /// Gives a place back without having used it.
    pub fn step_back(&self) {
        self.n_open.fetch_sub(1, Ordering::SeqCst);
    }

    /// Gives a place back, and wakes the workers if one of them waits for a place.
    pub fn leave(&self) {
        self.step_back();
        if self.n_deaf.load(Ordering::SeqCst) > 0 {
            self.desks.iter().for_each(Desk::ring);
        }
    }

    /// A worker waits for a place. True when there is one: an end just before did not wake it.
    pub fn become_deaf(&self) -> bool {
        self.n_deaf.fetch_add(1, Ordering::SeqCst);
        self.n_open.load(Ordering::SeqCst) < self.n_most
    }

    /// A worker does not wait any more.
    pub fn hear_again(&self) {
        self.n_deaf.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_enters_when_it_is_full_until_somebody_leaves() {
        let admission = Admission::new(2, Vec::new());
        assert!(admission.enter() && admission.enter());
        assert!(!admission.enter());
        assert!(!admission.become_deaf());
        admission.leave();
        assert!(admission.become_deaf(), "a place is free by now");
        assert!(admission.enter());
    }

    #[test]
    fn what_lies_with_a_worker_that_does_not_begin_goes_to_the_others() {
        let fd = || rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        let admission = Admission::new(9, (0..3).map(|_| Desk::new(fd())).collect());
        (0..3).for_each(|_| admission.deal(fd()));
        admission.close(&admission.desks()[0]);
        admission.deal(fd());
        let lie = || admission.desks().iter().map(|desk| desk.take().len()).collect::<Vec<_>>();
        assert_eq!(lie(), [0, 2, 2]);
        assert!(admission.desks()[0].is_left());
    }
}
