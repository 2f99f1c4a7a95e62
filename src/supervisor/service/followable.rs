//! What a client can follow: an operation, or a set of them. Late watchers see it from its
//! beginning.

use crate::core::time::Tick;
use crate::supervisor::service::event_log::EventLog;

/// Something that publishes events until its result.
pub(crate) trait Watched {
    /// Its events.
    fn events(&self) -> &EventLog;
    /// The phase it is in, and since when.
    fn phase(&self) -> (String, Tick);
    /// Whether it waits for promote or abort.
    fn is_held(&self) -> bool;
}
