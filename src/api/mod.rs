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

pub mod backup;
pub mod plan;
pub mod release_set;
#[cfg(test)]
mod tests;

pub use backup::{BackupEntry, RestorePlan};
pub use plan::{Plan, PlanStep};
pub use release_set::{Member, Part, SetStatus};

/// Version of this protocol.
pub const VERSION: u16 = 1;

/// What a client asks for, with who asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// [`VERSION`] of the client.
    pub version: u16,
    /// Who asks, for the history: `SUDO_USER`, else the login name, else the uid.
    pub actor: String,
    /// What.
    #[serde(flatten)]
    pub verb: Verb,
}

/// One verb of the command line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "verb")]
pub enum Verb {
    /// Bring a new release live. One descriptor comes along: a file, a pipe or a directory.
    Release {
        /// Which service.
        service: String,
        /// What was named on the command line, for people: a path, or `-`.
        source: String,
        /// Release it though the artifact is frozen.
        force: bool,
        /// Why nobody will want to go back from it.
        #[serde(default)]
        no_way_back: Option<String>,
        /// Only its plan.
        #[serde(default)]
        dry_run: bool,
    },
    /// Bring new releases of several services live, as one. A descriptor comes along for each
    /// member that has one, in their order.
    ReleaseSet {
        /// The members, in any order.
        members: Vec<Part>,
        /// Release them though an artifact is frozen.
        force: bool,
    },
    /// Bring an older release back.
    Rollback {
        /// Which service.
        service: String,
        /// Which release; the newest good older one when absent.
        to: Option<u64>,
    },
    /// Follow an operation from its beginning to its result.
    Watch {
        /// Its number within `service`.
        op: u64,
        /// Whose operation; needed when several services have one of that number.
        service: Option<String>,
    },
    /// Follow a set from its beginning to its result.
    WatchSet {
        /// Its number.
        set: u64,
    },
    /// How things stand: one [`Event::Status`].
    Status {
        /// One service, or all.
        service: Option<String>,
    },
    /// Past operations: [`Event::History`].
    History {
        /// One service, or all.
        service: Option<String>,
        /// At most this many, newest first.
        limit: usize,
    },
    /// The releases on disk: [`Event::Releases`].
    Releases {
        /// Which service.
        service: String,
    },
    /// A service's log lines: [`Event::Log`] each.
    Logs {
        /// Which service.
        service: String,
        /// Which release; the serving one when absent.
        release: Option<u64>,
        /// How many of the last lines first.
        tail: usize,
        /// Go on with each new line.
        follow: bool,
    },
    /// Start a stopped service.
    Start {
        /// Which service.
        service: String,
    },
    /// Stop a service: its listeners close and it stays down, also over a reboot.
    Stop {
        /// Which service.
        service: String,
    },
    /// Replace the running processes by new ones of the same release, without loss.
    Restart {
        /// Which service.
        service: String,
    },
    /// No releases of the service until it is thawed.
    Freeze {
        /// Which service.
        service: String,
        /// Why, for whoever is refused.
        why: String,
    },
    /// Releases are allowed again.
    Thaw {
        /// Which service.
        service: String,
        /// The artifact of this release, instead of the service.
        release: Option<u64>,
    },
    /// Rehearse a rollback.
    Drill {
        /// Which service.
        service: String,
    },
    /// Take a backup and rehearse it, or tell of all.
    Backup {
        /// Which service.
        service: String,
        /// Only tell of those there are.
        list: bool,
    },
    /// Put a backup in the place of the present data.
    Restore {
        /// Which service.
        service: String,
        /// Which backup; the newest when absent.
        backup: Option<String>,
        /// Only what it would do.
        dry_run: bool,
        /// Somebody has said yes.
        yes: bool,
        /// Also when the present cannot be backed up.
        unsaved: bool,
    },
    /// Send a test notification.
    Notify {
        /// To which target.
        target: String,
    },
    /// End a bake or a hold well.
    Promote {
        /// Which service.
        service: String,
    },
    /// End an operation and go back to what served before.
    Abort {
        /// Which service.
        service: String,
    },
}

/// What the supervisor tells a client.
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
        /// Who asked for it.
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
        /// Who asked for it.
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
    /// It went well.
    Ok,
    /// It failed.
    Fail,
    /// There was nothing to do.
    Skip,
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// `committed`, `rolled_back`, `gate_failed`, `rejected`, `aborted`, `rollback_failed`,
    /// `started`, `stopped`, `restarted`, …
    pub outcome: String,
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
    /// What and why, when it was not a success; `still` says what serves.
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

/// How things stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Halley's version.
    pub version: String,
    /// The services, in start order.
    pub services: Vec<ServiceStatus>,
    /// The running set.
    #[serde(default)]
    pub set: Option<SetStatus>,
    /// What somebody should see to, of the stack as a whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// How one service stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// `running`, `degraded`, `down` or `stopped`.
    pub state: String,
    /// Why it is not `running`.
    pub why: Option<String>,
    /// The release that new connections go to.
    pub serving: Option<u64>,
    /// The release that a reboot starts.
    pub last_good: Option<u64>,
    /// A release that is live but not committed.
    pub trial: Option<u64>,
    /// Its addresses.
    pub listen: Vec<String>,
    /// Every process.
    pub instances: Vec<InstanceStatus>,
    /// Whether a rollback would work now.
    pub rollback: RollbackStatus,
    /// The running operation.
    pub operation: Option<OperationStatus>,
    /// What must be done by hand, after a rollback that failed.
    pub alarm: Option<Trouble>,
    /// Why no releases are allowed.
    #[serde(default)]
    pub frozen: Option<String>,
}

/// One process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Its release.
    pub release: u64,
    /// Its place among the instances of its generation.
    pub instance: u16,
    /// Its process id; 0 while it is not running.
    pub pid: i32,
    /// `live`, `candidate`, `standby` or `draining`.
    pub role: String,
    /// `starting`, `ready`, `waiting` (for its next start), `stopping`.
    pub state: String,
    /// Starts after the first.
    pub restarts: u32,
    /// Resident memory.
    pub rss_bytes: u64,
    /// While it is on its way out: connections of users that it still has.
    #[serde(default)]
    pub connections: Option<u64>,
    /// While it is on its way out: when it is asked to stop whatever it still has, in
    /// milliseconds from now; absent when never.
    #[serde(default)]
    pub stop_in_ms: Option<u64>,
}

/// Whether a rollback would work now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackStatus {
    /// It would.
    pub ready: bool,
    /// To which release.
    pub release: Option<u64>,
    /// `warm` (its processes run) or `cold`.
    pub from: Option<String>,
    /// Why not.
    pub why: Option<String>,
    /// When it was last rehearsed, RFC 3339.
    #[serde(default)]
    pub rehearsed: Option<String>,
    /// How that went: `full`, `light`, or why it failed.
    #[serde(default)]
    pub rehearsal: Option<String>,
}

/// A running operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationStatus {
    /// Its number.
    pub op: u64,
    /// `release`, `rollback` or `restart`.
    pub kind: String,
    /// The phase it is in.
    pub phase: String,
    /// Who asked for it.
    pub actor: String,
    /// When, RFC 3339.
    pub at: String,
}

/// One line of the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// Version of this record, now 1.
    pub version: u16,
    /// When it ended, RFC 3339.
    pub at: String,
    /// Who asked for it.
    pub actor: String,
    /// Whose.
    pub service: String,
    /// The operation's number.
    pub op: u64,
    /// `release`, `rollback` or `restart`.
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

/// One release on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseEntry {
    /// Its number.
    pub release: u64,
    /// `staged`, `good`, `bad` or `aborted`.
    pub verdict: String,
    /// Why it is bad.
    pub why: Option<String>,
    /// `serving`, `last_good`, `trial`, `standby`, `pinned`: why it is kept, empty when by count.
    pub roles: Vec<String>,
    /// The artifact's own version from `release.toml`.
    pub label: Option<String>,
    /// sha256 over the tree.
    pub digest: String,
    /// Bytes of its files.
    pub size_bytes: u64,
    /// When it was staged, RFC 3339.
    pub at: String,
}
