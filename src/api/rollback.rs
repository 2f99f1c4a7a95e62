//! `rollback SERVICE [--to N]`: go back to an earlier release.

use serde::{Deserialize, Serialize};

/// The arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Args {
    /// Which service.
    pub service: String,
    /// Which release; the newest good older one when absent.
    pub to: Option<u64>,
}
