//! What a client can follow: an operation, or a set of them. Late watchers see it from its
//! beginning.

use tokio::sync::watch;

use crate::api::Event;
use crate::core::time::Tick;

/// Something that tells events until its result.
pub trait Watched {
    /// Changes with each new event.
    fn grew(&self) -> watch::Receiver<usize>;
    /// The events from this one on.
    fn told_from(&self, index: usize) -> Vec<Event>;
    /// The phase it is in, and since when.
    fn phase(&self) -> (String, Tick);
}
