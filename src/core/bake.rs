//! The verdict over a release that new connections go to: pass, fail, or neither.

use crate::core::health::Sample;
use crate::core::time::Tick;

/// What a bake wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BakePlan {
    /// This many bad probes in a row fail it.
    pub fall: u32,
    /// Fewer probes by the end are no verdict.
    pub min_samples: u32,
    /// When it ends.
    pub until: Tick,
}

/// How the bake stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Not yet over.
    Watching,
    /// Good.
    Pass,
    /// Bad: too many bad probes in a row.
    Fail,
    /// Over, and too little was seen.
    Inconclusive,
}

/// A bake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bake {
    plan: BakePlan,
    n_samples: u32,
    n_bad: u32,
    /// So was the last one.
    is_unclear: bool,
}

impl Bake {
    /// A bake that begins.
    #[must_use]
    pub fn new(plan: BakePlan) -> Self {
        Self { plan, n_samples: 0, n_bad: 0, is_unclear: false }
    }

    /// Takes a probe in.
    pub fn observe(&mut self, now: Tick, sample: Sample) -> Verdict {
        let counts = u32::from(sample != Sample::Unclear);
        self.n_samples = self.n_samples.saturating_add(counts);
        self.n_bad = match sample {
            Sample::Good => 0,
            Sample::Bad => self.n_bad.saturating_add(1),
            Sample::Unclear => self.n_bad,
        };
        self.is_unclear = sample == Sample::Unclear;
        if self.n_bad >= self.plan.fall {
            Verdict::Fail
        } else if now < self.plan.until {
            Verdict::Watching
        } else if self.n_samples < self.plan.min_samples {
            Verdict::Inconclusive
        } else if self.n_bad > 0 {
            // It ends in the middle of a bad row: what was good before is no pass.
            Verdict::Fail
        } else if self.is_unclear {
            Verdict::Inconclusive
        } else {
            Verdict::Pass
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `+` is a good probe, `-` a bad one, `?` an unclear one; they come every 10 ms.
    fn check(seen: &str, min_samples: u32, expected: Verdict) {
        let mut bake = Bake::new(BakePlan { fall: 3, min_samples, until: Tick(50) });
        let mut verdict = Verdict::Watching;
        for (n, sample) in (1..).zip(seen.bytes()) {
            assert_eq!(verdict, Verdict::Watching, "{seen}");
            let sample = match sample {
                b'+' => Sample::Good,
                b'?' => Sample::Unclear,
                _ => Sample::Bad,
            };
            verdict = bake.observe(Tick(n * 10), sample);
        }
        assert_eq!(verdict, expected, "{seen}");
    }

    #[test]
    fn it_passes_only_at_its_end_and_with_enough_samples() {
        check("++++", 1, Verdict::Watching);
        check("+++++", 1, Verdict::Pass);
        check("+++++", 9, Verdict::Inconclusive);
    }

    #[test]
    fn what_nobody_can_judge_counts_for_nothing() {
        check("?????", 1, Verdict::Inconclusive);
        check("+????", 1, Verdict::Inconclusive);
        check("+???+", 1, Verdict::Pass);
        check("-?-??", 1, Verdict::Fail);
    }

    #[test]
    fn bad_probes_in_a_row_end_it_at_once() {
        check("+--", 1, Verdict::Watching);
        check("+---", 1, Verdict::Fail);
        check("--+--", 1, Verdict::Fail);
        check("+--++", 1, Verdict::Pass);
    }
}
