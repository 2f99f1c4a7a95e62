//! A new program in the place of the keeper, until its supervisor is ready.

use std::os::fd::OwnedFd;

use crate::core::time::Tick;

/// A program that became the keeper: it stays when its supervisor is ready in time.
#[derive(Debug)]
pub(super) struct OnTrial {
    before: OwnedFd,
    until: Tick,
    has_begun: bool,
}

impl OnTrial {
    /// From now on, until then.
    pub(super) fn of(before: OwnedFd, until: Tick) -> Self {
        Self { before, until, has_begun: false }
    }

    /// The program that returns.
    pub(super) fn before(self) -> OwnedFd {
        self.before
    }

    /// The end of its time.
    pub(super) fn until(&self) -> Tick {
        self.until
    }

    /// Its own supervisor runs, or has run.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// A supervisor has ended: the one before, or its own.
    pub(super) fn has_failed(&mut self) -> bool {
        std::mem::replace(&mut self.has_begun, true)
    }
}
