//! Verdicts over probes: the gate before a flip.

use crate::core::time::Tick;

/// The result of one probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sample {
    /// It succeeded.
    Good,
    /// It failed.
    Bad,
    /// It failed, and the cause is unclear: where there is a control, the control's probe failed
    /// too.
    Unclear,
}

/// How the gate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Not yet.
    Pending,
    /// The candidate may get connections.
    Open,
    /// The deadline has passed.
    Shut,
}

/// The gate: opens after enough good probes in a row, never before the candidate has run long
/// enough, and shuts at a deadline that nothing moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Gate {
    rise: u32,
    opens_from: Tick,
    deadline: Tick,
    n_good: u32,
}

impl Gate {
    /// A gate for a candidate that was started at `started`.
    #[must_use]
    pub fn new(rise: u32, min_healthy_ms: u64, started: Tick, deadline: Tick) -> Self {
        Self { rise, opens_from: started.after_ms(min_healthy_ms), deadline, n_good: 0 }
    }

    /// Takes a probe in.
    pub fn observe(&mut self, now: Tick, sample: Sample) -> Verdict {
        self.n_good = match sample {
            Sample::Good => self.n_good.saturating_add(1),
            Sample::Bad | Sample::Unclear => 0,
        };
        if self.n_good >= self.rise && now >= self.opens_from {
            Verdict::Open
        } else if now >= self.deadline {
            Verdict::Shut
        } else {
            Verdict::Pending
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `+` is a good probe, `-` a bad one, one every 10 ms from 0 on.
    fn check(samples: &str, rise: u32, min_healthy_ms: u64, expected: Verdict) {
        let mut gate = Gate::new(rise, min_healthy_ms, Tick(0), Tick(100));
        let mut verdict = Verdict::Pending;
        for (n, sample) in samples.bytes().enumerate() {
            assert_eq!(verdict, Verdict::Pending, "{samples}");
            let sample = if sample == b'+' { Sample::Good } else { Sample::Bad };
            verdict = gate.observe(Tick(n as u64 * 10), sample);
        }
        assert_eq!(verdict, expected, "{samples}");
    }

    #[test]
    fn it_wants_good_probes_in_a_row_and_enough_time() {
        check("+++", 3, 0, Verdict::Open);
        check("++", 3, 0, Verdict::Pending);
        check("++-++", 3, 0, Verdict::Pending);
        check("++-+++", 3, 0, Verdict::Open);
        check("++++", 3, 40, Verdict::Pending);
        check("+++++", 3, 40, Verdict::Open);
    }

    #[test]
    fn the_deadline_shuts_it_whatever_progress_there_was() {
        check("-----------", 3, 0, Verdict::Shut);
        check("++-++-++-++", 3, 0, Verdict::Shut);
    }
}
