//! A worker's listeners: heard while it may accept, left to others while it may not.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};

use super::admission::Admission;
use crate::os::{clock, listen};

/// Tokens of listeners are their index above this one.
pub const FIRST_TOKEN: u64 = 1 << 62;

/// A worker that got no descriptor for a new connection tries again after this, if no end of a
/// connection wakes it before.
const DEAF_MS: u64 = 250;

/// Whether new connections wake the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hearing {
    Open,
    /// There is no place, or until then no descriptor.
    Deaf {
        until_ms: Option<u64>,
    },
    /// For good.
    Closed,
}

/// What came of listening.
#[derive(Debug)]
pub enum Heard {
    /// A connection, which has a place.
    Client(OwnedFd),
    /// No connection waits.
    Nobody,
    /// Accepting failed this time; a connection may be waiting.
    Missed,
    /// It hears nothing for now, or for good.
    Deaf,
}

/// The listeners of one worker, its own copies. They are never shut down: their queues belong to
/// the process that accepts next.
#[derive(Debug)]
pub struct Ears<'a> {
    listeners: Vec<OwnedFd>,
    /// Which of them another process has shut down.
    gone: Vec<usize>,
    admission: &'a Admission,
    hearing: Hearing,
}

impl<'a> Ears<'a> {
    /// Ears that hear.
    ///
    /// # Errors
    /// `epoll_ctl(2)`'s.
    pub fn open(
        listeners: Vec<OwnedFd>,
        admission: &'a Admission,
        epoll: impl AsFd,
    ) -> Result<Self, Errno> {
        let ears = Self { listeners, gone: Vec::new(), admission, hearing: Hearing::Open };
        ears.register(epoll)?;
        Ok(ears)
    }

    /// One worker is woken for a connection, not all (`EPOLLEXCLUSIVE`, Linux 4.5).
    fn register(&self, epoll: impl AsFd) -> Result<(), Errno> {
        let wanted = EventFlags::IN | EventFlags::EXCLUSIVE;
        for (index, listener) in self.listeners.iter().enumerate() {
            if !self.gone.contains(&index) {
                let data = EventData::new_u64(FIRST_TOKEN + index as u64);
                epoll::add(&epoll, listener, data, wanted)?;
            }
        }
        Ok(())
    }

    fn unregister(&self, epoll: impl AsFd) {
        for listener in &self.listeners {
            // One that is gone is not there.
            let _ = epoll::delete(&epoll, listener);
        }
    }

    /// How many listeners there are.
    pub const fn n_listeners(&self) -> usize {
        self.listeners.len()
    }

    /// Whether a connection waits to be accepted. When that cannot be read, accepting is tried.
    pub fn is_somebody_at(&self, index: usize) -> bool {
        self.listeners.get(index).is_some_and(|own| listen::is_readable(own).unwrap_or(true))
    }

    /// Accepts one connection, which has a place then: connections that are left wake this worker
    /// again, or an idle one.
    pub fn accept(&mut self, index: usize, epoll: impl AsFd) -> Heard {
        let Some(listener) = self.listeners.get(index) else { return Heard::Nobody };
        if self.hearing != Hearing::Open {
            return Heard::Deaf;
        }
        if !self.admission.enter() {
            return self.become_deaf(None, epoll);
        }
        let errno = match accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(client) => return Heard::Client(client),
            Err(errno) => errno,
        };
        self.admission.step_back();
        match errno {
            Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => {
                self.become_deaf(Some(clock::tick().0 + DEAF_MS), epoll)
            }
            Errno::INVAL => {
                if !self.gone.contains(&index) {
                    tracing::warn!("listener {index} was shut down by another process");
                    self.gone.push(index);
                    let _ = epoll::delete(epoll, listener);
                }
                Heard::Nobody
            }
            // Another worker was faster.
            Errno::AGAIN => Heard::Nobody,
            // The client has left, or its network.
            _ => Heard::Missed,
        }
    }

    /// Hears nothing until it is told to: connections wait in the queue, where another process may
    /// get them.
    pub fn rest(&mut self, epoll: impl AsFd) {
        match self.hearing {
            Hearing::Open => {
                self.unregister(epoll);
                self.admission.become_deaf();
            }
            Hearing::Deaf { .. } => {}
            Hearing::Closed => return,
        }
        self.hearing = Hearing::Deaf { until_ms: None };
    }

    fn become_deaf(&mut self, until_ms: Option<u64>, epoll: impl AsFd) -> Heard {
        self.unregister(&epoll);
        self.hearing = Hearing::Deaf { until_ms };
        if self.admission.become_deaf() && until_ms.is_none() {
            self.hear_again(epoll);
        }
        if self.hearing == Hearing::Open { Heard::Missed } else { Heard::Deaf }
    }

    /// A connection has ended, or it is time to try again.
    pub fn hear_again(&mut self, epoll: impl AsFd) {
        if let Hearing::Deaf { .. } = self.hearing {
            if self.register(&epoll).is_ok() {
                self.admission.hear_again();
                self.hearing = Hearing::Open;
            } else {
                self.unregister(epoll);
                self.hearing = Hearing::Deaf { until_ms: Some(clock::tick().0 + DEAF_MS) };
            }
        }
    }

    /// When to try again.
    pub const fn deaf_until_ms(&self) -> Option<u64> {
        match self.hearing {
            Hearing::Deaf { until_ms } => until_ms,
            Hearing::Open | Hearing::Closed => None,
        }
    }

    /// Hears no more, and lets the listeners go: the next process to get one has it alone.
    pub fn close(&mut self, epoll: impl AsFd) {
        match std::mem::replace(&mut self.hearing, Hearing::Closed) {
            Hearing::Open => self.unregister(epoll),
            Hearing::Deaf { .. } => self.admission.hear_again(),
            Hearing::Closed => {}
        }
        self.listeners.clear();
    }
}
