//! What follows from the end of an operation: the release that is blamed, the generation that is
//! kept warm, the generations that go.

use crate::core::duty::Duty;
use crate::core::ids::ReleaseId;
use crate::core::operation::machine::{Kind, Outcome};
use crate::core::operation::way_back::Before;
use crate::core::retention::Verdict;

/// What a rollback has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// What was asked for.
    pub kind: Kind,
    /// The release that an operation of this kind leaves: a release's candidate, what served before
    /// a rollback.
    pub release: Option<ReleaseId>,
    /// The release that serves instead.
    pub back_at: ReleaseId,
    /// Why it was left.
    pub because: Because,
}

/// Why a release was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    /// It turned bad, or a human wants another.
    OfItself,
    /// Another member of its set goes back.
    OfItsSet,
    /// The machine or Halley went down in its bake: nobody knows how it would have done.
    OfTheMachine,
}

/// What is held against a release that was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// Nothing.
    Spared,
    /// It is called off; its artifact may be released again.
    Aborted(ReleaseId),
    /// Its verdict is bad.
    Bad(ReleaseId),
    /// Its verdict is bad, and its artifact is frozen.
    Frozen(ReleaseId),
}

/// What is held against the release that was left.
#[must_use]
pub fn blame(left: Left) -> Blame {
    let Some(release) = left.release.filter(|release| *release != left.back_at) else {
        return Blame::Spared;
    };
    match (left.kind, left.because) {
        // The same release goes on in other processes.
        (Kind::Restart, _) => Blame::Spared,
        (Kind::Release, Because::OfTheMachine) => Blame::Aborted(release),
        // What goes back because of another member of its set was not bad itself.
        (Kind::Rollback, Because::OfItsSet) => Blame::Bad(release),
        (Kind::Release, Because::OfItself | Because::OfItsSet)
        | (Kind::Rollback, Because::OfItself | Because::OfTheMachine) => Blame::Frozen(release),
    }
}

impl Blame {
    /// The release that has another verdict from here on, and which.
    #[must_use]
    pub fn verdict(self) -> Option<(ReleaseId, Verdict)> {
        match self {
            Self::Spared => None,
            Self::Aborted(release) => Some((release, Verdict::Aborted)),
            Self::Bad(release) | Self::Frozen(release) => Some((release, Verdict::Bad)),
        }
    }

    /// The release whose artifact is frozen from here on.
    #[must_use]
    pub fn frozen(self) -> Option<ReleaseId> {
        match self {
            Self::Spared | Self::Aborted(_) | Self::Bad(_) => None,
            Self::Frozen(release) => Some(release),
        }
    }
}

/// Which way an operation is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The candidate is the last good one.
    Forward,
    /// A rung of the way back is.
    Back,
}

/// The generation that is warm after a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warm {
    /// The one that served before the operation.
    Left,
    /// The one that was warm before.
    AsBefore,
}

/// The generation that is warm after a commit.
#[must_use]
pub fn warm(kind: Kind, way: Way, before: Before) -> Warm {
    match (kind, way) {
        // What does not answer is kept for nothing.
        (Kind::Release, Way::Forward) if before == Before::Down => Warm::AsBefore,
        (Kind::Release, Way::Forward) | (Kind::Rollback, _) => Warm::Left,
        // A restart's old processes are of the same release: there is no way back to them. What a
        // rollback has left has turned bad.
        (Kind::Restart, _) | (Kind::Release, Way::Back) => Warm::AsBefore,
    }
}

/// A generation when an operation is over, or when a supervisor comes up and none is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// New connections go to it.
    pub is_live: bool,
    /// It is on its way out already.
    pub is_leaving: bool,
    /// The state names it as the one that is kept warm.
    pub is_warm: bool,
    /// What it was there for.
    pub duty: Duty,
}

/// What becomes of a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Farewell {
    /// It stays what it is.
    Stays,
    /// It is kept until its time is over, then it goes.
    GoesLater,
    /// It goes.
    Goes,
}

/// What becomes of a generation when an operation has ended so; without one when a supervisor comes
/// up.
#[must_use]
pub fn farewell(found: Found, ended: Option<Outcome>) -> Farewell {
    match (found, ended) {
        (Found { is_live: true, .. } | Found { is_leaving: true, .. }, _) => Farewell::Stays,
        // Nothing has changed: an older standby is what it was.
        (Found { duty: Duty::Standby, .. }, Some(Outcome::Undone(_))) => Farewell::Stays,
        (Found { is_warm: true, .. }, _) => Farewell::GoesLater,
        (Found { .. }, _) => Farewell::Goes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::operation::machine::Cause;

    const LEFT: ReleaseId = ReleaseId(4);

    fn check_blame(kind: Kind, because: Because, expected: Blame) {
        let left = Left { kind, release: Some(LEFT), back_at: ReleaseId(3), because };
        assert_eq!(blame(left), expected, "{left:?}");
    }

    #[test]
    fn what_was_left_is_bad_and_frozen_unless_its_set_went_back() {
        check_blame(Kind::Release, Because::OfItself, Blame::Frozen(LEFT));
        check_blame(Kind::Release, Because::OfItsSet, Blame::Frozen(LEFT));
        check_blame(Kind::Rollback, Because::OfItself, Blame::Frozen(LEFT));
        check_blame(Kind::Rollback, Because::OfItsSet, Blame::Bad(LEFT));
        // Who asks for a rollback does not want it, whatever went down meanwhile.
        check_blame(Kind::Rollback, Because::OfTheMachine, Blame::Frozen(LEFT));
        check_blame(Kind::Release, Because::OfTheMachine, Blame::Aborted(LEFT));
        check_blame(Kind::Restart, Because::OfItself, Blame::Spared);
    }

    #[test]
    fn what_serves_is_never_blamed() {
        let kind = Kind::Rollback;
        let left = Left { kind, release: Some(LEFT), back_at: LEFT, because: Because::OfItself };
        assert_eq!(blame(left), Blame::Spared);
        assert_eq!(blame(Left { release: None, ..left }), Blame::Spared);
        assert_eq!(
            (Blame::Bad(LEFT).verdict(), Blame::Bad(LEFT).frozen()),
            (Some((LEFT, Verdict::Bad)), None)
        );
    }

    #[test]
    fn what_turned_bad_is_not_kept_warm() {
        let check = |kind, way, expected| {
            assert_eq!(warm(kind, way, Before::Answers), expected, "{kind:?} {way:?}");
        };
        let release = |before| warm(Kind::Release, Way::Forward, before);
        assert_eq!((release(Before::Stopped), release(Before::Down)), (Warm::Left, Warm::AsBefore));
        check(Kind::Release, Way::Forward, Warm::Left);
        check(Kind::Release, Way::Back, Warm::AsBefore);
        check(Kind::Rollback, Way::Forward, Warm::Left);
        check(Kind::Rollback, Way::Back, Warm::Left);
        check(Kind::Restart, Way::Forward, Warm::AsBefore);
        check(Kind::Restart, Way::Back, Warm::AsBefore);
    }

    fn check_farewell(found: Found, ended: Option<Outcome>, expected: Farewell) {
        assert_eq!(farewell(found, ended), expected, "{found:?} {ended:?}");
    }

    #[test]
    fn the_live_one_stays_the_warm_one_goes_later_and_the_rest_goes() {
        let undone = Some(Outcome::Undone(Cause::Gate));
        let rest =
            Found { is_live: false, is_leaving: false, is_warm: false, duty: Duty::Candidate };
        for ended in [None, undone, Some(Outcome::Committed)] {
            check_farewell(Found { is_live: true, ..rest }, ended, Farewell::Stays);
            check_farewell(Found { is_leaving: true, ..rest }, ended, Farewell::Stays);
            check_farewell(Found { is_warm: true, ..rest }, ended, Farewell::GoesLater);
            check_farewell(rest, ended, Farewell::Goes);
        }
        let standby = Found { duty: Duty::Standby, ..rest };
        check_farewell(standby, undone, Farewell::Stays);
        check_farewell(standby, Some(Outcome::Committed), Farewell::Goes);
        check_farewell(standby, None, Farewell::Goes);
    }
}
