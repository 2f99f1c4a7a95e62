//! `thaw SERVICE`: releases are allowed again.

use serde::{Deserialize, Serialize};

/// The arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Args {
    /// Which service.
    pub service: String,
    /// The artifact of this release, instead of the service.
    pub release: Option<u64>,
}
