//! `backup SERVICE`: take a backup and rehearse it, or list all.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Args {
    /// Which service.
    pub service: String,
    /// Only list those there are.
    pub list: bool,
}

/// One backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupEntry {
    /// Its name.
    pub id: String,
    /// When it was taken, RFC 3339.
    pub at: String,
    /// By what.
    pub driver: String,
    /// Bytes of its files.
    pub bytes: u64,
    /// sha256 over them.
    pub digest: String,
    /// The release that served.
    pub release: Option<u64>,
    /// The operation it was taken in; absent when by hand.
    pub op: Option<u64>,
    /// When it was restored to scratch and checked, RFC 3339; absent when never.
    pub rehearsed: Option<String>,
    /// What was counted in the copy.
    pub counts: BTreeMap<String, u64>,
    /// Why it is kept whatever else is pruned; absent when it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<String>,
    /// The version of the data's schema, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// Why it was taken; absent where that was not recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// What was there and is no part of it: FIFOs, sockets, devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}
