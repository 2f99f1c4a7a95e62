//! `restore SERVICE`: restore a backup over the live data.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::backup::BackupEntry;

/// The arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Args {
    /// Which service.
    pub service: String,
    /// Which backup; the newest of the state before the trouble when absent.
    pub backup: Option<String>,
    /// Only what it would do.
    pub dry_run: bool,
    /// The restore is confirmed.
    pub yes: bool,
    /// Also when the present cannot be backed up.
    pub unsaved: bool,
    /// Also when more is lost than was announced.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub any_loss: bool,
    /// Services that use the same data may be stopped meanwhile.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stop_users: bool,
    /// Sessions of others on the database server may be ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub end_sessions: bool,
    /// The list of what is lost that somebody was shown and has agreed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Vec<String>>,
}

/// What a restore would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestorePlan {
    /// Whose data.
    pub service: String,
    /// The backup, which was restored to scratch and checked a moment ago.
    pub backup: BackupEntry,
    /// Why this backup.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub because: String,
    /// What was counted in the present data; absent when it cannot be read.
    pub now: Option<BTreeMap<String, u64>>,
    /// Why it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread: Option<String>,
    /// One line for each thing of which there is more now than in the backup, or
    /// that is new or was changed.
    pub lost: Vec<String>,
    /// What it means when there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub none: String,
    /// What is not seen as lost though it may be; absent where all is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unseen: String,
    /// What is known of a schema that was not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// The migration that the restore runs; none is needed when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration: Option<String>,
    /// Who else uses the data, one line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<String>,
    /// What could not be tried or looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}
