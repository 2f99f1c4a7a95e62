//! One thing that a bake looks at: its samples, its streak, and how it ends.
//!
//! Each signal stands for itself. What one of them saw never helps or harms another, so samples of
//! different signals may come in any order.

use crate::core::health::Sample;

/// What is looked at, in the order in which it is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    /// The service's own health check, and its accept queue.
    Probes,
    /// Whether the limit of open files is near.
    FileLimit,
    /// Resident memory.
    Memory,
    /// Open descriptors.
    Descriptors,
    /// Threads.
    Threads,
    /// Lines of the log that report errors.
    ErrorLines,
    /// The part of bad events that the program itself counts.
    Metrics,
    /// A command's result.
    Command,
    /// Optional paths: failures are inconclusive.
    Wanted,
}

impl Name {
    /// For people.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Probes => "probes",
            Self::FileLimit => "file limit",
            Self::Memory => "memory",
            Self::Descriptors => "descriptors",
            Self::Threads => "threads",
            Self::ErrorLines => "error lines",
            Self::Metrics => "metrics",
            Self::Command => "command",
            Self::Wanted => "wanted probes",
        }
    }
}

/// What bad samples in a row mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Weight {
    /// The release is bad.
    Required,
    /// The verdict is inconclusive: the release is not known to be good.
    Wanted,
}

/// What is asked of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ask {
    /// So many bad samples in a row count.
    pub fall: u32,
    /// Fewer conclusive samples are no verdict.
    pub min_samples: u32,
    /// What they mean.
    pub weight: Weight,
}

/// How a signal ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// Good.
    Pass,
    /// Bad.
    Fail,
    /// Neither.
    Doubt(Doubt),
}

/// Why a signal is no verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Doubt {
    /// Too little was seen.
    TooFew {
        /// Conclusive samples.
        n_samples: u32,
        /// How many were wanted.
        min_samples: u32,
    },
    /// The last sample was inconclusive.
    Unclear,
    /// What should be good is not.
    Bad,
}

/// A signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signal {
    ask: Ask,
    n_samples: u32,
    n_bad: u32,
    /// There were `fall` bad ones in a row: no good one takes that back.
    has_fallen: bool,
    /// So was the last one.
    is_unclear: bool,
}

impl Signal {
    /// A signal that nothing was seen of yet.
    #[must_use]
    pub fn new(ask: Ask) -> Self {
        Self { ask, n_samples: 0, n_bad: 0, has_fallen: false, is_unclear: false }
    }

    /// Takes a sample in.
    pub fn observe(&mut self, sample: Sample) {
        let counts = u32::from(sample != Sample::Unclear);
        self.n_samples = self.n_samples.saturating_add(counts);
        self.n_bad = match sample {
            Sample::Good => 0,
            Sample::Bad => self.n_bad.saturating_add(1),
            Sample::Unclear => self.n_bad,
        };
        self.has_fallen |= self.n_bad >= self.ask.fall;
        self.is_unclear = sample == Sample::Unclear;
    }

    /// Whether the release is bad, whatever else may be seen.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.has_fallen && self.ask.weight == Weight::Required
    }

    /// How it ends when it ends now.
    #[must_use]
    pub fn end(&self) -> End {
        let Ask { min_samples, weight, .. } = self.ask;
        if self.has_failed() {
            End::Fail
        } else if self.n_samples < min_samples {
            End::Doubt(Doubt::TooFew { n_samples: self.n_samples, min_samples })
        } else if self.has_fallen || self.n_bad > 0 {
            // It ends in the middle of a bad row: what was good before is no pass.
            match weight {
                Weight::Required => End::Fail,
                Weight::Wanted => End::Doubt(Doubt::Bad),
            }
        } else if self.is_unclear {
            End::Doubt(Doubt::Unclear)
        } else {
            End::Pass
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `+` is a good sample, `-` a bad one, `?` an unclear one.
    fn check(seen: &str, weight: Weight, expected: End) {
        let mut signal = Signal::new(Ask { fall: 3, min_samples: 1, weight });
        for sample in seen.bytes() {
            signal.observe(match sample {
                b'+' => Sample::Good,
                b'?' => Sample::Unclear,
                _ => Sample::Bad,
            });
        }
        assert_eq!(signal.end(), expected, "{seen}");
        let is_certain = weight == Weight::Required && seen.contains("---");
        assert_eq!(signal.has_failed(), is_certain, "{seen}");
    }

    #[test]
    fn what_is_required_fails_by_a_row_or_by_its_end() {
        for (seen, expected) in [
            ("+", End::Pass),
            ("--+", End::Pass),
            ("+-", End::Fail),
            ("---+", End::Fail),
            ("-?", End::Fail),
            ("+?", End::Doubt(Doubt::Unclear)),
            ("", End::Doubt(Doubt::TooFew { n_samples: 0, min_samples: 1 })),
            ("??", End::Doubt(Doubt::TooFew { n_samples: 0, min_samples: 1 })),
        ] {
            check(seen, Weight::Required, expected);
        }
    }

    #[test]
    fn what_is_wanted_never_fails_and_is_never_forgotten() {
        for (seen, expected) in [
            ("+", End::Pass),
            ("--+", End::Pass),
            ("+-", End::Doubt(Doubt::Bad)),
            ("---+++", End::Doubt(Doubt::Bad)),
            ("+?", End::Doubt(Doubt::Unclear)),
        ] {
            check(seen, Weight::Wanted, expected);
        }
    }
}
