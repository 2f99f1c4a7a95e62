//! `upgrade`: Halley itself is replaced by another program. That comes along, open.

use serde::{Deserialize, Serialize};

/// The arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Args {
    /// The program's path.
    pub program: String,
    /// It has this long to get ready.
    pub deadline_ms: u64,
}
