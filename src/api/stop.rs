//! `stop SERVICE`: stop a service; its listeners close and it stays down, also over a reboot.

use serde::{Deserialize, Serialize};

/// The arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Args {
    /// Which service.
    pub service: String,
}
