//! `logs SERVICE [-f]`: its log lines, each an [`Event::Log`](super::Event::Log).

use serde::{Deserialize, Serialize};

/// The arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Args {
    /// Which service.
    pub service: String,
    /// Which release; the serving one when absent.
    pub release: Option<u64>,
    /// How many of the last lines first.
    pub tail: usize,
    /// Go on with each new line.
    pub follow: bool,
}
