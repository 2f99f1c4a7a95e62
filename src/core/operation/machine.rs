//! The operation: one release, rollback or restart, as a pure machine.
//!
//! A phase *is* the one effect that is in flight: the shell announces the phase in the journal
//! (fsync), performs it, and hands the machine what came of it. Every effect may be performed again
//! after a crash. Nothing that has served is stopped here: the generation that the last flip
//! steered away from is handed to [`crate::core::drain`], which compares before it acts.
//!
//! Rollback is this machine entered at its way back, never a second path.

pub use crate::core::operation::cause::Cause;
pub use crate::core::operation::phase::Phase;
pub use crate::core::operation::plan::{Inconclusive, Kind, Plan, Succession};

use crate::core::operation::point::Point;

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The candidate is the last good release.
    Committed,
    /// It never got a connection; the phase that stopped it is in [`Cause`].
    Undone(Cause),
    /// An older release serves and is the last good one.
    RolledBack(Cause),
    /// The first release turned bad: there is nothing to go back to, it is left running.
    NothingBehind(Cause),
    /// No rung of the way back held; what still answers is left alone.
    RollbackFailed(Cause),
}

/// What came of the effect in flight, or happened meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// The effect was performed (or there was nothing to do).
    Ok,
    /// It could not be, or its verdict is bad.
    Failed,
    /// The bake ended without a verdict.
    Inconclusive,
    /// A process of the candidate ended.
    Died,
    /// `abort` was ordered.
    Abort,
    /// `promote` was ordered, by somebody who saw it in this phase. What has come since is not what
    /// was decided about.
    Promote(Phase),
}

/// What follows when a candidate fails that connections go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum OnFailure {
    /// The way back is taken.
    GoBack,
    /// No release before it runs on the data: somebody decides.
    Hold,
}

/// One operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Machine {
    plan: Plan,
    phase: Phase,
    cause: Cause,
    on_failure: OnFailure,
    /// `abort` was ordered in a phase that is seen through: it is obeyed after that.
    is_called_off: bool,
}

impl Machine {
    /// The operation at its first phase.
    #[must_use]
    pub fn begin(plan: Plan) -> Self {
        let (phase, cause) = match (plan.kind, plan.succession) {
            (Kind::Release, _) => (Phase::Receive, Cause::Refused),
            (Kind::Restart, Succession::Overlap) => (Phase::Start, Cause::Gate),
            (Kind::Restart, Succession::InTurn) => (Phase::Park, Cause::Gate),
            (Kind::Rollback, _) => (plan.first_rung(), Cause::Asked),
        };
        Self::resume(plan, phase, cause)
    }

    /// The operation in the middle: for [`crate::core::operation::recover`] and tests.
    #[must_use]
    pub fn resume(plan: Plan, phase: Phase, cause: Cause) -> Self {
        Self { plan, phase, cause, on_failure: OnFailure::GoBack, is_called_off: false }
    }

    /// `abort` was ordered, and waits for the end of a phase that is seen through.
    pub fn call_off(&mut self) {
        self.is_called_off = true;
    }

    /// Whether an `abort` waits for the end of a phase.
    #[must_use]
    pub fn is_called_off(&self) -> bool {
        self.is_called_off
    }

    /// No release before it runs on the data: what fails from here on waits for somebody's decision.
    /// `abort` is one.
    pub fn hold_on_failure(&mut self) {
        self.on_failure = OnFailure::Hold;
    }

    /// Whether it waits because what failed cannot be taken back.
    #[must_use]
    pub fn is_held_by_failure(&self) -> bool {
        self.phase == Phase::Hold && self.on_failure == OnFailure::Hold
    }

    /// Where it stands: the effect to perform.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Why it left its way forward.
    #[must_use]
    pub fn cause(&self) -> Cause {
        self.cause
    }

    /// What it is about.
    #[must_use]
    pub fn plan(&self) -> Plan {
        self.plan
    }

    /// Takes one event in. `Some` is the next effect, to be announced and performed (the same
    /// phase again is a retry); `None` means that the event changes nothing and the effect in
    /// flight goes on.
    pub fn step(&mut self, event: Event) -> Option<Phase> {
        let next = match event {
            Event::Ok => self.performed(),
            Event::Failed => self.failed(),
            Event::Inconclusive => self.unclear(),
            Event::Died => self.died(),
            Event::Abort => self.aborted(),
            Event::Promote(seen) => self.promoted(seen),
        }?;
        self.phase = next;
        if self.is_called_off
            && let Some(back) = self.aborted()
        {
            self.is_called_off = false;
            self.phase = back;
        }
        Some(self.phase)
    }

    /// The order of the phases: forward, then each way back.
    fn performed(&self) -> Option<Phase> {
        use Phase::*;
        use Point::*;
        Some(match self.phase {
            Receive => Verify,
            Verify => Preflight,
            Preflight => Stage,
            Stage => RehearseOld,
            RehearseOld => Backup,
            Backup => RestoreRehearsal,
            RestoreRehearsal => Hook(BeforeMigrate),
            Hook(BeforeMigrate) => Migrate,
            Migrate => Hook(BeforeStart),
            // In turn nothing waits yet, and the old one is untouched.
            Hook(BeforeStart) if self.plan.succession == Succession::InTurn => Hook(BeforeStop),
            Hook(BeforeStart) => Start,
            Hook(BeforeStop) => Park,
            Park => StopOld,
            StopOld => Start,
            Start => Gate,
            Gate if self.plan.kind == Kind::Release => Hook(BeforeFlip),
            Gate | Hook(BeforeFlip) => self.after_step(None),
            Step(step) | StepHold(step) => self.after_step(Some(step)),
            Flip => Bake,
            Bake | Hold => Commit,
            Commit if self.plan.kind == Kind::Release => Hook(AfterCommit),
            Commit | Hook(AfterCommit) => Done(Outcome::Committed),

            Undo => Done(Outcome::Undone(self.cause)),

            BackStart(rung) => BackGate(rung),
            BackGate(rung) => BackFlip(rung),
            BackFlip(rung) => BackVerify(rung),
            BackVerify(rung) => BackCommit(rung),
            BackCommit(_) if self.plan.kind != Kind::Restart => Hook(AfterRollback),
            BackCommit(_) | Hook(AfterRollback) => Done(Outcome::RolledBack(self.cause)),
            Stranded => Done(Outcome::RollbackFailed(self.cause)),
            Hook(AfterFlip) | Done(_) => return None,
        })
    }

    /// What follows when an effect could not be performed, or its verdict is bad.
    fn failed(&mut self) -> Option<Phase> {
        use Phase::*;
        use Point::*;
        Some(match self.phase {
            Receive
            | Verify
            | Preflight
            | Stage
            | RehearseOld
            | Backup
            | RestoreRehearsal
            | Hook(BeforeMigrate | BeforeStop)
            | Migrate
            | Park => self.undo(Cause::Refused),
            Hook(BeforeStart) => self.undo(self.unstarted()),
            // What was begun here has no other way than through.
            StopOld => StopOld,
            Start | Gate | Hook(BeforeFlip) => self.unproven(Cause::Gate),
            Flip => self.back(Cause::Flip),
            Step(_) | StepHold(_) | Bake | Hold => self.back(Cause::Bake),
            // The rename is the commit: until it is done, and after it, nothing else may happen.
            Commit => Commit,
            Undo => Undo,
            BackStart(rung) | BackGate(rung) | BackFlip(rung) | BackVerify(rung) => {
                self.below(rung)
            }
            // The rename has no other way than through.
            BackCommit(rung) => BackCommit(rung),
            Stranded => self.plan.first_rung(),
            // A warning: what is committed stays committed.
            Hook(AfterCommit | AfterRollback) => return self.performed(),
            Hook(AfterFlip) | Done(_) => return None,
        })
    }

    /// What follows when a watch ends without a verdict; elsewhere there is none to be had.
    fn unclear(&mut self) -> Option<Phase> {
        use Phase::{Bake, Commit, Hold, Step, StepHold};
        match (self.phase, self.plan.inconclusive) {
            (Step(step), Inconclusive::Promote) => Some(self.after_step(Some(step))),
            (Step(step), Inconclusive::Hold) => Some(StepHold(step)),
            (Bake, Inconclusive::Promote) => Some(Commit),
            (Bake, Inconclusive::Hold) => Some(Hold),
            (Step(_) | Bake, Inconclusive::Rollback) => Some(self.back(Cause::Inconclusive)),
            _ => None,
        }
    }

    /// What follows from the candidate's death: nothing before it exists, nor on the way back.
    fn died(&mut self) -> Option<Phase> {
        use Phase::*;
        use Point::*;
        match self.phase {
            Start | Gate | Hook(BeforeFlip) => Some(self.unproven(Cause::Died)),
            phase if phase.is_on_trial() => Some(self.back(Cause::Died)),
            _ => None,
        }
    }

    /// What follows from `abort`. What was begun on the data and on the old one is not called off,
    /// nor is a rename, nor a way back.
    fn aborted(&mut self) -> Option<Phase> {
        use Phase::*;
        use Point::*;
        match self.phase {
            Receive
            | Verify
            | Preflight
            | Stage
            | RehearseOld
            | Backup
            | RestoreRehearsal
            | Hook(BeforeMigrate | BeforeStart | BeforeStop)
            | Park => Some(self.undo(Cause::Aborted)),
            Start | Gate | Hook(BeforeFlip) => Some(self.unproven(Cause::Aborted)),
            phase if phase.is_on_trial() => Some(self.back(Cause::Aborted)),
            // It is not waited for.
            Hook(AfterCommit | AfterRollback) => self.performed(),
            _ => None,
        }
    }

    /// What follows from `promote`: the watch that was seen ends as a success.
    fn promoted(&self, seen: Phase) -> Option<Phase> {
        self.phase.promotion().filter(|_| seen == self.phase).and_then(|_| self.performed())
    }

    fn undo(&mut self, cause: Cause) -> Phase {
        self.cause = cause;
        Phase::Undo
    }

    /// Why a candidate is not started: side by side its start has failed, in turn it is refused
    /// before the old one is touched.
    fn unstarted(&self) -> Cause {
        match self.plan.succession {
            Succession::Overlap => Cause::Gate,
            Succession::InTurn => Cause::Refused,
        }
    }

    /// The candidate did not make it to its flip. In turn the old one is gone by then.
    fn unproven(&mut self, cause: Cause) -> Phase {
        match self.plan.succession {
            Succession::InTurn if self.plan.n_cold > 0 => self.back(cause),
            Succession::InTurn | Succession::Overlap => self.undo(cause),
        }
    }

    fn after_step(&self, step: Option<u8>) -> Phase {
        let next = step.map_or(0, |step| step.saturating_add(1));
        if next < self.plan.n_steps { Phase::Step(next) } else { Phase::Flip }
    }

    fn back(&mut self, cause: Cause) -> Phase {
        self.cause = cause;
        match self.on_failure {
            _ if self.plan.n_cold == 0 => Phase::Done(Outcome::NothingBehind(cause)),
            OnFailure::Hold if cause != Cause::Aborted => Phase::Hold,
            OnFailure::Hold | OnFailure::GoBack => self.plan.first_rung(),
        }
    }

    fn below(&self, rung: u8) -> Phase {
        if rung < self.plan.n_cold { Phase::BackStart(rung + 1) } else { Phase::Stranded }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Plan = Plan {
        kind: Kind::Release,
        n_cold: 2,
        inconclusive: Inconclusive::Hold,
        succession: Succession::Overlap,
        n_steps: 0,
    };

    fn check(from: Phase, event: Event, expected: Option<Phase>) {
        check_in(PLAN, from, event, expected);
    }

    fn check_in(plan: Plan, from: Phase, event: Event, expected: Option<Phase>) {
        let mut machine = Machine::resume(plan, from, Cause::Bake);
        assert_eq!(machine.step(event), expected, "{from:?} {event:?}");
    }

    fn names(plan: Plan) -> String {
        let mut machine = Machine::begin(plan);
        let mut names = vec![machine.phase().name()];
        while let Some(next) = machine.step(Event::Ok) {
            names.push(next.name());
        }
        names.join(" ")
    }

    #[test]
    fn a_release_goes_through_its_phases_in_order() {
        let before = "receive verify preflight stage rehearse_old backup restore_rehearsal \
                      hook:before_migrate migrate hook:before_start";
        let after = "flip bake commit hook:after_commit done";
        assert_eq!(names(PLAN), format!("{before} start gate hook:before_flip {after}"));
        let canary = Plan { n_steps: 2, ..PLAN };
        assert_eq!(
            names(canary),
            format!("{before} start gate hook:before_flip step:0 step:1 {after}")
        );
        let in_turn = Plan { succession: Succession::InTurn, ..PLAN };
        assert_eq!(
            names(in_turn),
            format!("{before} hook:before_stop park stop_old start gate hook:before_flip {after}")
        );
        let restart = Plan { kind: Kind::Restart, ..in_turn };
        assert_eq!(names(restart), "park stop_old start gate flip bake commit done");
        let rollback = Plan { kind: Kind::Rollback, ..in_turn };
        assert_eq!(
            names(rollback),
            "back_start:1 back_gate:1 back_flip:1 back_verify:1 back_commit:1 hook:after_rollback done"
        );
    }

    #[test]
    fn in_turn_a_candidate_that_fails_brings_the_old_one_back() {
        use Phase::*;
        let plan = Plan { succession: Succession::InTurn, ..PLAN };
        for phase in [Start, Gate, Flip, Bake] {
            check_in(plan, phase, Event::Failed, Some(BackStart(1)));
            check_in(plan, phase, Event::Abort, Some(BackStart(1)));
        }
        check_in(plan, Park, Event::Failed, Some(Undo));
        check_in(plan, StopOld, Event::Failed, Some(StopOld));
        check_in(plan, StopOld, Event::Abort, None);
        check_in(plan, Stranded, Event::Failed, Some(BackStart(1)));
        let first = Plan { n_cold: 0, ..plan };
        check_in(first, Gate, Event::Failed, Some(Undo));
    }

    #[test]
    fn each_step_has_its_own_verdict() {
        use Phase::*;
        let plan = Plan { n_steps: 2, ..PLAN };
        check_in(plan, Hook(Point::BeforeFlip), Event::Ok, Some(Step(0)));
        check_in(plan, Step(0), Event::Ok, Some(Step(1)));
        check_in(plan, Step(0), Event::Promote(Step(0)), Some(Step(1)));
        check_in(plan, Step(1), Event::Ok, Some(Flip));
        check_in(plan, Step(0), Event::Inconclusive, Some(StepHold(0)));
        check_in(plan, StepHold(0), Event::Promote(StepHold(0)), Some(Step(1)));
        for event in [Event::Failed, Event::Died, Event::Abort] {
            check_in(plan, Step(1), event, Some(BackGate(0)));
            check_in(plan, StepHold(1), event, Some(BackGate(0)));
        }
        let promote = Plan { inconclusive: Inconclusive::Promote, ..plan };
        check_in(promote, Step(1), Event::Inconclusive, Some(Flip));
    }

    #[test]
    fn what_may_be_promoted_is_what_the_machine_takes() {
        use Phase::*;
        let all = [Phase::all(), vec![Step(1), Done(Outcome::Committed)]].concat();
        for (phase, seen) in all.iter().flat_map(|phase| all.iter().map(move |seen| (phase, seen)))
        {
            let taken = Machine::resume(PLAN, *phase, Cause::Bake).step(Event::Promote(*seen));
            let is_due = phase.promotion().is_some() && seen == phase;
            assert_eq!(taken.is_some(), is_due, "{phase:?}, seen {seen:?}");
        }
    }

    #[test]
    fn a_hook_before_fails_what_it_is_before_and_one_after_nothing() {
        use Phase::*;
        let in_turn = Plan { succession: Succession::InTurn, ..PLAN };
        for point in [Point::BeforeMigrate, Point::BeforeStart, Point::BeforeStop] {
            check_in(PLAN, Hook(point), Event::Failed, Some(Undo));
            check_in(in_turn, Hook(point), Event::Failed, Some(Undo));
            check_in(PLAN, Hook(point), Event::Abort, Some(Undo));
            check_in(in_turn, Hook(point), Event::Died, None);
        }
        let before_flip = Hook(Point::BeforeFlip);
        for event in [Event::Failed, Event::Died, Event::Abort] {
            check_in(PLAN, before_flip, event, Some(Undo));
            check_in(in_turn, before_flip, event, Some(BackStart(1)));
        }
        let committed = Some(Done(Outcome::Committed));
        let rolled_back = Some(Done(Outcome::RolledBack(Cause::Bake)));
        for event in [Event::Ok, Event::Failed, Event::Abort] {
            check(Hook(Point::AfterCommit), event, committed);
            check(Hook(Point::AfterRollback), event, rolled_back);
        }
        // Only a hook that refuses before anything was touched is a refusal.
        let cause = |plan, point| {
            let mut machine = Machine::resume(plan, Hook(point), Cause::Refused);
            machine.step(Event::Failed);
            machine.cause()
        };
        assert_eq!(cause(PLAN, Point::BeforeMigrate), Cause::Refused);
        assert_eq!(cause(PLAN, Point::BeforeStart), Cause::Gate);
        assert_eq!(cause(in_turn, Point::BeforeStart), Cause::Refused);
        assert_eq!(cause(PLAN, Point::BeforeFlip), Cause::Gate);
    }

    #[test]
    fn each_failure_takes_the_way_its_phase_allows() {
        use Phase::*;
        for phase in [Receive, Verify, Preflight, Stage, Backup, Start, Gate] {
            check(phase, Event::Failed, Some(Undo));
            check(phase, Event::Abort, Some(Undo));
        }
        check(Migrate, Event::Failed, Some(Undo));
        check(Migrate, Event::Abort, None);
        for phase in [Flip, Bake, Hold] {
            check(phase, Event::Failed, Some(BackGate(0)));
            check(phase, Event::Died, Some(BackGate(0)));
            check(phase, Event::Abort, Some(BackGate(0)));
        }
        check(Bake, Event::Inconclusive, Some(Hold));
        check(Commit, Event::Failed, Some(Commit));
        check(Commit, Event::Died, None);
        check(Commit, Event::Abort, None);
        check(BackGate(0), Event::Failed, Some(BackStart(1)));
        check(BackVerify(1), Event::Failed, Some(BackStart(2)));
        check(BackStart(2), Event::Failed, Some(Stranded));
        check(BackFlip(1), Event::Failed, Some(BackStart(2)));
        check(BackCommit(1), Event::Failed, Some(BackCommit(1)));
        check(BackGate(1), Event::Abort, None);
        check(Stranded, Event::Failed, Some(BackGate(0)));
        check(Stranded, Event::Ok, Some(Done(Outcome::RollbackFailed(Cause::Bake))));
    }
}
