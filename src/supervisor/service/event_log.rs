//! The events of an operation or a set, from its beginning, for clients that come at any time.
//!
//! Held in memory alone: what must outlive the supervisor is in the journal.

use std::cell::RefCell;

use tokio::sync::watch;

use crate::api::Event;

/// Events in order, and a signal at each new event.
#[derive(Debug)]
pub(crate) struct EventLog {
    /// Each with its number, counted from 1 over all published events.
    events: RefCell<Vec<(usize, Event)>>,
    n_told: watch::Sender<usize>,
}

impl EventLog {
    /// Publishes an event to all watchers.
    pub(crate) fn tell(&self, event: Event) {
        // Progress replaces progress: a late watcher needs the last number only.
        let mut events = self.events.borrow_mut();
        let is_progress = |event: &Event| matches!(event, Event::Progress { .. });
        if is_progress(&event) && events.last().is_some_and(|(_, last)| is_progress(last)) {
            events.pop();
        }
        let number = *self.n_told.borrow() + 1;
        let is_last = matches!(event, Event::Result(_));
        events.push((number, event));
        if is_last {
            events.shrink_to_fit();
        }
        drop(events);
        self.n_told.send_replace(number);
    }

    /// The events after this number, each with its own; 0 is before all.
    pub(crate) fn after(&self, number: usize) -> Vec<(usize, Event)> {
        self.events.borrow().iter().filter(|(own, _)| *own > number).cloned().collect()
    }

    /// Changes with each new event.
    pub(crate) fn watch(&self) -> watch::Receiver<usize> {
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
        Event::Progress { bytes, total: None, entries: None }
    }

    fn heartbeat(ms: u64) -> Event {
        Event::Heartbeat { phase: "bake".to_owned(), ms }
    }

    #[test]
    fn a_late_watcher_gets_all_events_in_order() {
        let log = EventLog::default();
        log.tell(heartbeat(1));
        log.tell(heartbeat(2));
        assert_eq!(log.after(0), [(1, heartbeat(1)), (2, heartbeat(2))]);
        assert_eq!(log.after(1), [(2, heartbeat(2))]);
        assert_eq!(log.after(2), []);
    }

    #[test]
    fn progress_replaces_the_progress_just_before_it() {
        let log = EventLog::default();
        for event in [progress(1), progress(2), heartbeat(1), progress(3), progress(4)] {
            log.tell(event);
        }
        assert_eq!(log.after(0), [(2, progress(2)), (3, heartbeat(1)), (5, progress(4))]);
    }

    #[test]
    fn who_follows_live_sees_progress_that_replaces_what_was_seen() {
        let log = EventLog::default();
        log.tell(progress(1));
        assert_eq!(log.after(0), [(1, progress(1))]);
        log.tell(progress(2));
        assert_eq!(log.after(1), [(2, progress(2))]);
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
