//! What a program says of itself at `NOTIFY_SOCKET`, and when it was to be heard of.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use tokio::sync::Notify;

use crate::core::watchdog::Watchdog;

/// Of one process.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// How it is (`STATUS=`).
    pub status: RefCell<Option<String>>,
    watchdog: Cell<Option<Watchdog>>,
    stirs: Notify,
}

impl Heard {
    /// It is watched from here on.
    pub(crate) fn watch(&self, dog: Watchdog) {
        self.watchdog.set(Some(dog));
    }

    /// When it was to be heard of.
    pub(crate) fn watchdog(&self) -> Option<Watchdog> {
        self.watchdog.get()
    }

    /// Its watchdog is another one from here on, if it has one.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Watchdog)) {
        let mut dog = self.watchdog.get();
        dog.as_mut().map(change);
        self.watchdog.set(dog);
    }

    /// Resolves when so much time is over, or [`Self::stir`] was called.
    pub(crate) async fn stirred(&self, limit: Duration) {
        drop(tokio::time::timeout(limit, self.stirs.notified()).await);
    }

    /// Its watchdog is to be looked at at once.
    pub(crate) fn stir(&self) {
        self.stirs.notify_one();
    }
}
