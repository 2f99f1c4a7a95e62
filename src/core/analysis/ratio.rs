//! The part of bad events among all, as a program's own counters report it.

use std::collections::BTreeMap;

use crate::core::health::Sample;

/// How far counters have gone since they were first seen. A counter that goes down was begun anew,
/// and one that appears later began at nothing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Increase {
    last: BTreeMap<String, f64>,
    sum: f64,
    has_begun: bool,
}

impl Increase {
    /// Takes a reading of all counters in, each with its name.
    pub fn observe(&mut self, counters: impl IntoIterator<Item = (String, f64)>) {
        for (name, value) in counters.into_iter().filter(|(_, value)| value.is_finite()) {
            let last = self.last.insert(name, value);
            self.sum += match last {
                Some(last) if value >= last => value - last,
                Some(_) => value,
                None if self.has_begun => value,
                None => 0.0,
            };
        }
        self.has_begun = true;
    }

    /// How far they have gone, all together.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.sum
    }
}

/// The part that may be bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RatioBound {
    /// The greatest part, in millionths.
    pub max_ppm: u32,
    /// Fewer events are inconclusive.
    pub min_total: u32,
}

impl RatioBound {
    /// The result for so many bad events of so many in all.
    #[must_use]
    pub fn judge(self, bad: f64, total: f64) -> Sample {
        let is_enough = total >= f64::from(self.min_total) && total > 0.0;
        if !is_enough {
            Sample::Unclear
        } else if self.is_passed(bad, total) {
            Sample::Bad
        } else {
            Sample::Good
        }
    }

    /// Whether it is more than may be, however few there were.
    #[must_use]
    pub fn is_passed(self, bad: f64, total: f64) -> bool {
        bad * 1e6 > f64::from(self.max_ppm) * total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_count_from_where_they_were_first_seen() {
        let mut increase = Increase::default();
        for (a, b, expected) in [
            (Some(100.0), None, 0.0),
            (Some(110.0), None, 10.0),
            (Some(110.0), Some(5.0), 15.0),
            // Begun anew.
            (Some(3.0), Some(6.0), 19.0),
            (None, Some(f64::NAN), 19.0),
            (Some(4.0), Some(8.0), 22.0),
        ] {
            let counters = [("a", a), ("b", b)];
            let there = counters.into_iter().filter_map(|(name, n)| Some((name.to_owned(), n?)));
            increase.observe(there);
            assert!((increase.sum() - expected).abs() < 1e-9, "{} {expected}", increase.sum());
        }
    }

    #[test]
    fn a_part_of_too_few_says_nothing() {
        let bound = RatioBound { max_ppm: 20_000, min_total: 10 };
        for (bad, total, expected) in [
            (9.0, 9.0, Sample::Unclear),
            (0.0, 10.0, Sample::Good),
            (2.0, 100.0, Sample::Good),
            (2.1, 100.0, Sample::Bad),
            (10.0, 10.0, Sample::Bad),
        ] {
            assert_eq!(bound.judge(bad, total), expected, "{bad} of {total}");
        }
        let none = RatioBound { max_ppm: 0, min_total: 0 };
        assert_eq!(none.judge(0.0, 0.0), Sample::Unclear);
    }
}
