//! `restore SERVICE`: restore a backup over the live data.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::backup::BackupEntry;

/// The arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Args {
    /// Which service.
    pub service: String,
    /// Which backup; the newest when absent.
    pub backup: Option<String>,
    /// Only what it would do.
    pub dry_run: bool,
    /// The restore is confirmed.
    pub yes: bool,
    /// Also when the present cannot be backed up.
    pub unsaved: bool,
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
