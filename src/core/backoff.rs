//! Pauses that double, from a first one up to a limit: the one backoff of restarts, reconnections
//! and deliveries. Each user has its own limits.

use std::time::Duration;

/// The limits of a backoff.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pauses {
    first_ms: u64,
    least_ms: u64,
    most_ms: u64,
}

impl Pauses {
    /// From `least_ms` on, each twice as long as the one before, none longer than `most_ms`.
    #[must_use]
    pub const fn doubling(least_ms: u64, most_ms: u64) -> Self {
        Self { first_ms: least_ms, least_ms, most_ms }
    }

    /// The first try comes at once, before all these pauses.
    #[must_use]
    pub const fn after_none(self) -> Self {
        Self { first_ms: 0, ..self }
    }

    /// A backoff at its first pause.
    #[must_use]
    pub const fn begin(self) -> Backoff {
        Backoff { next_ms: self.first_ms, pauses: self }
    }

    /// The pause after `n` others.
    #[must_use]
    pub fn nth_ms(self, n: u32) -> u64 {
        // A u64 has doubled to the limit by then.
        (0..n.min(u64::BITS)).fold(self.first_ms, |ms, _| self.after(ms))
    }

    fn after(self, pause_ms: u64) -> u64 {
        pause_ms.saturating_mul(2).clamp(self.least_ms, self.most_ms)
    }
}

/// Where a series of pauses is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Backoff {
    next_ms: u64,
    pauses: Pauses,
}

impl Backoff {
    /// The pause that is due, in milliseconds; the one after it is longer.
    #[must_use]
    pub fn pause_ms(&mut self) -> u64 {
        let due_ms = self.next_ms;
        self.next_ms = self.pauses.after(due_ms);
        due_ms
    }

    /// The pause that is due; the one after it is longer.
    #[must_use]
    pub fn pause(&mut self) -> Duration {
        Duration::from_millis(self.pause_ms())
    }

    /// The next pause is the first one again.
    pub fn reset(&mut self) {
        *self = self.pauses.begin();
    }

    /// The next pause is at most so long.
    pub fn shorten(&mut self, most_ms: u64) {
        self.next_ms = self.next_ms.min(most_ms);
    }
}

/// Half of a pause, and a part of the other half by `chance`, so that many hosts do not come back
/// at once.
#[must_use]
pub const fn spread(pause_ms: u64, chance: u64) -> u64 {
    let half = pause_ms / 2;
    half + half * (chance % 1000) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first<const N: usize>(mut backoff: Backoff) -> [u64; N] {
        std::array::from_fn(|_| backoff.pause_ms())
    }

    #[test]
    fn pauses_double_up_to_a_limit() {
        assert_eq!(first(Pauses::doubling(5, 50).begin()), [5, 10, 20, 40, 50, 50]);
        assert_eq!(first(Pauses::doubling(5, 20).after_none().begin()), [0, 5, 10, 20, 20]);
    }

    #[test]
    fn the_nth_pause_is_that_of_the_series() {
        for pauses in [Pauses::doubling(5, 50), Pauses::doubling(5, 50).after_none()] {
            let series: [u64; 8] = first(pauses.begin());
            for (n, ms) in (0..).zip(series) {
                assert_eq!(pauses.nth_ms(n), ms, "{n}");
            }
        }
        assert_eq!(Pauses::doubling(1, u64::MAX).nth_ms(u32::MAX), u64::MAX);
    }

    #[test]
    fn a_reset_begins_again_and_a_shorter_pause_goes_on_from_there() {
        let mut backoff = Pauses::doubling(100, 10_000).begin();
        assert_eq!(first::<3>(backoff), [100, 200, 400]);
        for _ in 0..5 {
            let _ = backoff.pause();
        }
        backoff.shorten(400);
        assert_eq!(first(backoff), [400, 800]);
        backoff.reset();
        assert_eq!(backoff, Pauses::doubling(100, 10_000).begin());
    }

    #[test]
    fn chance_spreads_a_pause_over_its_second_half() {
        assert_eq!((spread(500, 0), spread(500, 999), spread(500, 1000)), (250, 499, 250));
    }
}
