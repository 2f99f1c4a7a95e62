//! How far the hooks of an operation have come, as its journal has it: what makes each point's run at
//! most once.

use std::collections::BTreeMap;

use crate::api::{Event, PhaseState};
use crate::core::operation::phase::{HOOK, Phase};
use crate::core::operation::point::Point;
use crate::core::time::Tick;
use crate::os::clock;
use crate::store::journal::{Journal, Record};
use crate::supervisor::service::operation::Operation;
use crate::supervisor::tasks::hook_error::HookError;

/// How far the hooks of each point have come.
#[derive(Debug, Default)]
pub(crate) struct HookState(BTreeMap<Point, Mark>);

/// How far a point's hooks have come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// They may have run, in part or whole.
    Begun,
    /// All were successful.
    Good,
    /// One did not, for this reason.
    Failed(String),
}

impl HookState {
    /// The state that a journal records for them.
    pub(crate) fn of(records: &[Record]) -> Self {
        let mut marks = BTreeMap::new();
        for record in records {
            let name = record.phase.strip_prefix(HOOK);
            let Some(point) = Point::ALL.into_iter().find(|p| Some(p.name()) == name) else {
                continue;
            };
            let mark = match record.state() {
                Some(PhaseState::Start) => Mark::Begun,
                Some(PhaseState::Fail) => Mark::Failed(record.detail.clone()),
                _ => Mark::Good,
            };
            marks.insert(point, mark);
        }
        Self(marks)
    }

    /// How far a point's have come; not at all when absent.
    pub(crate) fn get(&self, point: Point) -> Option<&Mark> {
        self.0.get(&point)
    }

    /// What went wrong with hooks that change no outcome.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let late = [Point::AfterFlip, Point::AfterCommit, Point::AfterRollback];
        let of = |point: Point| match self.0.get(&point)? {
            Mark::Begun => Some(format!("hook {}: interrupted; it is not run again", point.name())),
            Mark::Failed(why) => Some(why.clone()),
            Mark::Good => None,
        };
        late.into_iter().filter_map(of).collect()
    }
}

/// Writes down how far a point's hooks have come, and reports it.
pub(crate) struct Noting<'a> {
    operation: &'a Operation,
    journal: &'a mut Journal,
    marks: &'a mut HookState,
    begun: Tick,
}

impl<'a> Noting<'a> {
    pub(crate) fn new(
        operation: &'a Operation,
        journal: &'a mut Journal,
        marks: &'a mut HookState,
    ) -> Self {
        Self { operation, journal, marks, begun: clock::tick() }
    }

    /// How far a point's have come; not at all when absent.
    pub(crate) fn mark(&self, point: Point) -> Option<&Mark> {
        self.marks.get(point)
    }

    /// Shows a point as the phase in `status`: the operation waits for its hooks.
    pub(crate) fn show(&self, point: Point) {
        self.operation.phase.set(Some(Phase::Hook(point)));
        self.operation.phase_started.set(clock::tick());
    }

    /// On the disk before the first command begins: that is what makes it at most once.
    pub(crate) fn begin(&mut self, point: Point) -> Result<(), HookError> {
        let name = Phase::Hook(point).name();
        self.begun = clock::tick();
        let written = self.journal.announce(&Record::start(&name, "", None));
        written.map_err(|source| HookError::NotRun { point, source })?;
        self.marks.0.insert(point, Mark::Begun);
        self.tell(name, PhaseState::Start, String::new());
        Ok(())
    }

    /// How they ended: their commands, or why they did not.
    pub(crate) fn end(&mut self, point: Point, ended: Result<String, &HookError>) {
        let name = Phase::Hook(point).name();
        let (state, detail, mark) = match ended {
            Ok(commands) => (PhaseState::Ok, commands, Mark::Good),
            Err(error) => {
                let why = error.to_string();
                (PhaseState::Fail, why.clone(), Mark::Failed(why))
            }
        };
        self.marks.0.insert(point, mark);
        let ms = clock::tick().since_ms(self.begun);
        let record = Record::end(&name, state, ms, detail.clone());
        // On the disk before what follows begins: else a power cut in a migration would look like
        // one in the hook before it.
        if let Err(error) = self.journal.announce(&record) {
            tracing::warn!(op = self.operation.id.0, %error, "recording the end of a hook");
        }
        self.tell(name, state, detail);
    }

    fn tell(&self, phase: String, state: PhaseState, detail: String) {
        let ms = clock::tick().since_ms(self.begun);
        self.operation.tell(Event::Phase { phase, state, ms, detail });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(point: &str, state: PhaseState, detail: &str) -> Record {
        Record::end(&format!("{HOOK}{point}"), state, 0, detail.to_owned())
    }

    #[test]
    fn a_journal_says_what_is_not_run_again() {
        let records = [
            line("before_start", PhaseState::Start, ""),
            line("before_start", PhaseState::Ok, "./a"),
            line("before_flip", PhaseState::Start, ""),
            Record::end("gate", PhaseState::Ok, 0, String::new()),
        ];
        let marks = HookState::of(&records);
        assert_eq!(marks.0.get(&Point::BeforeStart), Some(&Mark::Good));
        assert_eq!(marks.0.get(&Point::BeforeFlip), Some(&Mark::Begun));
        assert_eq!(marks.0.len(), 2);
        assert_eq!(marks.warnings(), [""; 0]);
    }

    #[test]
    fn what_went_wrong_afterwards_is_a_warning_for_ever() {
        let records = [
            line("after_flip", PhaseState::Start, ""),
            line("after_flip", PhaseState::Fail, "exit 3"),
            line("after_commit", PhaseState::Start, ""),
        ];
        let warnings = HookState::of(&records).warnings();
        assert_eq!(warnings, ["exit 3", "hook after_commit: interrupted; it is not run again"]);
    }
}
