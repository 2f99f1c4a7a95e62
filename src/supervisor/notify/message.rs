//! Messages: of an operation that is over, of one that waits, of a service at rest.

use crate::api::{Outcome, OutcomeWord, Trouble};
use crate::core::exit::Exit;
use crate::core::notice::Notice;
use crate::core::operation::machine::Kind;
use crate::core::operation::outcome::Word;
use crate::os::clock;

/// The content of a notification; the outbox adds where and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// Whose; of a set, all names with commas.
    pub service: String,
    /// What makes its id: the same for the same thing.
    pub key: String,
    /// The operation's number.
    pub op: Option<u64>,
    /// The release it is about.
    pub release: Option<u64>,
    /// What serves now.
    pub serving: Option<u64>,
    /// How the operation ended.
    pub outcome: Option<OutcomeWord>,
    /// Its exit code.
    pub exit: Option<u8>,
    /// What happened.
    pub what: String,
    /// Why.
    pub why: String,
    /// What is true for the user's users now.
    pub still: String,
    /// The exact commands to go on with.
    pub next: Vec<String>,
}

/// What has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// An operation.
    Operation(Kind),
    /// A set.
    Set,
}

impl Subject {
    fn name(self) -> &'static str {
        match self {
            Self::Operation(kind) => kind.name(),
            Self::Set => "set",
        }
    }
}

impl Message {
    /// The end of an operation or of a set that began `at`; and what kind of end it is.
    pub(crate) fn of_outcome(outcome: &Outcome, subject: Subject, at: &str) -> (Notice, Self) {
        let notice = match (Exit::of_code(outcome.exit), subject) {
            (Some(Exit::Done), Subject::Operation(Kind::Rollback)) => Notice::RolledBack,
            (Some(Exit::Done), _) => Notice::Committed,
            (Some(Exit::RolledBack), _) => Notice::RolledBack,
            (Some(Exit::RollbackFailed), _) => Notice::RollbackFailed,
            _ => Notice::Failed,
        };
        let message = Self {
            service: outcome.service.clone(),
            key: key(subject.name(), outcome.op, at),
            op: Some(outcome.op),
            release: outcome.release,
            serving: outcome.serving,
            outcome: Some(outcome.outcome.clone()),
            exit: Some(outcome.exit),
            what: what(outcome),
            why: outcome.warnings.join("\n"),
            still: outcome.serving.map_or_else(
                || "nothing is serving".to_owned(),
                |release| format!("release {release} is serving"),
            ),
            next: outcome.next.clone(),
        };
        (notice, message.with(outcome.trouble.as_ref()))
    }

    /// A test message to a target.
    pub(crate) fn test(target: &str) -> Self {
        Self {
            service: String::new(),
            key: format!("test {}", clock::monotonic_ns()),
            op: None,
            release: None,
            serving: None,
            outcome: None,
            exit: None,
            what: format!("a test of the target {target}"),
            why: "requested with halley-sup notify".to_owned(),
            still: "nothing was changed".to_owned(),
            next: Vec::new(),
        }
    }

    /// The four lines of an error in the place of its own.
    #[must_use]
    pub(crate) fn with(self, trouble: Option<&Trouble>) -> Self {
        let Some(trouble) = trouble.cloned() else { return self };
        let Trouble { what, why, still, next, .. } = trouble;
        Self { what, why, still, next, ..self }
    }
}

/// What makes a message of an operation the same as another.
pub(crate) fn key(kind: &str, op: u64, at: &str) -> String {
    format!("{kind} {op} {at}")
}

fn what(outcome: &Outcome) -> String {
    let name = &outcome.service;
    match (outcome.outcome.known(), outcome.release.or(outcome.serving)) {
        (Some(Word::Committed), Some(release)) => format!("{name}: release {release} is live"),
        (Some(Word::RolledBack), Some(release)) => {
            format!("{name}: rolled back to release {release}")
        }
        _ => format!("{name}: {}", outcome.outcome),
    }
}
