//! `status [SERVICE]`: how things stand, in one [`Event::Status`](super::Event::Status).

use serde::{Deserialize, Serialize};

use super::kept::KeptConnections;
use super::release_set::SetStatus;
use super::trouble::Trouble;

/// The arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Args {
    /// One service, or all.
    pub service: Option<String>,
}

/// How things stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Halley's version.
    pub version: String,
    /// The service that was asked for, when it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<String>,
    /// The services, in start order.
    pub services: Vec<ServiceStatus>,
    /// The running set.
    #[serde(default)]
    pub set: Option<SetStatus>,
    /// The longest time that the supervisor's event loop stood still since it came up, in
    /// milliseconds, and the task that was at work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_ms: Option<u64>,
    /// That task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_at: Option<String>,
    /// What needs attention in the stack as a whole.
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
    /// What became of connections that clients keep open, since the last flip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<KeptConnections>,
    /// What a release is kept to that is tried on a copy of the data; absent without backups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearsals: Option<RehearsalStatus>,
}

/// What a program is kept to that is tried on a copy of the data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RehearsalStatus {
    /// `mounts`, `user_namespace`, `landlock`, or `none`: then no program is started on a copy.
    pub isolation: String,
    /// Why it is not `mounts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Connections to what is live are refused; without, no program is started on a copy.
    pub fence: bool,
}

/// One process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Its release.
    pub release: u64,
    /// Its place among the instances of its generation.
    pub instance: u16,
    /// Its process id; absent while it is not running.
    pub pid: Option<i32>,
    /// `live`, `candidate`, `standby` or `draining`.
    pub role: String,
    /// `starting`, `ready`, `waiting` (for its next start), `stopping`.
    pub state: String,
    /// Starts after the first.
    pub restarts: u32,
    /// Resident memory of all its processes.
    pub rss_bytes: u64,
    /// CPU time of all its processes so far, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u64>,
    /// How long it has run, in milliseconds; absent while it is not running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime_ms: Option<u64>,
    /// While it is on its way out: connections of users that it still has.
    #[serde(default)]
    pub connections: Option<u64>,
    /// While it is on its way out: when it is asked to stop whatever it still has, in
    /// milliseconds from now; absent when never.
    #[serde(default)]
    pub stop_in_ms: Option<u64>,
    /// What it says of itself (`STATUS=` at `NOTIFY_SOCKET`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
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
    /// The user that requested the operation.
    pub actor: String,
    /// When, RFC 3339.
    pub at: String,
}
