//! What was seen of processes, for the report of an operation that did not do what was wanted.

use crate::supervisor::bake::usage_history::SharedCurve;
use crate::supervisor::health::probe::Transcript;

/// What was seen of processes.
#[derive(Debug, Default)]
pub(crate) struct Watching {
    /// The last probes.
    pub transcript: Transcript,
    /// What the processes held while they were watched; it outlives a bake that is cut short.
    pub curve: SharedCurve,
}
