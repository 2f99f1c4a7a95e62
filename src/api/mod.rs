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

pub mod abort;
pub mod backup;
pub mod drill;
pub mod env;
pub mod freeze;
pub mod history;
pub mod kept;
pub mod logs;
pub mod notify;
mod outcome;
pub mod promote;
pub mod release;
pub mod release_set;
pub mod releases;
pub mod reload;
pub mod repair;
pub mod restart;
pub mod restore;
pub mod rollback;
pub mod start;
pub mod status;
pub mod stop;
#[cfg(test)]
mod tests;
pub mod thaw;
mod trouble;
pub mod upgrade;
pub mod watch;
mod word;

pub use backup::BackupEntry;
pub use history::HistoryEntry;
pub use outcome::Outcome;
pub use release::{Plan, PlanStep};
pub use release_set::{Member, Part, SetStatus};
pub use releases::ReleaseEntry;
pub use repair::{RepairPlan, RepairStep};
pub use restore::RestorePlan;
pub use status::{
    InstanceStatus, OperationStatus, RehearsalStatus, RollbackStatus, ServiceStatus, Status,
};
pub use trouble::Trouble;
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
    #[serde(rename = "flat:")]
    pub verb: Verb,
}

/// One verb of the command line, with its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename = "tag:verb", rename_all = "snake_case")]
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
    /// What a program of a release is started with.
    Env(env::Args),
    /// Log lines of services.
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
    /// Read the configuration again.
    Reload(reload::Args),
    /// Rebuild damaged files.
    Repair(repair::Args),
    /// Send a test notification.
    Notify(notify::Args),
    /// Replace Halley itself.
    Upgrade(upgrade::Args),
    /// End a step, a bake or a hold as a success.
    Promote(promote::Args),
    /// End an operation and go back to what served before.
    Abort(abort::Args),
}

/// An event that the supervisor sends to a client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename = "tag:event", rename_all = "snake_case")]
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
        /// Entries of an archive that is unpacked, so far.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        entries: Option<u64>,
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
    /// Answer to `env`.
    Env(Box<env::Surroundings>),
    /// Answer to `reload`.
    Reload(Box<reload::Reload>),
    /// What a restore is going to do.
    Restore(Box<RestorePlan>),
    /// What is damaged, and what becomes of it.
    Repair(Box<RepairPlan>),
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
    /// Answer to `logs` of several services: whose lines follow.
    Logs {
        /// Their names.
        services: Vec<String>,
    },
    /// One log line.
    Log {
        /// Whose; an older supervisor does not say it.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        service: String,
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
