//! `abort SERVICE`: end an operation and go back to what served before.

use serde::{Deserialize, Serialize};

/// The arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Args {
    /// Which service.
    pub service: String,
}
