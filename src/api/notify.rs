//! `notify TARGET`: send a test notification.

use serde::{Deserialize, Serialize};

/// The arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Args {
    /// To which target.
    pub target: String,
}
