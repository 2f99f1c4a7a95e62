//! What of the events was shown.

use crate::api::Event;

/// Tells phases that were shown from those that were not, over a change of supervisors.
#[derive(Debug, Default)]
pub struct Seen {
    shown: Vec<Event>,
    replayed: usize,
}

impl Seen {
    /// Whether an event is new.
    pub fn is_new(&mut self, event: &Event) -> bool {
        let lasting = matches!(
            event,
            Event::Set { .. } | Event::Operation { .. } | Event::Phase { .. } | Event::Member(_)
        );
        if !lasting {
            return true;
        }
        if self.shown[self.replayed..].contains(event) {
            self.replayed += 1;
            return false;
        }
        // What comes now was never shown; a replay has no more to say.
        self.shown.push(event.clone());
        self.replayed = self.shown.len();
        true
    }

    /// A replay begins.
    pub fn replay(&mut self) {
        self.replayed = 0;
    }
}
