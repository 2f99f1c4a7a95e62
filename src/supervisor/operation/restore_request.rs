//! What is wanted of a restore, and how whoever wants it hears of it.

use tokio::sync::mpsc;

use crate::api::{Event, PhaseState};
use crate::core::data_users::Allowed;
use crate::core::time::Tick;
use crate::supervisor::service::outcome::phase_event;

/// The channel for the events of a restore. A closed channel does not affect the restore.
pub(crate) type Events = mpsc::UnboundedSender<Event>;

/// Tells the client, if it is still there.
pub(crate) fn tell_event(events: &Events, event: Event) {
    if events.send(event).is_err() {
        tracing::debug!("the client of a restore is gone");
    }
}

/// What is wanted.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    /// Which backup; the newest of the state before the trouble when absent.
    pub backup: Option<String>,
    /// Only what it would do.
    pub dry_run: bool,
    /// The restore was confirmed.
    pub yes: bool,
    /// Also when the present cannot be backed up.
    pub unsaved: bool,
    /// Also when more is lost than was announced.
    pub any_loss: bool,
    /// Of those that use the same data.
    pub allowed: Allowed,
    /// The list of what is lost that somebody has agreed to.
    pub seen: Option<Vec<String>>,
}

/// Tells how a phase of a restore ended.
pub(crate) fn tell(events: &Events, name: &str, state: PhaseState, begun: Tick, detail: &str) {
    tell_event(events, phase_event(name, state, begun, detail));
}
