//! Where new connections go when a supervisor comes up in the middle of an operation.
//!
//! The kernel has gone on steering meanwhile. What is decided here is the generation that it steers
//! to, as far as the journal and the processes show, so that steering there again changes nothing;
//! and where that generation is dead, the one that is best in its place. A candidate is never the
//! choice before its gate has opened.

use crate::core::ids::GenerationId;
use crate::core::operation::machine::Kind;
use crate::core::operation::phase::Phase;
use crate::core::operation::point::Point;

/// What is known of an open operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Facts {
    /// What was asked for, if the journal's name for it is known.
    pub kind: Option<Kind>,
    /// The phase that was announced last, of those that are known.
    pub last: Option<Phase>,
    /// A step or the flip was announced: the candidate's gate had opened.
    pub gate_opened: bool,
    /// The flip was announced.
    pub flip_announced: bool,
    /// The trial file is there.
    pub on_trial: bool,
    /// The state file names this operation's generation as the last good one.
    pub committed: bool,
    /// A process of the candidate runs.
    pub candidate_alive: bool,
    /// A process of the generation that served when the operation began runs.
    pub old_alive: bool,
    /// A process of the last phase's rung runs.
    pub rung_alive: bool,
}

/// Where new connections go, by what the generation is in the operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Live {
    /// To the candidate.
    Candidate,
    /// To the generation that served when the operation began.
    Old,
    /// To the generation of the last phase's rung.
    Rung,
    /// To the generation that was committed last, alive or not.
    LastGood,
    /// To a queue that no process takes from.
    Held,
}

/// Where new connections go.
#[must_use]
pub fn live(facts: &Facts) -> Live {
    let wanted = steered(facts);
    let last_resort = if facts.gate_opened { Live::Candidate } else { Live::LastGood };
    let choices = [wanted, Live::Old, last_resort];
    choices.into_iter().find(|live| facts.is_possible(*live)).unwrap_or(Live::LastGood)
}

/// Where the last phase has steered to.
fn steered(facts: &Facts) -> Live {
    use Phase::*;
    let Some(last) = facts.last else { return Live::Old };
    match last {
        // After the rename no other generation is the one, dead or alive.
        Commit if facts.committed => Live::LastGood,
        Hook(Point::AfterCommit | Point::AfterRollback) => Live::LastGood,
        Bake | Hold | Commit => Live::Candidate,
        Flip if facts.was_flipped() => Live::Candidate,
        BackFlip(_) | BackVerify(_) | BackCommit(_) => Live::Rung,
        BackStart(_) | BackGate(_) | Stranded if facts.was_flipped() => Live::Candidate,
        // It is being stopped: connections wait, and go on waiting.
        StopOld => Live::Held,
        // On a step the old one is the live one; the way back from it begins there too.
        Receive | Verify | Preflight | Stage | RehearseOld | Backup | RestoreRehearsal
        | Hook(_) | Migrate | Park | Start | Gate | Step(_) | StepHold(_) | Flip | Undo
        | BackStart(_) | BackGate(_) | Stranded | Done(_) => Live::Old,
    }
}

impl Facts {
    /// All connections went to the candidate. A trial begins with its first step, or with its flip.
    fn was_flipped(&self) -> bool {
        self.flip_announced && (self.on_trial || self.kind == Some(Kind::Restart))
    }

    fn is_possible(&self, live: Live) -> bool {
        match live {
            Live::Candidate => self.candidate_alive,
            Live::Old => self.old_alive,
            Live::Rung => self.rung_alive,
            Live::LastGood | Live::Held => true,
        }
    }
}

/// The generation that serves while no operation is open: the recorded one. When that is not known at all, its
/// record could not be written (a full disk): what runs of the last good release serves, the newest of it. Two of
/// what cannot run twice would be the alternative.
#[must_use]
pub fn at_rest(
    recorded: GenerationId,
    known: &[GenerationId],
    running_of_good: &[GenerationId],
) -> GenerationId {
    match running_of_good.iter().max() {
        Some(newest) if !known.contains(&recorded) => *newest,
        _ => recorded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_of_the_last_good_release_serves_when_the_record_is_of_before() {
        let of = |recorded, known: &[u64], running: &[u64]| {
            let ids = |all: &[u64]| all.iter().copied().map(GenerationId).collect::<Vec<_>>();
            at_rest(GenerationId(recorded), &ids(known), &ids(running)).0
        };
        assert_eq!(of(1, &[1], &[1]), 1);
        assert_eq!(of(1, &[2], &[2]), 2);
        assert_eq!(of(1, &[2, 3, 4], &[2, 3]), 3);
        // It is known, and has just ended: it is started again.
        assert_eq!(of(1, &[1, 2], &[2]), 1);
        assert_eq!(of(1, &[2], &[]), 1);
        assert_eq!(of(1, &[], &[]), 1);
    }

    /// Everything runs, nothing is flipped.
    const BEFORE: Facts = Facts {
        kind: Some(Kind::Release),
        last: Some(Phase::Gate),
        gate_opened: false,
        flip_announced: false,
        on_trial: false,
        committed: false,
        candidate_alive: true,
        old_alive: true,
        rung_alive: true,
    };
    const STEPPED: Facts =
        Facts { gate_opened: true, on_trial: true, last: Some(Phase::Step(0)), ..BEFORE };
    const FLIPPED: Facts = Facts { flip_announced: true, last: Some(Phase::Flip), ..STEPPED };

    fn check(facts: Facts, expected: Live) {
        assert_eq!(live(&facts), expected, "{facts:?}");
    }

    #[test]
    fn the_last_phase_says_where_connections_go() {
        use Phase::*;
        let before = [Point::BeforeMigrate, Point::BeforeStart, Point::BeforeFlip].map(Hook);
        let plain = [Receive, Stage, Migrate, Park, Start, Gate, Undo, BackGate(0)];
        for last in plain.into_iter().chain(before) {
            check(Facts { last: Some(last), ..BEFORE }, Live::Old);
        }
        for last in [Step(0), StepHold(1), BackGate(0), BackStart(1)] {
            check(Facts { last: Some(last), ..STEPPED }, Live::Old);
        }
        for last in [Flip, Bake, Hold, Commit, BackGate(0), BackStart(1), Stranded] {
            check(Facts { last: Some(last), ..FLIPPED }, Live::Candidate);
        }
        for last in [BackFlip(0), BackVerify(1), BackCommit(1)] {
            check(Facts { last: Some(last), ..FLIPPED }, Live::Rung);
        }
    }

    #[test]
    fn a_flip_that_was_announced_and_not_begun_has_moved_nothing() {
        check(Facts { on_trial: false, ..FLIPPED }, Live::Old);
        // A restart has no trial.
        let kind = Some(Kind::Restart);
        check(Facts { on_trial: false, kind, ..FLIPPED }, Live::Candidate);
    }

    #[test]
    fn what_is_dead_is_replaced_by_what_lives_and_is_proven() {
        let no_old = Facts { old_alive: false, ..BEFORE };
        check(no_old, Live::LastGood);
        check(Facts { old_alive: false, ..STEPPED }, Live::Candidate);
        check(Facts { candidate_alive: false, ..FLIPPED }, Live::Old);
        let rung = Facts { last: Some(Phase::BackVerify(1)), rung_alive: false, ..FLIPPED };
        check(rung, Live::Old);
        check(Facts { old_alive: false, ..rung }, Live::Candidate);
        check(Facts { old_alive: false, candidate_alive: false, ..rung }, Live::LastGood);
    }

    #[test]
    fn what_is_committed_is_not_left_because_it_is_dead() {
        let committing = Facts { last: Some(Phase::Commit), candidate_alive: false, ..FLIPPED };
        check(committing, Live::Old);
        check(Facts { committed: true, ..committing }, Live::LastGood);
        for point in [Point::AfterCommit, Point::AfterRollback] {
            check(Facts { last: Some(Phase::Hook(point)), ..committing }, Live::LastGood);
        }
    }

    #[test]
    fn connections_are_held_until_the_old_one_is_stopped() {
        let parked = Facts { last: Some(Phase::Park), candidate_alive: false, ..BEFORE };
        check(parked, Live::Old);
        check(Facts { last: Some(Phase::StopOld), ..parked }, Live::Held);
        let started = Facts { last: Some(Phase::Start), old_alive: false, ..parked };
        check(Facts { candidate_alive: true, ..started }, Live::LastGood);
    }

    #[test]
    fn what_is_not_known_leaves_connections_where_they_are() {
        let unknown = Facts { kind: None, last: None, ..BEFORE };
        check(unknown, Live::Old);
        check(Facts { old_alive: false, ..unknown }, Live::LastGood);
        check(Facts { kind: None, ..FLIPPED }, Live::Candidate);
        check(Facts { kind: None, on_trial: false, old_alive: false, ..FLIPPED }, Live::Candidate);
    }
}
