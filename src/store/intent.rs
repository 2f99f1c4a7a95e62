//! The first line of an operation's journal. A field may be added with a default: what an earlier
//! version began is gone on with by a later one.

use serde::{Deserialize, Serialize};

/// What an operation set out to do. All that recovery must know and cannot see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Version of the journal's format.
    pub version: u16,
    /// The operation's number.
    pub op: u64,
    /// `release`, `rollback` or `restart`.
    pub kind: String,
    /// The user that requested the operation.
    pub actor: String,
    /// What was named as the source.
    pub source: String,
    /// When, RFC 3339.
    pub at: String,
    /// The boot it began in.
    pub boot_id: String,
    /// The release it is about.
    pub release: u64,
    /// The candidate's generation.
    pub generation: u64,
    /// The generation that served when it began.
    pub old: Option<u64>,
    /// The generation that runs and may be rung 0 of the way back.
    pub warm: Option<u64>,
    /// The release that is left when the operation goes back: its candidate, or what served before
    /// a rollback. Older journals have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<u64>,
    /// Releases to start cold on the way back, in order.
    pub ladder: Vec<u64>,
    /// How the release was that it replaces: `answers`, `stopped` or `down`; empty in older journals.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub before: String,
    /// `promote`, `hold` or `rollback`.
    pub inconclusive: String,
    /// How old and new meet: `overlap` or `in_turn`.
    #[serde(default)]
    pub succession: String,
    /// Steps before the flip.
    #[serde(default)]
    pub n_steps: u8,
    /// `overlap`, `canary`, `hold` or `replace`; empty in older journals.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub strategy: String,
    /// A canary's steps, in hundredths of a percent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shares: Vec<u16>,
    /// The longest gap of a hold; older journals have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_gap_ms: Option<u64>,
    /// Release it though the artifact is frozen.
    #[serde(default)]
    pub force: bool,
    /// The reason for allowing a release that cannot be rolled back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_way_back: Option<String>,
}
