//! The way back: which releases it tries, in which order.

use crate::core::ids::{GenerationId, ReleaseId};
use crate::core::operation::machine::Succession;
use crate::core::operation::way_back::Before;
use crate::core::retention::Verdict;

/// Releases that the way back tries, at most.
const RUNGS_MAX: usize = 3;

/// The releases to start cold on the way back of a release: the one that it is to replace, then
/// older good ones. One that is down comes last.
#[must_use]
pub fn of_release(from: Option<ReleaseId>, older: &[ReleaseId], before: Before) -> Vec<ReleaseId> {
    let older = older.iter().copied();
    match before {
        Before::Answers | Before::Stopped => {
            from.into_iter().chain(older).take(RUNGS_MAX).collect()
        }
        Before::Down => older.take(RUNGS_MAX - 1).chain(from).collect(),
    }
}

/// Whether a rung is passed over when its release does not run on the data as it is by then: the
/// operation may have migrated it since the ladder was made. The first rung is what was decided on; the
/// release that served before a rollback is the best there is.
#[must_use]
pub fn must_accept(rung: u8, release: ReleaseId, served: Option<ReleaseId>) -> bool {
    rung > 1 && served != Some(release)
}

/// The releases to start cold on the way back of a restart: the same again.
#[must_use]
pub fn of_restart(serving: ReleaseId) -> Vec<ReleaseId> {
    vec![serving]
}

/// What is known when a rollback is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The release that a process of serves.
    pub serving: Option<ReleaseId>,
    /// The release to go back from, serving or dead.
    pub from: Option<ReleaseId>,
    /// Older good releases that run on the data as it is, the newest first.
    pub older: &'a [ReleaseId],
    /// Every release on the disk.
    pub known: &'a [(ReleaseId, Verdict)],
    /// How old and new meet.
    pub succession: Succession,
}

/// Why there is no way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoWay {
    /// There is no older good release.
    NothingOlder,
    /// The one that was named serves.
    ServesAlready,
    /// The one that was named never served.
    NeverServed(Verdict),
    /// The one that was named is not on the disk.
    Unknown,
}

/// The releases that a rollback tries: the one that was named, or older good ones; in turn the one
/// that it goes back from comes last, because it is stopped first.
///
/// # Errors
/// Why there is none.
pub fn of_rollback(to: Option<ReleaseId>, facts: &Facts<'_>) -> Result<Vec<ReleaseId>, NoWay> {
    let targets = match to {
        None if facts.older.is_empty() => return Err(NoWay::NothingOlder),
        None => facts.older.to_vec(),
        Some(to) => vec![named(to, facts)?],
    };
    let (n_targets, last) = match facts.succession {
        Succession::Overlap => (RUNGS_MAX, None),
        Succession::InTurn => (RUNGS_MAX - 1, facts.from),
    };
    Ok(targets.into_iter().take(n_targets).chain(last).collect())
}

fn named(to: ReleaseId, facts: &Facts<'_>) -> Result<ReleaseId, NoWay> {
    if facts.serving == Some(to) {
        return Err(NoWay::ServesAlready);
    }
    match facts.known.iter().find(|(id, _)| *id == to) {
        Some((_, Verdict::Good | Verdict::Bad)) => Ok(to),
        Some((_, verdict)) => Err(NoWay::NeverServed(*verdict)),
        None => Err(NoWay::Unknown),
    }
}

/// A generation that is kept warm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standby {
    /// Which.
    pub generation: GenerationId,
    /// Of which release.
    pub release: ReleaseId,
}

/// Rung 0 of a rollback: the newest generation of its target that is warm. In turn there is none.
#[must_use]
pub fn warm(
    target: ReleaseId,
    standbys: &[Standby],
    succession: Succession,
) -> Option<GenerationId> {
    let of_target = standbys.iter().filter(|standby| standby.release == target);
    let newest = of_target.map(|standby| standby.generation).max();
    newest.filter(|_| succession == Succession::Overlap)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [(ReleaseId, Verdict); 5] = [
        (ReleaseId(1), Verdict::Good),
        (ReleaseId(2), Verdict::Bad),
        (ReleaseId(3), Verdict::Good),
        (ReleaseId(4), Verdict::Aborted),
        (ReleaseId(5), Verdict::Good),
    ];

    fn ids(numbers: &[u64]) -> Vec<ReleaseId> {
        numbers.iter().copied().map(ReleaseId).collect()
    }

    fn check(
        succession: Succession,
        to: Option<u64>,
        older: &[u64],
        expected: Result<&[u64], NoWay>,
    ) {
        let older = ids(older);
        let from = Some(ReleaseId(5));
        let facts = Facts { serving: from, from, older: &older, known: &KNOWN, succession };
        let found = of_rollback(to.map(ReleaseId), &facts);
        assert_eq!(found, expected.map(ids), "{succession:?} {to:?} {older:?}");
    }

    #[test]
    fn a_release_goes_back_to_what_it_replaces_and_then_to_older_ones() {
        let from = Some(ReleaseId(9));
        for before in [Before::Answers, Before::Stopped] {
            assert_eq!(of_release(None, &[], before), ids(&[]));
            assert_eq!(of_release(from, &ids(&[8, 7, 6]), before), ids(&[9, 8, 7]));
        }
        assert_eq!(of_restart(ReleaseId(9)), ids(&[9]));
    }

    #[test]
    fn what_is_down_is_the_last_to_go_back_to() {
        let from = Some(ReleaseId(9));
        assert_eq!(of_release(from, &ids(&[8, 7, 6]), Before::Down), ids(&[8, 7, 9]));
        assert_eq!(of_release(from, &[], Before::Down), ids(&[9]));
        assert_eq!(of_release(None, &[], Before::Down), ids(&[]));
    }

    #[test]
    fn older_rungs_must_accept_the_data() {
        let check = |rung, served: Option<u64>, expected| {
            assert_eq!(must_accept(rung, ReleaseId(3), served.map(ReleaseId)), expected);
        };
        check(1, Some(9), false);
        check(2, Some(9), true);
        check(3, None, true);
        check(2, Some(3), false);
    }

    #[test]
    fn a_rollback_takes_what_was_named_or_the_newest_older_ones() {
        use Succession::Overlap;
        check(Overlap, None, &[3, 1], Ok(&[3, 1]));
        check(Overlap, None, &[4, 3, 2, 1], Ok(&[4, 3, 2]));
        check(Overlap, Some(1), &[3, 1], Ok(&[1]));
        // What was left as bad may be wanted again.
        check(Overlap, Some(2), &[3, 1], Ok(&[2]));
    }

    #[test]
    fn in_turn_the_one_that_is_stopped_first_is_the_last_rung() {
        use Succession::InTurn;
        check(InTurn, None, &[3, 1], Ok(&[3, 1, 5]));
        check(InTurn, None, &[4, 3, 1], Ok(&[4, 3, 5]));
        check(InTurn, Some(1), &[], Ok(&[1, 5]));
    }

    #[test]
    fn there_may_be_no_way_back() {
        use Succession::Overlap;
        check(Overlap, None, &[], Err(NoWay::NothingOlder));
        check(Overlap, Some(5), &[3], Err(NoWay::ServesAlready));
        check(Overlap, Some(4), &[3], Err(NoWay::NeverServed(Verdict::Aborted)));
        check(Overlap, Some(6), &[3], Err(NoWay::Unknown));
    }

    #[test]
    fn the_newest_warm_generation_of_the_target_is_rung_0() {
        let standby = |generation, release| Standby {
            generation: GenerationId(generation),
            release: ReleaseId(release),
        };
        let standbys = [standby(4, 1), standby(6, 1), standby(7, 2)];
        let of = |succession| warm(ReleaseId(1), &standbys, succession);
        assert_eq!(of(Succession::Overlap), Some(GenerationId(6)));
        assert_eq!(of(Succession::InTurn), None);
        assert_eq!(warm(ReleaseId(3), &standbys, Succession::Overlap), None);
    }
}
