//! `promote SERVICE`: end a step, a bake or a hold as a success.

use serde::{Deserialize, Serialize};

/// The arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Args {
    /// Which service.
    pub service: String,
}
