//! `release --set SERVICE=SOURCE,...`: new releases of several services, as one. A descriptor comes
//! along for each member that has one, in their order.

use serde::{Deserialize, Serialize};

use super::word::OutcomeWord;

/// The arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Args {
    /// The members, in any order.
    pub members: Vec<Part>,
    /// Release them though an artifact is frozen.
    pub force: bool,
}

/// One member of a set, as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Which service.
    pub service: String,
    /// What was named on the command line, for people: a path, or `-`.
    pub source: String,
    /// Why there is no descriptor for it: the source could not be opened.
    pub missing: Option<String>,
}

/// What became of one member of a set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Whose.
    pub service: String,
    /// The operation that was to release it; none when it was not begun.
    pub op: Option<u64>,
    /// The release that it was to bring.
    pub release: Option<u64>,
    /// As an operation's; `not_begun`; `kept` when it was committed and there is nothing to go
    /// back to.
    pub outcome: OutcomeWord,
    /// As an operation's; none when it was not begun.
    pub exit: Option<u8>,
    /// What serves.
    pub serving: Option<u64>,
    /// The operation that took it back with the set.
    #[serde(default)]
    pub back: Option<u64>,
    /// Why it is not committed.
    #[serde(default)]
    pub why: Option<String>,
}

/// A running set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetStatus {
    /// Its number.
    pub set: u64,
    /// Its services, in the order of their releases.
    pub members: Vec<String>,
    /// The member it is at, and what is done to it: `release` or `rollback`.
    pub member: Option<String>,
    /// `release` or `rollback`.
    pub kind: Option<String>,
    /// The user that requested the set.
    pub actor: String,
    /// When, RFC 3339.
    pub at: String,
}
