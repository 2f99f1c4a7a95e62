//! When a live process that ended is started again.

use crate::core::time::Tick;

/// A process that lived this long is started again at once: its end was no failure to start.
const STEADY_MS: u64 = 10_000;
/// The first pause.
const FIRST_MS: u64 = 100;
/// No pause is longer.
const LAST_MS: u64 = 30_000;
/// A life this long makes the next end the first one.
const FORGIVEN_MS: u64 = 60_000;

/// Pauses between the starts of one process: none after a steady life, else doubling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Backoff {
    pause_ms: u64,
}

impl Backoff {
    /// When a process that lived `lived_ms` and ended now is started again.
    pub fn next_start(&mut self, now: Tick, lived_ms: u64) -> Tick {
        if lived_ms >= FORGIVEN_MS {
            self.pause_ms = 0;
        }
        if lived_ms >= STEADY_MS && self.pause_ms == 0 {
            return now;
        }
        self.pause_ms = (self.pause_ms * 2).clamp(FIRST_MS, LAST_MS);
        now.after_ms(self.pause_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lives_ms: &[u64], pauses_ms: &[u64]) {
        let mut backoff = Backoff::default();
        let pauses: Vec<u64> =
            lives_ms.iter().map(|lived| backoff.next_start(Tick(0), *lived).0).collect();
        assert_eq!(pauses, pauses_ms);
    }

    #[test]
    fn pauses_double_up_to_a_limit_and_are_forgiven_after_a_long_life() {
        check(&[0; 11], &[100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]);
        check(&[20_000, 20_000], &[0, 0]);
        check(&[5, 5, 60_000, 5], &[100, 200, 0, 100]);
        check(&[5, 20_000], &[100, 200]);
    }
}
