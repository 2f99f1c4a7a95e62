//! `logs [SERVICE...] [-f]`: log lines, each an [`Event::Log`](super::Event::Log).

use serde::{Deserialize, Serialize};

/// The arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Args {
    /// Which service; absent for several.
    pub service: Option<String>,
    /// Which release; the serving one when absent.
    pub release: Option<u64>,
    /// How many of the last lines first, of all services together.
    pub tail: u64,
    /// Go on with each new line.
    pub follow: bool,
    /// Which services when `service` is absent; all of them when this is empty, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<String>,
    /// Only lines from then on, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Only lines whose text this regular expression matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grep: Option<String>,
}
