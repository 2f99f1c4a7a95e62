//! The verdict over a release that new connections go to: pass, fail, or neither.
//!
//! It is made of [`Signal`]s. One that has failed ends the bake at once; a pass needs every one of
//! them, at the end and not before.

use std::collections::BTreeMap;

use crate::core::analysis::signal::{Ask, Doubt, End, Name, Signal};
use crate::core::health::Sample;
use crate::core::ordered::Ordered as _;
use crate::core::time::Tick;

/// How the bake stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Not yet over.
    Watching,
    /// Good.
    Pass,
    /// Bad, by this signal.
    Fail(Name),
    /// Over, and these signals do not show that it is good.
    Inconclusive(Vec<(Name, Doubt)>),
}

/// A bake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bake {
    until: Tick,
    signals: BTreeMap<Name, Signal>,
}

impl Bake {
    /// A bake that begins, and when it ends.
    #[must_use]
    pub fn new(until: Tick, asks: impl IntoIterator<Item = (Name, Ask)>) -> Self {
        let signals = asks.into_iter().map(|(name, ask)| (name, Signal::new(ask))).into_map();
        Self { until, signals }
    }

    /// What it looks at.
    pub fn names(&self) -> impl Iterator<Item = Name> {
        self.signals.keys().copied()
    }

    /// Takes a sample in; one of a signal that is not configured counts for nothing.
    pub fn observe(&mut self, name: Name, sample: Sample) {
        if let Some(signal) = self.signals.get_mut(&name) {
            signal.observe(sample);
        }
    }

    /// How it stands now.
    #[must_use]
    pub fn verdict(&self, now: Tick) -> Verdict {
        if let Some((name, _)) = self.signals.iter().find(|(_, signal)| signal.has_failed()) {
            return Verdict::Fail(*name);
        }
        if now < self.until {
            return Verdict::Watching;
        }
        let mut doubts = Vec::new();
        for (name, signal) in &self.signals {
            match signal.end() {
                End::Pass => {}
                End::Fail => return Verdict::Fail(*name),
                End::Doubt(doubt) => doubts.push((*name, doubt)),
            }
        }
        if doubts.is_empty() { Verdict::Pass } else { Verdict::Inconclusive(doubts) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::analysis::signal::Weight;

    fn sample(seen: u8) -> Sample {
        match seen {
            b'+' => Sample::Good,
            b'?' => Sample::Unclear,
            _ => Sample::Bad,
        }
    }

    /// `+` is a good probe, `-` a bad one, `?` an unclear one; they come every 10 ms.
    fn check(seen: &str, min_samples: u32, expected: &str) {
        let ask = Ask { fall: 3, min_samples, weight: Weight::Required };
        let mut bake = Bake::new(Tick(50), [(Name::Probes, ask)]);
        let mut verdict = Verdict::Watching;
        for (n, seen_now) in (1..).zip(seen.bytes()) {
            assert_eq!(verdict, Verdict::Watching, "{seen}");
            bake.observe(Name::Probes, sample(seen_now));
            verdict = bake.verdict(Tick(n * 10));
        }
        assert_eq!(word(&verdict), expected, "{seen}");
    }

    fn word(verdict: &Verdict) -> &'static str {
        match verdict {
            Verdict::Watching => "watching",
            Verdict::Pass => "pass",
            Verdict::Fail(_) => "fail",
            Verdict::Inconclusive(_) => "inconclusive",
        }
    }

    #[test]
    fn it_passes_only_at_its_end_and_with_enough_samples() {
        check("++++", 1, "watching");
        check("+++++", 1, "pass");
        check("+++++", 9, "inconclusive");
    }

    #[test]
    fn what_nobody_can_judge_counts_for_nothing() {
        check("?????", 1, "inconclusive");
        check("+????", 1, "inconclusive");
        check("+???+", 1, "pass");
        check("-?-??", 1, "fail");
    }

    #[test]
    fn bad_probes_in_a_row_end_it_at_once() {
        check("+--", 1, "watching");
        check("+---", 1, "fail");
        check("--+--", 1, "fail");
        check("+--++", 1, "pass");
    }

    #[test]
    fn each_signal_has_its_say_and_the_bad_one_is_named() {
        use Name::{Memory, Metrics, Probes, Wanted};
        let required = Ask { fall: 2, min_samples: 1, weight: Weight::Required };
        let wanted = Ask { weight: Weight::Wanted, ..required };
        let asks = [(Probes, required), (Memory, required), (Metrics, required), (Wanted, wanted)];
        let too_few = Doubt::TooFew { n_samples: 0, min_samples: 1 };
        for (probes, memory, metrics, wants, expected) in [
            ("++", "++", "++", "++", Verdict::Pass),
            ("++", "--", "++", "++", Verdict::Fail(Memory)),
            ("++", "+-", "++", "++", Verdict::Fail(Memory)),
            ("++", "++", "", "++", Verdict::Inconclusive(vec![(Metrics, too_few)])),
            ("++", "++", "+?", "++", Verdict::Inconclusive(vec![(Metrics, Doubt::Unclear)])),
            ("++", "++", "++", "--", Verdict::Inconclusive(vec![(Wanted, Doubt::Bad)])),
            // A bad result is worse than an inconclusive one.
            ("--", "??", "", "--", Verdict::Fail(Probes)),
        ] {
            let mut bake = Bake::new(Tick(50), asks);
            for (name, seen) in
                [(Probes, probes), (Memory, memory), (Metrics, metrics), (Wanted, wants)]
            {
                seen.bytes().for_each(|seen| bake.observe(name, sample(seen)));
            }
            assert_eq!(bake.verdict(Tick(50)), expected, "{probes} {memory} {metrics} {wants}");
        }
    }

    #[test]
    fn what_nobody_asked_for_changes_nothing() {
        let ask = Ask { fall: 1, min_samples: 1, weight: Weight::Required };
        let mut bake = Bake::new(Tick(0), [(Name::Probes, ask)]);
        bake.observe(Name::Memory, Sample::Bad);
        bake.observe(Name::Probes, Sample::Good);
        assert_eq!(bake.verdict(Tick(0)), Verdict::Pass);
    }
}
