//! How long a backend that is not there is waited for. Times are milliseconds since boot.

use crate::core::backoff::{Backoff, Pauses};

/// A client waits at most this long.
const MOST_MS: u64 = 30_000;
/// Between two tries.
const PAUSES: Pauses = Pauses::doubling(5, 250);

/// The patience of one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    until_ms: u64,
    backoff: Backoff,
}

impl Patience {
    /// From the first refusal on.
    pub const fn from(now_ms: u64) -> Self {
        Self { until_ms: now_ms + MOST_MS, backoff: PAUSES.begin() }
    }

    /// When to try again, `None` when it is exhausted.
    pub fn next_try(&mut self, now_ms: u64) -> Option<u64> {
        (now_ms < self.until_ms).then(|| now_ms + self.backoff.pause_ms())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_end_after_thirty_seconds() {
        let mut patience = Patience::from(1000);
        let mut now_ms = 1000;
        let mut pauses = Vec::new();
        while let Some(next_ms) = patience.next_try(now_ms) {
            pauses.push(next_ms - now_ms);
            now_ms = next_ms;
        }
        assert_eq!(pauses[..8], [5, 10, 20, 40, 80, 160, 250, 250]);
        assert!((31_000..31_250).contains(&now_ms), "{now_ms}");
    }
}
