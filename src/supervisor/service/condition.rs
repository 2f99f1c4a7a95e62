//! How a service is, beside what runs: what is wrong with it, one slot a source.
//!
//! Each source reports and resolves its own trouble and no other's. A release that is live and
//! proven resolves what was reported of processes before it.

use std::cell::{Cell, RefCell};

use tokio::sync::Notify;

use crate::config::model::Reaction;
use crate::core::ordered::Few;

/// The part of the supervisor that detects a trouble. The order is the order in `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// A phase of an operation that is tried again until it succeeds.
    Operation,
    /// The data: a restore that could not be finished or undone.
    Restore,
    /// The start of the last good release.
    Start,
    /// The restart of a process that ended.
    Restart,
    /// The health check at rest.
    Liveness,
    /// The listeners: somebody else has the address too.
    Listener,
    /// The change of the number of instances.
    Scale,
    /// The outside proxy.
    Proxy,
}

/// How a service is.
#[derive(Debug, Default)]
pub(crate) struct Condition {
    troubles: RefCell<Few<Source, String>>,
    is_told_degraded: Cell<bool>,
    was_ready: Cell<Option<bool>>,
    changed: Notify,
    wanted: Cell<Reaction>,
    wants: Notify,
    finished: Cell<bool>,
}

impl Condition {
    /// A condition after a start of the supervisor; whether its users were already notified
    /// that the service is degraded is on the disk.
    pub(crate) fn new(is_told_degraded: bool) -> Self {
        Self { is_told_degraded: Cell::new(is_told_degraded), ..Self::default() }
    }

    /// A process ended, or another release serves: the health check at rest asks again.
    pub(crate) fn note_change(&self) {
        self.changed.notify_one();
    }

    /// Resolves after a change, also after one that came before the call.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Something is wrong.
    pub(crate) fn report(&self, source: Source, why: impl Into<String>) {
        self.troubles.borrow_mut().insert(source, why.into());
    }

    /// What this source reported is over. Returns whether it had reported anything.
    pub(crate) fn resolve(&self, source: Source) -> bool {
        self.troubles.borrow_mut().remove(&source).is_some()
    }

    /// The processes that serve are proven: what was reported of their start or of earlier ones is
    /// over.
    pub(crate) fn serves(&self) {
        for source in [Source::Start, Source::Restart, Source::Liveness] {
            self.resolve(source);
        }
        self.finish(false);
    }

    /// The service is down because it is to be: what was reported of its processes is over.
    pub(crate) fn is_taken_down(&self) {
        self.troubles.borrow_mut().retain(|source, _| *source == Source::Restore);
    }

    /// Everything that is wrong, for people.
    pub(crate) fn trouble(&self) -> Option<String> {
        let troubles = self.troubles.borrow();
        let texts = troubles.iter().map(|(source, why)| match source {
            Source::Proxy => {
                format!("the proxy does not send connections to the live release: {why}")
            }
            _ => why.clone(),
        });
        let mut all: Vec<String> = texts.collect();
        // Nothing is started on data that could not be put back: the reason is the same.
        all.dedup();
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// Whether what serves crashes or does not answer: another release may.
    pub(crate) fn is_of_what_serves(&self) -> bool {
        let troubles = self.troubles.borrow();
        [Source::Start, Source::Restart, Source::Liveness]
            .iter()
            .any(|source| troubles.get(source).is_some())
    }

    /// What is to be done about what serves, beside the report.
    pub(crate) fn want(&self, reaction: Reaction) {
        if reaction != Reaction::Alarm {
            self.wanted.set(reaction);
            self.wants.notify_one();
        }
    }

    /// Notes whether a live program has ended that is not started again. Returns the previous note.
    pub(crate) fn finish(&self, is_finished: bool) -> bool {
        self.finished.replace(is_finished)
    }

    /// Whether one has.
    pub(crate) fn is_finished(&self) -> bool {
        self.finished.get()
    }

    /// Waits for what is to be done.
    pub(crate) async fn wanted(&self) -> Reaction {
        self.wants.notified().await;
        self.wanted.take()
    }

    /// Notes that users are notified of a degraded service, or of its recovery. Returns the
    /// previous note.
    pub(crate) fn tell_degraded(&self, is_degraded: bool) -> bool {
        self.is_told_degraded.replace(is_degraded)
    }

    /// Notes whether a rollback would work. Returns what was known before.
    pub(crate) fn note_ready(&self, is_ready: bool) -> Option<bool> {
        self.was_ready.replace(Some(is_ready))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_resolves_its_own_trouble_alone() {
        let condition = Condition::default();
        condition.report(Source::Proxy, "no answer");
        condition.report(Source::Liveness, "HTTP 503");
        let both = "HTTP 503; the proxy does not send connections to the live release: no answer";
        assert_eq!(condition.trouble().as_deref(), Some(both));
        assert!(condition.resolve(Source::Liveness));
        assert!(!condition.resolve(Source::Liveness));
        let proxy = "the proxy does not send connections to the live release: no answer";
        assert_eq!(condition.trouble().as_deref(), Some(proxy));
    }

    #[test]
    fn a_release_that_serves_resolves_what_was_said_of_starts() {
        let condition = Condition::default();
        for source in [Source::Start, Source::Restart, Source::Liveness, Source::Restore] {
            condition.report(source, format!("{source:?}"));
        }
        condition.report(Source::Start, "Restore");
        assert_eq!(condition.trouble().as_deref(), Some("Restore; Restart; Liveness"));
        condition.serves();
        assert_eq!(condition.trouble().as_deref(), Some("Restore"));
    }

    #[test]
    fn nothing_ails_what_is_down_because_it_is_to_be_but_its_data() {
        let condition = Condition::default();
        for source in [Source::Restore, Source::Start, Source::Scale, Source::Proxy] {
            condition.report(source, format!("{source:?}"));
        }
        condition.is_taken_down();
        assert_eq!(condition.trouble().as_deref(), Some("Restore"));
    }
}
