//! A lost state, rebuilt from what runs and from what lies on the disk. Pure: the same traces give the same
//! state, whose guesses are named.

use std::collections::BTreeSet;

use crate::api::Outcome;
use crate::core::exit::Exit;
use crate::core::ids::ReleaseId;
use crate::core::operation::machine::Kind;
use crate::core::operation::outcome::Word;
use crate::core::ordered::Ordered as _;
use crate::core::retention::Verdict;
use crate::store::journal::Intent;
use crate::store::layout::ServiceLayout;
use crate::store::state::{Frozen, Served, State};
use crate::store::{release, salvage};

/// What a service has left on the disk and at the keeper.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traces {
    /// Release and generation of each process that runs.
    pub runs: Vec<(u64, u64)>,
    /// Operations and their results, the newest first.
    pub operations: Vec<(Intent, Option<Outcome>)>,
    /// The release that `current` points to.
    pub current: Option<u64>,
    /// The releases that have a tree.
    pub releases: Vec<Left>,
}

/// A release that has a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Left {
    /// Its number.
    pub release: u64,
    /// What became of it, and why it is bad.
    pub verdict: Option<(Verdict, Option<String>)>,
    /// sha256 over its tree.
    pub digest: Option<String>,
    /// When it was staged.
    pub at: String,
}

/// A state that was rebuilt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// The state.
    pub state: State,
    /// Where its last good release is from.
    pub source: &'static str,
    /// What it does not have, or only guesses.
    pub notes: Vec<String>,
}

impl Traces {
    /// Those of a service of which this runs.
    #[must_use]
    pub fn of(paths: &ServiceLayout, runs: Vec<(u64, u64)>) -> Self {
        let target = std::fs::read_link(paths.current()).ok();
        let current = target.and_then(|target| target.file_name()?.to_str()?.parse().ok());
        let left = |number: u64| {
            let manifest = release::manifest(paths, ReleaseId(number)).ok();
            Left {
                release: number,
                verdict: release::verdict(paths, ReleaseId(number)).ok(),
                digest: manifest.as_ref().map(|manifest| manifest.digest.clone()),
                at: manifest.map(|manifest| manifest.at).unwrap_or_default(),
            }
        };
        Self {
            runs,
            operations: salvage::all(paths),
            current,
            releases: ServiceLayout::numbers(&paths.releases()).into_iter().map(left).collect(),
        }
    }

    /// The state, as far as the traces lead.
    #[must_use]
    pub fn state(&self) -> Rebuilt {
        let mut notes = vec!["a freeze, pins and the last rehearsal are not known".to_owned()];
        let (last_good, source) = match self.last_good() {
            Some((served, source)) => (Some(served), source),
            None => (None, "there is no good release"),
        };
        let frozen = self.frozen();
        if !frozen.is_empty() {
            let numbers: Vec<String> = frozen.iter().map(|it| it.release.to_string()).collect();
            notes.push(format!("releases that were bad are frozen: {}", numbers.join(", ")));
        }
        let stopped = self.runs.is_empty();
        if stopped {
            notes.push("nothing runs, so the service counts as stopped".to_owned());
        }
        let newest = self.operations.iter().find_map(|(_, outcome)| outcome.as_ref());
        let alarm = newest.and_then(|outcome| {
            let has_alarm = matches!(
                Exit::of_code(outcome.exit),
                Some(Exit::RollbackFailed | Exit::OldUnproven)
            );
            outcome.trouble.clone().filter(|_| has_alarm)
        });
        let state = State {
            last_good,
            frozen,
            stopped,
            next_release: self.next_release(),
            alarm,
            ..State::default()
        };
        Rebuilt { state, source, notes }
    }

    /// What became of a release, by what operations have ended with.
    #[must_use]
    pub fn verdict(&self, release: u64) -> (Verdict, Option<String>) {
        let was =
            |outcome: &Outcome, word| outcome.outcome == word && outcome.release == Some(release);
        for (intent, outcome) in &self.operations {
            match outcome {
                Some(outcome) if outcome.last_good == Some(release) => {
                    return (Verdict::Good, None);
                }
                Some(outcome) if was(outcome, Word::RolledBack) => {
                    let why = outcome.trouble.as_ref().map(|trouble| trouble.why.clone());
                    return (Verdict::Bad, why);
                }
                Some(outcome) if outcome.release == Some(release) && !outcome.is_good() => {
                    return (Verdict::Aborted, None);
                }
                // A way back to it was planned.
                _ if intent.ladder.contains(&release) => return (Verdict::Good, None),
                _ => {}
            }
        }
        (Verdict::Staged, None)
    }

    fn last_good(&self) -> Option<(Served, &'static str)> {
        let trees = self.releases.iter().map(|left| left.release).into_set();
        let of_result = self.operations.iter().find_map(|(intent, outcome)| match outcome {
            Some(outcome) => outcome.last_good.map(|release| (release, intent.op)),
            None => None,
        });
        let newest = self.operations.first().filter(|(_, outcome)| outcome.is_none());
        let committed = newest.filter(|(intent, _)| intent.kind == Kind::Release.name());
        let committed = committed.filter(|(intent, _)| self.is_good(intent.release));
        if let Some((intent, _)) = committed {
            let served = self.served(intent.release, intent.op);
            return Some((served, "the newest journal, which was committed"));
        }
        let is_there = |(release, _): &(u64, u64)| trees.contains(release);
        if let Some((release, op)) = of_result.filter(is_there) {
            return Some((self.served(release, op), "the newest journal with a result"));
        }
        // Before the first result there was nothing to go back to, so `current` may be on trial.
        let mut newest_first = self.releases.iter().rev();
        if let Some(left) = newest_first.find(|left| self.is_good(left.release)) {
            return Some((self.served(left.release, 0), "the newest good verdict"));
        }
        let current = self.current.filter(|release| trees.contains(release))?;
        Some((self.served(current, 0), "the link current"))
    }

    fn is_good(&self, release: u64) -> bool {
        let is_good = |left: &Left| matches!(left.verdict, Some((Verdict::Good, _)));
        self.releases.iter().any(|left| left.release == release && is_good(left))
    }

    /// With the generation that runs; else with the one that an operation started.
    fn served(&self, release: u64, op: u64) -> Served {
        let running = self.runs.iter().filter(|run| run.0 == release).map(|run| run.1).max();
        let started = self.operations.iter().find(|(intent, _)| intent.release == release);
        let generation = running.or(started.map(|(intent, _)| intent.generation)).unwrap_or(0);
        Served { release, generation, op }
    }

    fn frozen(&self) -> Vec<Frozen> {
        let bad = self.releases.iter().filter_map(|left| {
            let (Verdict::Bad, why) = left.verdict.clone()? else { return None };
            Some(Frozen {
                digest: left.digest.clone()?,
                release: left.release,
                why: why.unwrap_or_default(),
                at: left.at.clone(),
            })
        });
        bad.collect()
    }

    /// A number is given out once.
    fn next_release(&self) -> u64 {
        let mut numbers: BTreeSet<u64> = self.releases.iter().map(|left| left.release).into_set();
        numbers.extend(self.operations.iter().map(|(intent, _)| intent.release));
        numbers.extend(self.runs.iter().map(|run| run.0));
        numbers.last().map_or(1, |last| last + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intent(op: u64, release: u64, generation: u64) -> Intent {
        let intent = serde_json::json!({
            "version": 1, "op": op, "kind": "release", "actor": "", "source": "", "at": "x",
            "boot_id": "", "release": release, "generation": generation, "old": null, "warm": null,
            "ladder": [], "inconclusive": "hold", "succession": "overlap",
        });
        serde_json::from_value(intent).unwrap()
    }

    fn ended(word: Word, op: u64, release: u64, last_good: u64, exit: Exit) -> Option<Outcome> {
        let mut outcome = Outcome::new(word.into(), "web", op);
        (outcome.release, outcome.last_good) = (Some(release), Some(last_good));
        outcome.exit = exit.code();
        Some(outcome)
    }

    fn left(release: u64, verdict: Option<Verdict>) -> Left {
        let verdict = verdict.map(|verdict| (verdict, None));
        Left { release, verdict, digest: Some(format!("d{release}")), at: String::new() }
    }

    /// Two good ones, one that was rolled back, one on trial.
    fn traces() -> Traces {
        let done = Exit::Done;
        Traces {
            runs: vec![(2, 6), (4, 7)],
            operations: vec![
                (intent(4, 4, 7), None),
                (intent(3, 3, 5), ended(Word::RolledBack, 3, 3, 2, Exit::RolledBack)),
                (intent(2, 2, 3), ended(Word::Committed, 2, 2, 2, done)),
                (intent(1, 1, 1), ended(Word::Committed, 1, 1, 1, done)),
            ],
            current: Some(4),
            releases: vec![
                left(1, Some(Verdict::Good)),
                left(2, Some(Verdict::Good)),
                left(3, Some(Verdict::Bad)),
                left(4, Some(Verdict::Staged)),
            ],
        }
    }

    #[track_caller]
    fn check(traces: &Traces, release: u64, generation: u64, op: u64) {
        let good = traces.state().state.last_good;
        assert_eq!(good, Some(Served { release, generation, op }), "{}", traces.state().source);
    }

    #[test]
    fn a_release_on_trial_is_never_the_last_good_one() {
        check(&traces(), 2, 6, 3);
        // After a power cut nothing runs: the generation is the one of its operation.
        check(&Traces { runs: Vec::new(), ..traces() }, 2, 3, 3);
        check(&Traces { operations: Vec::new(), ..traces() }, 2, 6, 0);
        let no_meta = |mut traces: Traces| {
            traces.releases.iter_mut().for_each(|left| left.verdict = None);
            traces
        };
        check(&no_meta(traces()), 2, 6, 3);
        check(&no_meta(Traces { operations: Vec::new(), ..traces() }), 4, 7, 0);
    }

    #[test]
    fn a_commit_without_its_result_counts() {
        let mut traces = traces();
        traces.releases[3].verdict = Some((Verdict::Good, None));
        check(&traces, 4, 7, 4);
    }

    #[test]
    fn what_has_no_tree_is_not_started() {
        let mut traces = traces();
        traces.releases.remove(1);
        check(&traces, 1, 1, 0);
        traces.releases.clear();
        assert_eq!(traces.state().state.last_good, None);
        assert_eq!(traces.state().state.next_release, 5);
    }

    #[test]
    fn the_rest_of_the_state_errs_on_the_safe_side() {
        let state = traces().state().state;
        let frozen: Vec<_> = state.frozen.iter().map(|frozen| frozen.digest.as_str()).collect();
        assert_eq!((state.stopped, state.next_release, frozen), (false, 5, vec!["d3"]));
        let idle = Traces { runs: Vec::new(), ..traces() }.state();
        assert!(idle.state.stopped && idle.notes.iter().any(|note| note.contains("stopped")));
        let mut failed = traces();
        failed.operations[1].1 = ended(Word::RollbackFailed, 3, 3, 2, Exit::RollbackFailed);
        let trouble = crate::api::Trouble {
            what: "web: the rollback failed".to_owned(),
            why: String::new(),
            still: String::new(),
            next: Vec::new(),
            exit: Exit::RollbackFailed.code(),
        };
        failed.operations[1].1.as_mut().unwrap().trouble = Some(trouble.clone());
        assert_eq!(failed.state().state.alarm, Some(trouble));
        assert_eq!(traces().state().state.alarm, None);
    }

    #[test]
    fn verdicts_are_what_operations_ended_with() {
        let verdicts = [1, 2, 3, 4].map(|release| traces().verdict(release).0);
        assert_eq!(verdicts, [Verdict::Good, Verdict::Good, Verdict::Bad, Verdict::Staged]);
    }
}
