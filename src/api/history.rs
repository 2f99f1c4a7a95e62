//! `history [SERVICE]`: past operations, in one [`Event::History`](super::Event::History).

use serde::{Deserialize, Serialize};

use super::outcome::Outcome;

/// The arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Args {
    /// One service, or all.
    pub service: Option<String>,
    /// At most this many, newest first.
    pub limit: usize,
}

/// One line of the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// Version of this record, now 1.
    pub version: u16,
    /// When it ended, RFC 3339.
    pub at: String,
    /// The user that requested the operation.
    pub actor: String,
    /// Whose.
    pub service: String,
    /// The operation's number.
    pub op: u64,
    /// `release`, `rollback`, `restart`, `restore` or `set`.
    pub kind: String,
    /// The release it was about.
    pub release: Option<u64>,
    /// How it ended.
    pub outcome: String,
    /// What served after it.
    pub serving: Option<u64>,
    /// Exit code.
    pub exit: u8,
    /// Why, in one line, when it was not a success.
    pub why: Option<String>,
    /// How long it took.
    pub ms: u64,
}

impl HistoryEntry {
    /// The line of what has ended so, at this time.
    #[must_use]
    pub fn of(outcome: &Outcome, kind: &str, actor: &str, at: String, ms: u64) -> Self {
        let why = outcome.trouble.as_ref().and_then(|trouble| trouble.why.lines().next());
        Self {
            version: 1,
            at,
            actor: actor.to_owned(),
            service: outcome.service.clone(),
            op: outcome.op,
            kind: kind.to_owned(),
            release: outcome.release,
            outcome: outcome.outcome.to_string(),
            serving: outcome.serving,
            exit: outcome.exit,
            why: why.map(str::to_owned),
            ms,
        }
    }
}
