//! The client's ledger: every request has exactly one outcome.

use std::collections::BTreeMap;
use std::time::Duration;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// Answered, by this release.
    Answered(u64),
    /// The connection was refused.
    Refused,
    /// The connection was reset.
    Reset,
    /// The connection ended before the answer did.
    Cut,
    /// No answer came for ten seconds.
    Hanging,
    /// The answer was not the right one.
    Wrong,
}

/// Whether the connection was new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Connection {
    /// The request was its first.
    Fresh,
    /// It had carried requests before.
    Reused,
}

/// All requests of a load.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    counts: BTreeMap<(Fate, Connection), u64>,
    latencies_us: Vec<u32>,
}

impl Ledger {
    /// Notes a request.
    pub fn note(&mut self, fate: Fate, connection: Connection, took: Duration) {
        *self.counts.entry((fate, connection)).or_default() += 1;
        self.latencies_us.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
    }

    /// Adds another ledger's requests.
    pub fn merge(&mut self, other: Self) {
        for (key, n) in other.counts {
            *self.counts.entry(key).or_default() += n;
        }
        self.latencies_us.extend(other.latencies_us);
    }

    /// How many requests there were.
    #[must_use]
    pub fn n_requests(&self) -> u64 {
        self.counts.values().sum()
    }

    /// How many requests were not answered successfully.
    #[must_use]
    pub fn n_lost(&self) -> u64 {
        let lost = |fate: &Fate| !matches!(fate, Fate::Answered(_));
        self.counts.iter().filter(|((fate, _), _)| lost(fate)).map(|(_, n)| n).sum()
    }

    /// How many each release answered.
    #[must_use]
    pub fn by_release(&self) -> BTreeMap<u64, u64> {
        let mut by_release = BTreeMap::new();
        for ((fate, _), n) in &self.counts {
            if let Fate::Answered(release) = fate {
                *by_release.entry(*release).or_default() += n;
            }
        }
        by_release
    }

    /// What was lost, in words.
    #[must_use]
    pub fn losses(&self) -> String {
        let lost = self.counts.iter().filter(|((fate, _), _)| !matches!(fate, Fate::Answered(_)));
        let words: Vec<String> =
            lost.map(|((fate, on), n)| format!("{n} {fate:?} on {on:?}")).collect();
        if words.is_empty() { "none".to_owned() } else { words.join(", ") }
    }

    /// The latency that this part of a thousand stays under, in microseconds.
    #[must_use]
    pub fn latency_us(&self, per_mille: usize) -> u32 {
        let mut sorted = self.latencies_us.clone();
        sorted.sort_unstable();
        let at = (sorted.len() * per_mille / 1000).min(sorted.len().saturating_sub(1));
        sorted.get(at).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_counts_once_and_losses_are_told_apart() {
        let mut ledger = Ledger::default();
        let ms = Duration::from_millis(1);
        ledger.note(Fate::Answered(1), Connection::Fresh, ms);
        ledger.note(Fate::Answered(2), Connection::Reused, ms * 9);
        ledger.note(Fate::Reset, Connection::Reused, ms);
        assert_eq!((ledger.n_requests(), ledger.n_lost()), (3, 1));
        assert_eq!(ledger.by_release(), BTreeMap::from([(1, 1), (2, 1)]));
        assert_eq!(ledger.losses(), "1 Reset on Reused");
        assert_eq!(ledger.latency_us(1000), 9000);
    }
}
