//! Crashes in a row of a live process: when it is started again, and when that is a crash loop.
//!
//! The first restart comes at once: whoever waits in the queue waits for the start alone. Pauses
//! begin with the second crash in a row. A row ends with a life that fits: healthy, of some seconds,
//! and no shorter than the pause before it, so that a program with long pauses has to hold for long.

use crate::core::backoff::{Pauses, spread};
use crate::core::time::Tick;

/// The pauses between the crashes of a row and the starts after them.
const PAUSES: Pauses = Pauses::doubling(4, 30_000).after_none();
/// A life of this length is no failure to start.
const STEADY_MS: u64 = 2_000;
/// So many crashes in a row are a crash loop.
const LOOP: u32 = 5;

/// A life of a process, from its start to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Life {
    /// It answered, and lived for so long.
    Healthy {
        /// From its start to its end.
        ms: u64,
    },
    /// It never answered.
    Unready,
}

/// The crashes in a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Crashes {
    n: u32,
    pause_ms: u64,
}

impl Crashes {
    /// Takes a crash in: when the process is started again. `chance` spreads the pauses of many
    /// processes that crash together.
    pub fn next_start(&mut self, now: Tick, life: Life, chance: u64) -> Tick {
        if matches!(life, Life::Healthy { ms } if ms >= self.fitting_ms()) {
            *self = Self::default();
        }
        self.pause_ms = spread(PAUSES.nth_ms(self.n), chance);
        self.n = self.n.saturating_add(1);
        now.after_ms(self.pause_ms)
    }

    /// How many there were, if they are a crash loop.
    #[must_use]
    pub fn in_loop(&self) -> Option<u32> {
        (self.n >= LOOP).then_some(self.n)
    }

    /// How long the next life must be for these crashes to be forgotten.
    #[must_use]
    pub fn fitting_ms(&self) -> u64 {
        STEADY_MS.max(self.pause_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Chance at its highest leaves a pause as good as whole.
    const WHOLE: u64 = 999;

    fn check(lives: &[Life], pauses_ms: &[u64]) -> Crashes {
        let mut crashes = Crashes::default();
        let pauses: Vec<u64> =
            lives.iter().map(|life| crashes.next_start(Tick(0), *life, WHOLE).0).collect();
        assert_eq!(pauses, pauses_ms, "{lives:?}");
        crashes
    }

    const fn healthy(ms: u64) -> Life {
        Life::Healthy { ms }
    }

    #[test]
    fn the_first_restart_comes_at_once_and_pauses_grow_from_the_second_on_up_to_a_limit() {
        let pauses =
            [0, 3, 7, 15, 31, 63, 127, 255, 511, 1023, 2046, 4093, 8187, 16375, 29985, 29985];
        check(&[Life::Unready; 16], &pauses);
        check(&[healthy(20); 4], &[0, 3, 7, 15]);
    }

    #[test]
    fn crashes_after_some_healthy_seconds_are_no_row() {
        check(&[healthy(3_000); 4], &[0; 4]);
        check(&[Life::Unready, healthy(3_000), Life::Unready], &[0, 0, 3]);
    }

    #[test]
    fn a_row_with_long_pauses_is_forgotten_after_a_life_that_is_as_long() {
        let row = [Life::Unready; 13];
        let forgotten = |life| {
            let crashes = check(&row, &PAUSES_OF_ROW);
            let mut after = crashes;
            after.next_start(Tick(0), life, WHOLE);
            after.in_loop().is_none()
        };
        assert!(!forgotten(healthy(3_000)));
        assert!(!forgotten(healthy(8_000)));
        assert!(forgotten(healthy(8_200)));
    }

    const PAUSES_OF_ROW: [u64; 13] = [0, 3, 7, 15, 31, 63, 127, 255, 511, 1023, 2046, 4093, 8187];

    #[test]
    fn many_crashes_in_a_row_are_a_loop() {
        let in_loop = |n: usize| {
            let mut crashes = Crashes::default();
            (0..n).for_each(|_| assert!(crashes.next_start(Tick(0), Life::Unready, 0) < Tick(100)));
            crashes.in_loop()
        };
        assert_eq!((in_loop(4), in_loop(5), in_loop(6)), (None, Some(5), Some(6)));
    }

    #[test]
    fn chance_takes_up_to_half_of_a_pause() {
        let mut crashes = Crashes { n: 10, pause_ms: 0 };
        assert_eq!(crashes.next_start(Tick(0), Life::Unready, 0), Tick(1024));
    }
}
