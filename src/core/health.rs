//! Verdicts over probes: the gate before a flip, the looks at rest.

use crate::core::ids::GenerationId;
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

/// Looks at what serves, at rest: so many bad ones in a row are a trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Looks {
    generation: Option<GenerationId>,
    n_bad: u32,
}

/// How what serves is, as far as it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Found {
    /// It answers.
    Well,
    /// It did not answer, so far not often enough.
    InDoubt,
    /// It does not answer, as of this look.
    Ill,
    /// It still does not answer.
    StillIll,
}

impl Looks {
    /// Takes a look at a generation in. Another generation has no bad looks yet.
    pub fn observe(&mut self, generation: GenerationId, sample: Sample, fall: u32) -> Found {
        if self.generation.replace(generation) != Some(generation) {
            self.n_bad = 0;
        }
        if sample == Sample::Good {
            self.n_bad = 0;
            return Found::Well;
        }
        self.n_bad = self.n_bad.saturating_add(1);
        match self.n_bad {
            n if n < fall => Found::InDoubt,
            n if n == fall => Found::Ill,
            _ => Found::StillIll,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `+` is a good look, `-` a bad one, `|` the beginning of another generation.
    fn check_looks(looks: &str, fall: u32, expected: Found) {
        let (mut at, mut generation, mut found) = (Looks::default(), 1, Found::Well);
        for look in looks.bytes() {
            match look {
                b'|' => generation += 1,
                look => {
                    let sample = if look == b'+' { Sample::Good } else { Sample::Bad };
                    found = at.observe(GenerationId(generation), sample, fall);
                }
            }
        }
        assert_eq!(found, expected, "{looks}");
    }

    #[test]
    fn so_many_bad_looks_in_a_row_are_a_trouble_that_lasts() {
        check_looks("+--", 3, Found::InDoubt);
        check_looks("---", 3, Found::Ill);
        check_looks("-----", 3, Found::StillIll);
        check_looks("--+--", 3, Found::InDoubt);
        check_looks("---+", 3, Found::Well);
    }

    #[test]
    fn bad_looks_at_another_generation_do_not_count() {
        check_looks("--|-", 3, Found::InDoubt);
        check_looks("-----|-", 3, Found::InDoubt);
        check_looks("-----|---", 3, Found::Ill);
    }

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
