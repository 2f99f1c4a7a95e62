//! What a `rollback` does with an operation that runs: it never waits for one that can be called off.

use crate::core::operation::phase::Phase;
use crate::core::operation::plan::Kind;
use crate::core::operation::point::Point;

/// What a `rollback` does with an operation that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Preempt {
    /// It is called off.
    CalledOff,
    /// It goes back already, and is waited for.
    Awaited,
    /// It gives way: no rung of its way back holds.
    Yields,
    /// It is a rollback, and goes on.
    Refused,
}

/// What a `rollback` does with an operation of this kind in this phase.
#[must_use]
pub fn by_rollback(kind: Kind, phase: Phase) -> Preempt {
    match (kind, phase) {
        (_, Phase::Stranded) => Preempt::Yields,
        (Kind::Rollback, _) => Preempt::Refused,
        (_, Phase::Undo | Phase::Hook(Point::AfterRollback)) => Preempt::Awaited,
        (_, phase) if phase.rung().is_some() => Preempt::Awaited,
        (Kind::Release | Kind::Restart, _) => Preempt::CalledOff,
    }
}

/// Whether the way back of an operation that ended in this phase was the rollback. That of a restart
/// leads to the release that is to be left.
#[must_use]
pub fn was_rollback(kind: Kind, last: Phase) -> bool {
    kind == Kind::Release
        && matches!(last, Phase::BackCommit(_) | Phase::Hook(Point::AfterRollback))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::operation::machine::{Cause, Event, Inconclusive, Machine, Plan, Succession};

    /// What `abort` does in a phase: the phase that follows at once, `at its end`, or nothing; what
    /// `rollback` does, and whether the end of all that is the rollback.
    fn row(succession: Succession, phase: Phase) -> String {
        let (kind, inconclusive) = (Kind::Release, Inconclusive::Hold);
        let plan = Plan { kind, n_cold: 1, inconclusive, succession, n_steps: 1 };
        let mut machine = Machine::resume(plan, phase, Cause::Bake);
        let abort = match machine.step(Event::Abort) {
            Some(next) => next.name(),
            None if phase.is_seen_through() => {
                machine.call_off();
                "at its end".to_owned()
            }
            None => "-".to_owned(),
        };
        let mut last = phase;
        while !matches!(machine.phase(), Phase::Done(_)) {
            last = machine.phase();
            machine.step(Event::Ok);
        }
        let end = if was_rollback(kind, last) { "itself" } else { "before" };
        format!("{}: {abort}, {:?}, {end}", phase.name(), by_rollback(kind, phase))
    }

    /// Each phase of a release.
    #[test]
    fn every_phase_knows_what_abort_and_rollback_do() {
        use Phase::*;
        use Point::*;
        let is_in_turn = |phase: &Phase| matches!(phase, Hook(BeforeStop) | Park | StopOld);
        let (in_turn, beside): (Vec<_>, Vec<_>) = Phase::all().into_iter().partition(is_in_turn);
        let rows: Vec<_> = beside.iter().map(|phase| row(Succession::Overlap, *phase)).collect();
        let expected = "receive: undo, CalledOff, before
verify: undo, CalledOff, before
preflight: undo, CalledOff, before
stage: undo, CalledOff, before
rehearse_old: undo, CalledOff, before
backup: undo, CalledOff, before
restore_rehearsal: undo, CalledOff, before
migrate: at its end, CalledOff, before
start: undo, CalledOff, before
gate: undo, CalledOff, before
flip: back_gate:0, CalledOff, itself
bake: back_gate:0, CalledOff, itself
hold: back_gate:0, CalledOff, itself
commit: -, CalledOff, before
undo: -, Awaited, before
stranded: -, Yields, before
hook:before_migrate: undo, CalledOff, before
hook:before_start: undo, CalledOff, before
hook:before_flip: undo, CalledOff, before
hook:after_commit: done, CalledOff, before
hook:after_rollback: done, Awaited, itself
step:0: back_gate:0, CalledOff, itself
step_hold:0: back_gate:0, CalledOff, itself
back_start:1: -, Awaited, itself
back_gate:0: -, Awaited, itself
back_flip:0: -, Awaited, itself
back_verify:0: -, Awaited, itself
back_commit:0: -, Awaited, itself";
        assert_eq!(rows.join("\n"), expected);
        let in_turn = in_turn.into_iter().chain([Start, Gate, Hook(BeforeFlip)]);
        let rows: Vec<_> = in_turn.map(|phase| row(Succession::InTurn, phase)).collect();
        let expected = "park: undo, CalledOff, before
stop_old: at its end, CalledOff, itself
hook:before_stop: undo, CalledOff, before
start: back_start:1, CalledOff, itself
gate: back_start:1, CalledOff, itself
hook:before_flip: back_start:1, CalledOff, itself";
        assert_eq!(rows.join("\n"), expected);
        for phase in Phase::all().into_iter().filter(|phase| *phase != Stranded) {
            assert_eq!(by_rollback(Kind::Rollback, phase), Preempt::Refused);
            let (restart, release) = (Kind::Restart, Kind::Release);
            assert_eq!(by_rollback(restart, phase), by_rollback(release, phase));
            assert!(!was_rollback(restart, phase));
        }
    }
}
