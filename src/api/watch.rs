//! `watch [SERVICE] OP`, `watch --set SET`: follow an operation or a set from its beginning to its
//! result.

use serde::{Deserialize, Serialize};

/// The arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Args {
    /// The operation's number within `service`.
    pub op: u64,
    /// Whose operation; needed when several services have one of that number.
    pub service: Option<String>,
}

/// The arguments with `--set`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetArgs {
    /// The set's number.
    pub set: u64,
}
