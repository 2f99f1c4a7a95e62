//! How an operation, or a verb that changes something, has ended.

use serde::{Deserialize, Serialize};

use super::kept::KeptConnections;
use super::release_set::Member;
use super::trouble::Trouble;
use super::word::OutcomeWord;
use crate::core::exit::Exit;

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The name of the outcome.
    pub outcome: OutcomeWord,
    /// Whose.
    pub service: String,
    /// The operation's number; 0 for `start` and `stop`; of a set, its own.
    pub op: u64,
    /// The release it was about.
    pub release: Option<u64>,
    /// What serves now.
    pub serving: Option<u64>,
    /// What a reboot starts.
    pub last_good: Option<u64>,
    /// The exit code of the command line.
    pub exit: u8,
    /// Things that went wrong without changing the outcome.
    pub warnings: Vec<String>,
    /// Commands that make sense next.
    pub next: Vec<String>,
    /// What failed and why, when it was not a success; `still` is what serves.
    pub trouble: Option<Trouble>,
    /// What became of connections that clients keep open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<KeptConnections>,
    /// Of a set: what became of each member, in order. `op` is the set's number then, `service`
    /// all names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Member>,
}

impl Outcome {
    /// A success, of which nothing more is known.
    #[must_use]
    pub fn new(outcome: OutcomeWord, service: &str, op: u64) -> Self {
        Self {
            outcome,
            service: service.to_owned(),
            op,
            release: None,
            serving: None,
            last_good: None,
            exit: Exit::Done.code(),
            warnings: Vec::new(),
            next: Vec::new(),
            trouble: None,
            kept: None,
            members: Vec::new(),
        }
    }

    /// Whether it was a success.
    #[must_use]
    pub fn is_good(&self) -> bool {
        Exit::of_code(self.exit) == Some(Exit::Done)
    }
}
