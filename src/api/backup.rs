//! Backups and what a restore would cost.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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
}

/// What a restore would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestorePlan {
    /// Whose data.
    pub service: String,
    /// The backup, which was restored to scratch and checked a moment ago.
    pub backup: BackupEntry,
    /// What was counted in the present data; absent when it cannot be read.
    pub now: Option<BTreeMap<String, u64>>,
    /// One line for each thing of which there is more now than in the backup.
    pub lost: Vec<String>,
}
