//! Some programs make a socket wait for as long as they work on it (Java, gunicorn's threads). A large body wakes
//! them in spite of a mark, and a read that waits has taken the mark that was up when it began. So before the
//! first mark each program is watched at its work, without a pause: only an answer that was written in the middle
//! of such a time, with no gap in it, counts.

use super::Watcher;
use crate::os::{clock, connection};

/// So long a program is watched without a pause, between two looks; and all in all, before it becomes rarer.
const WATCH_US: u64 = 3_000;
const OFTEN_US: u64 = 2_000_000;
/// One such time of so many looks, from then on.
const RARE: usize = 16;
/// A part of it, which counts if it has no gap.
const PART_US: u64 = 400;
/// In a longer gap an answer may be begun and ended.
const GAP_US: u64 = 100;
/// More connections cannot be looked at without gaps.
const N_MAX: usize = 128;

impl Watcher {
    /// Sees whether programs make their sockets wait while they work.
    pub(super) fn watch_closely(&mut self) {
        let is_rare = self.close_us >= OFTEN_US && !self.round.is_multiple_of(RARE);
        let wants = |program: usize| {
            self.programs.get(program).is_some_and(|program| program.wants_close_watch())
        };
        let meant = self.watched.iter().filter(|watched| wants(watched.program)).take(N_MAX);
        let meant: Vec<_> = meant.map(|watched| (watched.program, &watched.fd)).collect();
        if meant.is_empty() || is_rare {
            return;
        }
        let written = || -> Vec<u64> {
            let counts = meant.iter().map(|(_, fd)| connection::counts(fd));
            counts.map(|counts| counts.map_or(0, |counts| counts.written)).collect()
        };
        let begun = clock::monotonic_ns() / 1_000;
        let (mut now, mut before) = (begun, written());
        let (mut blocking, mut answered) = (None, Vec::new());
        while now - begun < WATCH_US && blocking.is_none() {
            let (since, mut last, mut gap) = (now, now, 0);
            while now - since < PART_US && blocking.is_none() {
                let waits = meant.iter().find(|(_, fd)| connection::is_blocking(fd));
                blocking = waits.map(|(at, _)| *at);
                now = clock::monotonic_ns() / 1_000;
                gap = gap.max(now - last);
                last = now;
            }
            let after = written();
            let changed = meant.iter().zip(before.iter().zip(&after));
            let changed = changed.filter(|(_, (before, after))| after > before && gap < GAP_US);
            answered.extend(changed.map(|((at, _), _)| *at));
            before = after;
        }
        self.close_us += now - begun;
        if let Some(program) = blocking.and_then(|at| self.programs.get_mut(at)) {
            program.is_blocking = true;
        }
        for at in answered {
            if let Some(program) = self.programs.get_mut(at) {
                program.n_seen += 1;
            }
        }
    }
}
