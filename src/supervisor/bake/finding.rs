//! What one look at a watched release finds.

use crate::core::health::Sample;

/// What one look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Whether it is good, bad or unclear.
    pub sample: Sample,
    /// Why it is not good.
    pub why: String,
}

impl Finding {
    /// No problem found.
    #[must_use]
    pub(crate) fn good() -> Self {
        Self { sample: Sample::Good, why: String::new() }
    }

    /// This, because.
    #[must_use]
    pub(crate) fn new(sample: Sample, why: impl Into<String>) -> Self {
        Self { sample, why: why.into() }
    }

    /// Bad here is unclear where the other one is bad too.
    pub(super) fn beside(self, other: &Self) -> Self {
        match (self.sample, other.sample) {
            (Sample::Bad, Sample::Bad) => {
                Self::new(Sample::Unclear, format!("{}; and {}", self.why, other.why))
            }
            _ => self,
        }
    }
}

/// Whether the warm-up is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Things are only counted.
    WarmUp,
    /// Things count.
    Judged,
}
