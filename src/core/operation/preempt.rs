//! What a `rollback` does with an operation that runs: it never waits for one that can be called off.

use crate::core::operation::phase::Phase;
use crate::core::operation::plan::{Kind, Succession};
use crate::core::operation::point::Point;

/// What a `rollback` does with an operation that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Preempt {
    /// It is called off; what serves then is rolled back.
    Before,
    /// It is called off, and its own way back is the rollback. Only where another release was named, or
    /// it came too late, is there more to do.
    Itself,
    /// It gives way: no rung of its way back holds.
    Yields,
    /// It is a rollback, and goes on.
    Refused,
}

/// What a `rollback` does with an operation of this kind in this phase.
#[must_use]
pub fn by_rollback(kind: Kind, succession: Succession, phase: Phase) -> Preempt {
    use Phase::*;
    use Point::*;
    match (kind, phase) {
        (_, Stranded) => Preempt::Yields,
        (Kind::Rollback, _) => Preempt::Refused,
        // The release that it leads back to is the one that is to be left.
        (Kind::Restart, _) => Preempt::Before,
        (Kind::Release, Start | Gate | Hook(BeforeFlip)) => match succession {
            Succession::Overlap => Preempt::Before,
            // The old one is stopped.
            Succession::InTurn => Preempt::Itself,
        },
        (
            Kind::Release,
            StopOld
            | Step(_)
            | StepHold(_)
            | Flip
            | Bake
            | Hold
            | Hook(AfterFlip | AfterRollback)
            | BackStart(_)
            | BackGate(_)
            | BackFlip(_)
            | BackVerify(_)
            | BackCommit(_),
        ) => Preempt::Itself,
        (
            Kind::Release,
            Receive
            | Verify
            | Preflight
            | Stage
            | RehearseOld
            | Backup
            | RestoreRehearsal
            | Migrate
            | Park
            | Hook(BeforeMigrate | BeforeStart | BeforeStop | AfterCommit)
            | Commit
            | Undo
            | Done(_),
        ) => Preempt::Before,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::operation::machine::{Cause, Event, Inconclusive, Machine, Plan};

    /// What `abort` does in a phase: the phase that follows at once, `at its end`, or nothing.
    fn abort(succession: Succession, phase: Phase) -> String {
        let inconclusive = Inconclusive::Hold;
        let plan = Plan { kind: Kind::Release, n_cold: 1, inconclusive, succession, n_steps: 1 };
        let mut machine = Machine::resume(plan, phase, Cause::Bake);
        match machine.step(Event::Abort) {
            Some(next) => next.name(),
            None if phase.is_seen_through() => "at its end".to_owned(),
            None => "-".to_owned(),
        }
    }

    fn row(succession: Succession, phase: Phase) -> String {
        let rollback = by_rollback(Kind::Release, succession, phase);
        format!("{}: {}, {rollback:?}", phase.name(), abort(succession, phase))
    }

    /// Each phase of a release, what follows from `abort` in it, and what `rollback` does.
    #[test]
    fn every_phase_knows_what_abort_and_rollback_do() {
        use Phase::*;
        use Point::*;
        let phases = [
            Receive,
            Verify,
            Preflight,
            Stage,
            RehearseOld,
            Backup,
            RestoreRehearsal,
            Hook(BeforeMigrate),
            Migrate,
            Hook(BeforeStart),
            Hook(BeforeStop),
            Park,
            StopOld,
            Start,
            Gate,
            Hook(BeforeFlip),
            Step(0),
            StepHold(0),
            Flip,
            Bake,
            Hold,
            Commit,
            Hook(AfterCommit),
            Undo,
            BackStart(1),
            BackGate(0),
            BackFlip(0),
            BackVerify(0),
            BackCommit(0),
            Hook(AfterRollback),
            Stranded,
        ];
        let rows: Vec<_> = phases.map(|phase| row(Succession::Overlap, phase)).into();
        let expected = "receive: undo, Before
verify: undo, Before
preflight: undo, Before
stage: undo, Before
rehearse_old: undo, Before
backup: undo, Before
restore_rehearsal: undo, Before
hook:before_migrate: undo, Before
migrate: at its end, Before
hook:before_start: undo, Before
hook:before_stop: undo, Before
park: undo, Before
stop_old: at its end, Itself
start: undo, Before
gate: undo, Before
hook:before_flip: undo, Before
step:0: back_gate:0, Itself
step_hold:0: back_gate:0, Itself
flip: back_gate:0, Itself
bake: back_gate:0, Itself
hold: back_gate:0, Itself
commit: -, Before
hook:after_commit: done, Before
undo: -, Before
back_start:1: -, Itself
back_gate:0: -, Itself
back_flip:0: -, Itself
back_verify:0: -, Itself
back_commit:0: -, Itself
hook:after_rollback: done, Itself
stranded: -, Yields";
        assert_eq!(rows.join("\n"), expected);
        let in_turn = [StopOld, Start, Gate, Hook(BeforeFlip)];
        let rows: Vec<_> = in_turn.map(|phase| row(Succession::InTurn, phase)).into();
        let expected = "stop_old: at its end, Itself
start: back_start:1, Itself
gate: back_start:1, Itself
hook:before_flip: back_start:1, Itself";
        assert_eq!(rows.join("\n"), expected);
        for phase in phases.into_iter().filter(|phase| *phase != Stranded) {
            let by = |kind| by_rollback(kind, Succession::Overlap, phase);
            assert_eq!(
                (by(Kind::Rollback), by(Kind::Restart)),
                (Preempt::Refused, Preempt::Before)
            );
        }
    }
}
