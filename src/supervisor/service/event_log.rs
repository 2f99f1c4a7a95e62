//! The events of an operation or a set, from its beginning, for clients that come at any time.
//!
//! Held in memory alone: what must outlive the supervisor is in the journal.

use std::cell::RefCell;

use tokio::sync::watch;

use crate::api::Event;

/// Events in order, and a signal at each new event.
#[derive(Debug)]
pub struct EventLog {
    events: RefCell<Vec<Event>>,
    n_told: watch::Sender<usize>,
}

impl EventLog {
    /// An event for all who watch.
    pub fn tell(&self, event: Event) {
        // Progress replaces progress: a late watcher needs the last number only.
        let mut events = self.events.borrow_mut();
        let is_progress = |event: &Event| matches!(event, Event::Progress { .. });
        if is_progress(&event) && events.last().is_some_and(is_progress) {
            events.pop();
        }
        events.push(event);
        drop(events);
        self.n_told.send_modify(|n| *n += 1);
    }

    /// The events from this index on.
    pub fn from(&self, index: usize) -> Vec<Event> {
        self.events.borrow().iter().skip(index).cloned().collect()
    }

    /// Changes with each new event.
    pub fn watch(&self) -> watch::Receiver<usize> {
        self.n_told.subscribe()
    }
}

impl Default for EventLog {
    fn default() -> Self {
        Self { events: RefCell::default(), n_told: watch::channel(0).0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(bytes: u64) -> Event {
        Event::Progress { bytes, total: None }
    }

    fn heartbeat(ms: u64) -> Event {
        Event::Heartbeat { phase: "bake".to_owned(), ms }
    }

    #[test]
    fn a_late_watcher_gets_all_events_in_order() {
        let log = EventLog::default();
        log.tell(heartbeat(1));
        log.tell(heartbeat(2));
        assert_eq!(log.from(0), [heartbeat(1), heartbeat(2)]);
        assert_eq!(log.from(1), [heartbeat(2)]);
        assert_eq!(log.from(2), []);
    }

    #[test]
    fn progress_replaces_the_progress_just_before_it() {
        let log = EventLog::default();
        for event in [progress(1), progress(2), heartbeat(1), progress(3), progress(4)] {
            log.tell(event);
        }
        assert_eq!(log.from(0), [progress(2), heartbeat(1), progress(4)]);
    }

    #[test]
    fn a_watcher_learns_of_each_new_event() {
        let log = EventLog::default();
        let mut watch = log.watch();
        assert!(!watch.has_changed().unwrap());
        for event in [heartbeat(1), progress(1), progress(2)] {
            log.tell(event);
            assert!(watch.has_changed().unwrap());
            watch.mark_unchanged();
        }
    }
}
