//! The tasks that look after a service for as long as it is managed: its health at rest, its drills, what
//! its configuration wants done by itself, what its programs say.

use std::cell::RefCell;

use tokio::task::JoinHandle;

/// Each of them holds the service, so a service goes only when they are dismissed.
#[derive(Debug, Default)]
pub(crate) struct Attendants(RefCell<Vec<JoinHandle<()>>>);

impl Attendants {
    /// One more.
    pub(crate) fn add(&self, task: JoinHandle<()>) {
        self.0.borrow_mut().push(task);
    }

    /// Nothing of the service is left to look after.
    pub(crate) fn dismiss(&self) {
        self.0.take().iter().for_each(JoinHandle::abort);
    }
}
