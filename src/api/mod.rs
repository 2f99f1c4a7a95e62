//! What the command line and the supervisor say to each other over the control socket: one JSON
//! object a line, both ways.
//!
//! The client sends one [`Request`]; with `release` the artifact's descriptor comes along
//! (`SCM_RIGHTS`). The supervisor answers with any number of [`Event`]s; the last is
//! [`Event::Result`] or [`Event::Error`]. A client that goes away changes nothing: the daemon runs
//! the operation, the client only watches. Keys are only ever added.
//!
//! This room holds shapes and their JSON. It must never know how a request is performed.

use serde::{Deserialize, Serialize};

use crate::core::exit::Exit;

pub mod abort;
pub mod backup;
pub mod drill;
pub mod freeze;
pub mod history;
pub mod logs;
pub mod notify;
pub mod promote;
pub mod release;
pub mod release_set;
pub mod releases;
pub mod restart;
pub mod restore;
pub mod rollback;
pub mod start;
pub mod status;
pub mod stop;
#[cfg(test)]
mod tests;
pub mod thaw;
pub mod watch;
mod word;

pub use backup::BackupEntry;
pub use history::HistoryEntry;
pub use release::{Plan, PlanStep};
pub use release_set::{Member, Part, SetStatus};
pub use releases::ReleaseEntry;
pub use restore::RestorePlan;
pub use status::{InstanceStatus, OperationStatus, RollbackStatus, ServiceStatus, Status};
pub use word::OutcomeWord;

/// Version of this protocol.
pub const VERSION: u16 = 1;

/// A client's request, with the requesting user.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// [`VERSION`] of the client.
    pub version: u16,
    /// The requesting user, for the history: `SUDO_USER`, else the login name, else the uid.
    pub actor: String,
    /// What.
    #[serde(flatten)]
    pub verb: Verb,
}

/// One verb of the command line, with its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "verb")]
pub enum Verb {
    /// Make a new release live.
    Release(release::Args),
    /// Make new releases of several services live, as one.
    ReleaseSet(release_set::Args),
    /// Go back to an earlier release.
    Rollback(rollback::Args),
    /// Follow an operation.
    Watch(watch::Args),
    /// Follow a set.
    WatchSet(watch::SetArgs),
    /// How things stand.
    Status(status::Args),
    /// Past operations.
    History(history::Args),
    /// The releases on disk.
    Releases(releases::Args),
    /// A service's log lines.
    Logs(logs::Args),
    /// Start a stopped service.
    Start(start::Args),
    /// Stop a service.
    Stop(stop::Args),
    /// Replace the processes by new ones of the same release.
    Restart(restart::Args),
    /// Refuse releases until `thaw`.
    Freeze(freeze::Args),
    /// Releases are allowed again.
    Thaw(thaw::Args),
    /// Rehearse a rollback.
    Drill(drill::Args),
    /// Take a backup, or list all.
    Backup(backup::Args),
    /// Restore a backup over the live data.
    Restore(restore::Args),
    /// Send a test notification.
    Notify(notify::Args),
    /// End a step, a bake or a hold as a success.
    Promote(promote::Args),
    /// End an operation and go back to what served before.
    Abort(abort::Args),
}

/// An event that the supervisor sends to a client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Event {
    /// An operation has begun (or is being watched).
    Operation {
        /// Whose.
        service: String,
        /// Its number.
        op: u64,
        /// `release`, `rollback` or `restart`.
        kind: String,
        /// The release it brings, once known.
        release: Option<u64>,
        /// The user that requested it.
        actor: String,
        /// When, RFC 3339.
        at: String,
    },
    /// A set has begun (or is being watched). Its members' operations and phases follow.
    Set {
        /// Its number.
        set: u64,
        /// Its services, in the order of their releases.
        members: Vec<String>,
        /// The user that requested it.
        actor: String,
        /// When, RFC 3339.
        at: String,
    },
    /// The operation of a set's member is over; the set goes on.
    Member(Box<Member>),
    /// A phase moved.
    Phase {
        /// Its name.
        phase: String,
        /// Where it stands.
        state: PhaseState,
        /// How long it took, at `ok` and `fail`.
        ms: u64,
        /// For people.
        detail: String,
    },
    /// Bytes of the artifact taken in so far.
    Progress {
        /// Bytes read.
        bytes: u64,
        /// Bytes to come in all, when known.
        total: Option<u64>,
    },
    /// What a release is going to do.
    Plan(Box<Plan>),
    /// A backup was taken.
    Backup(Box<BackupEntry>),
    /// Answer to `backup --list`, newest first.
    Backups {
        /// Each.
        backups: Vec<BackupEntry>,
    },
    /// What a restore is going to do.
    Restore(Box<RestorePlan>),
    /// Nothing new, still at it: at least every 10 s.
    Heartbeat {
        /// The phase it is in.
        phase: String,
        /// How long it has been.
        ms: u64,
    },
    /// Answer to `status`.
    Status(Box<Status>),
    /// Answer to `history`, newest first.
    History {
        /// One a finished operation.
        operations: Vec<HistoryEntry>,
    },
    /// Answer to `releases`, newest first.
    Releases {
        /// One a release on disk.
        releases: Vec<ReleaseEntry>,
    },
    /// One log line.
    Log {
        /// Which release wrote it.
        release: u64,
        /// The line as stored: time, instance, text.
        line: String,
    },
    /// The end of an operation, and of every verb that changes something.
    Result(Box<Outcome>),
    /// The request was not taken up. Four lines and an exit code.
    Error(Trouble),
}

/// Where a phase stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseState {
    /// It begins.
    Start,
    /// It succeeded.
    Ok,
    /// It failed.
    Fail,
    /// There was nothing to do.
    Skip,
}

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
    /// Of a set: what became of each member, in order. `op` is the set's number then, `service`
    /// all names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Member>,
}

/// An error for people: four lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// What did not happen: `web: release 42 was not put live`.
    pub what: String,
    /// Why; may have several lines (the last lines of a failed candidate).
    pub why: String,
    /// What is true for the user's users now.
    pub still: String,
    /// The exact commands to go on with.
    pub next: Vec<String>,
    /// The exit code.
    pub exit: u8,
}

impl Outcome {
    /// Whether it was a success.
    #[must_use]
    pub fn is_good(&self) -> bool {
        Exit::of_code(self.exit) == Some(Exit::Done)
    }
}

impl Trouble {
    /// What its code means. A code that only a newer Halley gives is an error like any other.
    #[must_use]
    pub fn meaning(&self) -> Exit {
        Exit::of_code(self.exit).unwrap_or(Exit::Internal)
    }
}
