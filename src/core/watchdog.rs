//! The watchdog of a program: it has to be heard of again and again, or it hangs.

use crate::core::time::Tick;

/// When a program was to be heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watchdog {
    limit_ms: u64,
    /// Absent: it has given itself up.
    until: Option<Tick>,
}

impl Watchdog {
    /// Of a program that has this long until it is first heard of, and from then on each time.
    #[must_use]
    pub fn begin(now: Tick, limit_ms: u64) -> Self {
        Self { limit_ms, until: Some(now.after_ms(limit_ms)) }
    }

    /// It was heard of.
    pub fn heard(&mut self, now: Tick) {
        self.until = self.until.map(|_| now.after_ms(self.limit_ms));
    }

    /// It has said itself that it does not work any more. Nothing that it says later takes that back.
    pub fn trigger(&mut self) {
        self.until = None;
    }

    /// How long it may still be silent; zero is hung.
    #[must_use]
    pub fn left_ms(&self, now: Tick) -> u64 {
        self.until.map_or(0, |until| until.since_ms(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_heard_of_in_time_hangs() {
        let mut dog = Watchdog::begin(Tick(1_000), 500);
        assert_eq!([1_000, 1_499, 1_500, 9_000].map(|now| dog.left_ms(Tick(now))), [500, 1, 0, 0]);
        dog.heard(Tick(1_400));
        assert_eq!([1_500, 1_900].map(|now| dog.left_ms(Tick(now))), [400, 0]);
        dog.trigger();
        dog.heard(Tick(1_600));
        assert_eq!(dog.left_ms(Tick(1_600)), 0);
    }
}
