//! `freeze SERVICE`: refuse releases until `thaw`.

use serde::{Deserialize, Serialize};

/// The arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Args {
    /// Which service.
    pub service: String,
    /// The reason, shown when a release is refused.
    pub why: String,
}
