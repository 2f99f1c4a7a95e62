//! Recovery: where an operation goes on after the supervisor, or the machine, went down.
//!
//! Total over what the journal says and what is seen. Every answer leads to exactly one of: the old
//! one serves, the new one is committed.

use crate::core::operation::machine::{Cause, Event, Machine, Outcome, Plan, Succession};
use crate::core::operation::phase::Phase;
use crate::core::operation::point::Point;

/// What is seen beside the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seen {
    /// Processes may have survived: it is the same boot, and the same keeper.
    pub same_boot: bool,
    /// All of the candidate's processes run.
    pub candidate_alive: bool,
    /// The state file names the candidate's release and generation as the last good one.
    pub committed: bool,
    /// How often the supervisor may still come up during this trial.
    pub n_tries_left: u8,
    /// All processes of the last phase's rung run.
    pub rung_alive: bool,
    /// The last phase's hooks have ended, and all of them as they should.
    pub hook_passed: bool,
}

/// The machine to go on with.
#[must_use]
pub fn recover(plan: Plan, last: Phase, cause: Cause, seen: Seen) -> Machine {
    use Phase::*;
    use Point::*;
    let in_turn = plan.succession == Succession::InTurn && plan.n_cold > 0;
    let at = |phase: Phase, cause| {
        let mut machine = Machine::resume(plan, phase, cause);
        // Forward it is the cause of nothing else.
        if phase.is_seen_through() && cause == Cause::Aborted {
            machine.call_off();
        }
        machine
    };
    let alive = seen.same_boot && seen.candidate_alive;
    match last {
        // The source's descriptor is gone; nothing was changed.
        Receive
        | Verify
        | Preflight
        | Stage
        | RehearseOld
        | Backup
        | RestoreRehearsal
        | Hook(BeforeStart | BeforeStop)
        | Park => at(Undo, Cause::Interrupted),
        // A hook is run at most once: what was cut off has failed.
        Hook(BeforeMigrate) if !seen.hook_passed => at(Undo, Cause::Refused),
        Hook(BeforeMigrate) => at(Migrate, cause),
        // What was begun on the data is found out, never begun again.
        Migrate => at(Migrate, cause),
        // The old one may be half stopped: through, and on.
        StopOld if seen.same_boot => at(StopOld, cause),
        Start | Gate if alive => at(Gate, cause),
        Hook(BeforeFlip) if alive && seen.hook_passed => on(plan, last, cause),
        Hook(BeforeFlip) if alive && in_turn => back(plan, seen, Cause::Gate),
        Hook(BeforeFlip) if alive => at(Undo, Cause::Gate),
        // In turn there is no old one to leave alone.
        StopOld | Start | Gate | Hook(BeforeFlip) if in_turn => {
            back(plan, seen, Cause::Interrupted)
        }
        StopOld | Start | Gate | Hook(BeforeFlip) => at(Undo, Cause::Interrupted),
        // Its gate had opened, and nothing else could serve.
        Step(_) | StepHold(_) | Flip | Bake | Hold | Commit
            if plan.n_cold == 0 && !seen.same_boot && !seen.committed =>
        {
            at(Commit, Cause::Interrupted)
        }
        Step(_) | StepHold(_) if alive && seen.n_tries_left > 0 => at(last, cause),
        Step(_) | StepHold(_) => back(plan, seen, Cause::Interrupted),
        Flip | Bake if alive && seen.n_tries_left > 0 => at(Flip, cause),
        Hold if alive && seen.n_tries_left > 0 => at(Hold, cause),
        Flip | Bake | Hold => back(plan, seen, Cause::Interrupted),
        // The rename is the commit, nothing else is.
        Commit if seen.committed => on(plan, last, cause),
        Commit if alive => at(Commit, cause),
        Commit => back(plan, seen, Cause::Interrupted),
        Undo => at(Undo, cause),
        BackStart(_) | BackGate(_) | BackFlip(_) | BackVerify(_) | BackCommit(_)
            if seen.same_boot && seen.rung_alive =>
        {
            // A start that was under way has succeeded; the other phases are performed again.
            at(if let BackStart(rung) = last { BackGate(rung) } else { last }, cause)
        }
        BackStart(_) | BackGate(_) | BackFlip(_) | BackVerify(_) | BackCommit(_) | Stranded => {
            back(plan, seen, cause)
        }
        Hook(AfterCommit) => at(Done(Outcome::Committed), cause),
        Hook(AfterRollback) => at(Done(Outcome::RolledBack(cause)), cause),
        Hook(AfterFlip) | Done(_) => at(last, cause),
    }
}

/// The last phase was performed: on with what follows it.
fn on(plan: Plan, last: Phase, cause: Cause) -> Machine {
    let mut machine = Machine::resume(plan, last, cause);
    machine.step(Event::Ok);
    machine
}

/// The way back, from its first rung that can be there.
fn back(plan: Plan, seen: Seen, cause: Cause) -> Machine {
    let phase = match (plan.n_cold, seen.same_boot) {
        (0, _) => Phase::Done(Outcome::NothingBehind(cause)),
        (_, true) => plan.first_rung(),
        (_, false) => Phase::BackStart(1),
    };
    Machine::resume(plan, phase, cause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::operation::machine::{Inconclusive, Kind};

    const ALIVE: Seen = Seen {
        same_boot: true,
        candidate_alive: true,
        committed: false,
        n_tries_left: 2,
        rung_alive: false,
        hook_passed: false,
    };

    fn check(last: Phase, seen: Seen, expected: Phase) {
        check_in(Succession::Overlap, last, seen, expected);
    }

    fn check_in(succession: Succession, last: Phase, seen: Seen, expected: Phase) {
        let inconclusive = Inconclusive::Promote;
        let plan = Plan { kind: Kind::Release, n_cold: 2, inconclusive, succession, n_steps: 2 };
        assert_eq!(
            recover(plan, last, Cause::Refused, seen).phase(),
            expected,
            "{last:?} {seen:?}"
        );
    }

    #[test]
    fn before_the_candidate_exists_everything_is_undone() {
        for last in [Phase::Receive, Phase::Verify, Phase::Stage, Phase::RestoreRehearsal] {
            check(last, ALIVE, Phase::Undo);
        }
    }

    #[test]
    fn what_became_of_a_migration_is_found_out() {
        check(Phase::Migrate, ALIVE, Phase::Migrate);
        check(Phase::Migrate, Seen { same_boot: false, ..ALIVE }, Phase::Migrate);
    }

    #[test]
    fn an_abort_that_waits_for_the_end_of_a_phase_outlives_the_supervisor() {
        let (kind, inconclusive) = (Kind::Release, Inconclusive::Promote);
        for (succession, last, back) in [
            (Succession::Overlap, Phase::Migrate, Phase::Undo),
            (Succession::InTurn, Phase::StopOld, Phase::BackStart(1)),
        ] {
            let plan = Plan { kind, n_cold: 2, inconclusive, succession, n_steps: 2 };
            let mut machine = recover(plan, last, Cause::Aborted, ALIVE);
            assert_eq!(machine.phase(), last);
            assert_eq!(machine.step(Event::Ok), Some(back));
            assert_eq!((machine.cause(), machine.is_called_off()), (Cause::Aborted, false));
        }
    }

    #[test]
    fn a_candidate_that_lives_goes_on_and_a_dead_one_does_not() {
        let dead = Seen { candidate_alive: false, ..ALIVE };
        check(Phase::Start, ALIVE, Phase::Gate);
        check(Phase::Gate, dead, Phase::Undo);
        check(Phase::Bake, ALIVE, Phase::Flip);
        check(Phase::Bake, dead, Phase::BackGate(0));
        check(Phase::Bake, Seen { n_tries_left: 0, ..ALIVE }, Phase::BackGate(0));
    }

    #[test]
    fn a_reboot_starts_the_last_good_one() {
        let rebooted = Seen { same_boot: false, candidate_alive: false, ..ALIVE };
        check(Phase::Flip, rebooted, Phase::BackStart(1));
        check(Phase::Commit, rebooted, Phase::BackStart(1));
        let committed = Seen { committed: true, ..rebooted };
        check(Phase::Commit, committed, Phase::Hook(Point::AfterCommit));
        check(Phase::Hook(Point::AfterCommit), committed, Phase::Done(Outcome::Committed));
    }

    #[test]
    fn a_first_release_whose_gate_had_opened_serves_after_a_reboot() {
        let rebooted = Seen { same_boot: false, candidate_alive: false, ..ALIVE };
        let (kind, inconclusive) = (Kind::Release, Inconclusive::Hold);
        let succession = Succession::Overlap;
        let first = Plan { kind, n_cold: 0, inconclusive, succession, n_steps: 1 };
        let phase = |last, seen| recover(first, last, Cause::Refused, seen).phase();
        for last in [Phase::Step(0), Phase::Flip, Phase::Bake, Phase::Hold, Phase::Commit] {
            assert_eq!(phase(last, rebooted), Phase::Commit, "{last:?}");
        }
        assert_eq!(phase(Phase::Gate, rebooted), Phase::Undo);
        // One that has died by itself is left as it is.
        let died = Seen { candidate_alive: false, ..ALIVE };
        let left = Phase::Done(Outcome::NothingBehind(Cause::Interrupted));
        assert_eq!(phase(Phase::Bake, died), left);
    }

    #[test]
    fn a_hook_that_was_cut_off_has_failed_and_one_that_passed_is_not_run_again() {
        let passed = Seen { hook_passed: true, ..ALIVE };
        let dead = Seen { candidate_alive: false, ..passed };
        check(Phase::Hook(Point::BeforeMigrate), ALIVE, Phase::Undo);
        check(Phase::Hook(Point::BeforeMigrate), passed, Phase::Migrate);
        check(Phase::Hook(Point::BeforeStart), passed, Phase::Undo);
        check(Phase::Hook(Point::BeforeFlip), ALIVE, Phase::Undo);
        check(Phase::Hook(Point::BeforeFlip), passed, Phase::Step(0));
        check(Phase::Hook(Point::BeforeFlip), dead, Phase::Undo);
        let before_flip = Phase::Hook(Point::BeforeFlip);
        for seen in [ALIVE, dead] {
            check_in(Succession::InTurn, before_flip, seen, Phase::BackStart(1));
        }
        let rolled_back = Phase::Done(Outcome::RolledBack(Cause::Refused));
        check(Phase::Hook(Point::AfterRollback), ALIVE, rolled_back);
    }

    #[test]
    fn a_step_is_taken_again_or_back() {
        let dead = Seen { candidate_alive: false, ..ALIVE };
        check(Phase::Step(1), ALIVE, Phase::Step(1));
        check(Phase::StepHold(1), ALIVE, Phase::StepHold(1));
        check(Phase::Step(1), dead, Phase::BackGate(0));
        check(Phase::Step(1), Seen { n_tries_left: 0, ..ALIVE }, Phase::BackGate(0));
    }

    #[test]
    fn in_turn_the_old_one_is_stopped_to_the_end_or_started_again() {
        let dead = Seen { candidate_alive: false, ..ALIVE };
        let rebooted = Seen { same_boot: false, ..dead };
        check_in(Succession::InTurn, Phase::Park, dead, Phase::Undo);
        check_in(Succession::InTurn, Phase::StopOld, dead, Phase::StopOld);
        check_in(Succession::InTurn, Phase::StopOld, rebooted, Phase::BackStart(1));
        check_in(Succession::InTurn, Phase::Start, dead, Phase::BackStart(1));
        check_in(Succession::InTurn, Phase::Gate, ALIVE, Phase::Gate);
        check_in(Succession::InTurn, Phase::Bake, dead, Phase::BackStart(1));
    }

    #[test]
    fn the_rename_is_the_commit() {
        check(Phase::Commit, ALIVE, Phase::Commit);
        check(Phase::Commit, Seen { candidate_alive: false, ..ALIVE }, Phase::BackGate(0));
    }

    #[test]
    fn what_has_no_way_back_is_held_unless_somebody_orders_it_back() {
        use Phase::*;
        let overlap = Plan {
            kind: Kind::Release,
            n_cold: 2,
            inconclusive: Inconclusive::Hold,
            succession: Succession::Overlap,
            n_steps: 0,
        };
        let in_turn = Plan { succession: Succession::InTurn, ..overlap };
        let step = |plan, from, event| {
            let mut machine = Machine::resume(plan, from, Cause::Refused);
            machine.hold_on_failure();
            machine.step(event)
        };
        for event in [Event::Failed, Event::Died] {
            for phase in [Flip, Bake, Hold] {
                assert_eq!(step(overlap, phase, event), Some(Hold), "{phase:?}");
            }
            assert_eq!(step(in_turn, Gate, event), Some(Hold));
            // The old one serves still.
            assert_eq!(step(overlap, Gate, event), Some(Undo));
        }
        assert_eq!(step(overlap, Hold, Event::Promote(Hold)), Some(Commit));
        assert_eq!(step(overlap, Bake, Event::Abort), Some(BackGate(0)));
        assert_eq!(step(in_turn, Hold, Event::Abort), Some(BackStart(1)));
        assert_eq!(
            step(Plan { n_cold: 0, ..overlap }, Bake, Event::Failed),
            Some(Done(Outcome::NothingBehind(Cause::Bake)))
        );
    }
}
