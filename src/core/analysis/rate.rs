//! So many in so much time, and how many there were in the time that lies just behind.

use std::collections::VecDeque;

use crate::core::time::Tick;

/// A rate that may be reached and not passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    /// So many.
    pub n: u32,
    /// In this time; more than nothing.
    pub per_ms: u64,
}

impl Rate {
    /// Whether so many in this time are more.
    #[must_use]
    pub fn is_passed(self, n: u64, in_ms: u64) -> bool {
        u128::from(n) * u128::from(self.per_ms) > u128::from(self.n) * u128::from(in_ms)
    }
}

/// What was counted, for as long as the rate looks back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    rate: Rate,
    seen: VecDeque<(Tick, u64)>,
}

impl Window {
    /// A window that nothing was counted in.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self { rate, seen: VecDeque::new() }
    }

    /// Counts so many more, and returns how many there are within the rate's time. A shorter time
    /// than that is never scaled up: one error in the first moment is one.
    pub fn add(&mut self, now: Tick, n: u64) -> u64 {
        if n > 0 {
            self.seen.push_back((now, n));
        }
        while self.seen.front().is_some_and(|(at, _)| now.since_ms(*at) >= self.rate.per_ms) {
            self.seen.pop_front();
        }
        self.seen.iter().fold(0, |sum: u64, (_, n)| sum.saturating_add(*n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_within_its_time_is_counted() {
        let mut window = Window::new(Rate { n: 1, per_ms: 100 });
        for (at, n, expected) in [(0, 2, 2), (50, 1, 3), (99, 0, 3), (100, 0, 1), (150, 0, 0)] {
            assert_eq!(window.add(Tick(at), n), expected, "at {at}");
        }
    }

    #[test]
    fn a_rate_may_be_reached_and_not_passed() {
        let rate = Rate { n: 30, per_ms: 60_000 };
        assert!(!rate.is_passed(30, 60_000));
        assert!(rate.is_passed(31, 60_000));
        assert!(rate.is_passed(1, 1_999));
        assert!(!rate.is_passed(1, 2_000));
        assert!(Rate { n: 0, per_ms: 1000 }.is_passed(1, u64::MAX));
    }
}
