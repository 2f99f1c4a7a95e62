//! Which releases stay on disk, and which can be gone back to.
//!
//! Nothing reachable is ever pruned; only then does counting begin, and it counts good releases:
//! failed ones never push out what a rollback needs.

use std::collections::BTreeSet;

use crate::core::ids::ReleaseId;
use crate::core::ordered::Ordered as _;

/// What became of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Complete, never committed.
    Staged,
    /// Committed once.
    Good,
    /// Rolled back.
    Bad,
    /// Its operation ended before it got a connection.
    Aborted,
    /// A word of another version: what became of it is not known, so it stays and nobody goes back
    /// to it.
    Unknown,
}

impl Verdict {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Staged, "staged"),
        (Self::Good, "good"),
        (Self::Bad, "bad"),
        (Self::Aborted, "aborted"),
        (Self::Unknown, "unknown"),
    ];

    /// The name on disk and in output.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(verdict, _)| *verdict == self).map_or("staged", |(_, name)| name)
    }

    /// The one of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(verdict, _)| *verdict)
    }
}

/// What holds a release, whatever its age.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Roots {
    /// New connections go to it.
    pub serving: Option<ReleaseId>,
    /// A reboot starts it.
    pub last_good: Option<ReleaseId>,
    /// It is live and not committed.
    pub trial: Option<ReleaseId>,
    /// It is kept warm.
    pub standby: Option<ReleaseId>,
    /// It is pinned by an operator.
    pub pinned: BTreeSet<ReleaseId>,
    /// An operation is about it, or may go back to it.
    pub open: BTreeSet<ReleaseId>,
    /// It has a process.
    pub alive: BTreeSet<ReleaseId>,
}

/// Why a release stays, or that it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It is held by this.
    Keep(&'static str),
    /// It goes.
    Prune,
}

/// How many bad releases stay as evidence.
const N_BAD: usize = 1;

/// The fate of each release, in the order given.
#[must_use]
pub fn plan(
    releases: &[(ReleaseId, Verdict)],
    roots: &Roots,
    n_good: u32,
) -> Vec<(ReleaseId, Fate)> {
    let newest = |wanted: Verdict, n: usize| -> BTreeSet<ReleaseId> {
        let those = releases.iter().filter(|(_, verdict)| *verdict == wanted);
        those.map(|(id, _)| *id).into_set().into_iter().rev().take(n).into_set()
    };
    let good = newest(Verdict::Good, n_good as usize);
    let bad = newest(Verdict::Bad, N_BAD);
    // Whatever the count is, there is something to go back to.
    let target = targets(releases, roots.last_good.or(roots.serving)).into_iter().next();
    let fate = |id: ReleaseId, verdict: Verdict| {
        let held = [
            (verdict == Verdict::Unknown, "unknown verdict"),
            (roots.serving == Some(id), "serving"),
            (roots.last_good == Some(id), "last good"),
            (roots.trial == Some(id), "trial"),
            (roots.standby == Some(id), "standby"),
            (roots.pinned.contains(&id), "pinned"),
            (roots.open.contains(&id), "open operation"),
            (roots.alive.contains(&id), "live process"),
            (target == Some(id), "rollback target"),
            (good.contains(&id), "newest good"),
            (bad.contains(&id), "evidence"),
        ];
        held.into_iter().find(|(holds, _)| *holds).map_or(Fate::Prune, |(_, why)| Fate::Keep(why))
    };
    releases.iter().map(|(id, verdict)| (*id, fate(*id, *verdict))).collect()
}

/// Releases to go back to from `from`, best first: good ones before it, newest first.
#[must_use]
pub fn targets(releases: &[(ReleaseId, Verdict)], from: Option<ReleaseId>) -> Vec<ReleaseId> {
    let before = |id: ReleaseId| from.is_none_or(|from| id < from);
    let good = releases.iter().filter(|(id, verdict)| *verdict == Verdict::Good && before(*id));
    good.map(|(id, _)| *id).into_set().into_iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::{Aborted, Bad, Good, Staged, Unknown};

    fn releases(verdicts: &[Verdict]) -> Vec<(ReleaseId, Verdict)> {
        (1..).map(ReleaseId).zip(verdicts.iter().copied()).collect()
    }

    fn kept(verdicts: &[Verdict], roots: &Roots, n_good: u32) -> Vec<u64> {
        let plan = plan(&releases(verdicts), roots, n_good);
        plan.into_iter().filter(|(_, fate)| *fate != Fate::Prune).map(|(id, _)| id.0).collect()
    }

    #[test]
    fn the_newest_good_ones_stay_and_failed_ones_take_no_place() {
        let roots = Roots { serving: Some(ReleaseId(6)), ..Roots::default() };
        assert_eq!(kept(&[Good, Good, Good, Bad, Bad, Good], &roots, 2), [3, 5, 6]);
        assert_eq!(kept(&[Good, Aborted, Staged, Good, Bad, Good], &roots, 1), [4, 5, 6]);
    }

    #[test]
    fn what_is_reachable_stays_however_old_it_is() {
        let roots = Roots {
            serving: Some(ReleaseId(1)),
            pinned: BTreeSet::from([ReleaseId(2)]),
            open: BTreeSet::from([ReleaseId(3)]),
            alive: BTreeSet::from([ReleaseId(4)]),
            ..Roots::default()
        };
        assert_eq!(kept(&[Bad, Aborted, Staged, Bad, Bad, Good], &roots, 1), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn what_is_not_known_stays_and_is_no_target() {
        let roots = Roots { last_good: Some(ReleaseId(4)), ..Roots::default() };
        assert_eq!(kept(&[Unknown, Staged, Unknown, Good], &roots, 1), [1, 3, 4]);
        assert_eq!(targets(&releases(&[Unknown, Good]), Some(ReleaseId(3))), [ReleaseId(2)]);
    }

    #[test]
    fn going_back_means_the_newest_good_one_before() {
        let all = releases(&[Good, Good, Bad, Good, Good]);
        assert_eq!(targets(&all, Some(ReleaseId(4))), [ReleaseId(2), ReleaseId(1)]);
        assert_eq!(targets(&all, Some(ReleaseId(1))), []);
    }
}
