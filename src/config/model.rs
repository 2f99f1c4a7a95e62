//! Settings that are valid by construction: what the rest of the house sees.
//!
//! Only `check` makes these, from what was typed in ([`super::raw`]). What belongs to one
//! section alone is defined where that section is read. The part of a service's settings that
//! belongs to a release ([`Settings`]) is snapshotted with it and comes back with it, so it is
//! serialised here, with a version.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use super::backup::{Backup, Driver};
pub use super::bake::{Bake, Inconclusive};
pub use super::connect::{Endpoint, RehearseConnect};
pub use super::health::{Check, Health};
pub use super::hooks::Hook;
pub use super::notify::{Target, Way, Webhook};
pub use super::proxy::{Admin, Proxy};
pub use super::tree::Tree;
use crate::core::ids::ServiceName;
use crate::core::operation::machine::Succession;
use crate::core::restart::Policy;
use crate::os::limits::ProcessLimits;

/// A whole configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Everything durable lives below it.
    pub root: PathBuf,
    /// The control socket's path.
    pub socket: PathBuf,
    /// The services by name.
    pub services: BTreeMap<ServiceName, Service>,
    /// Services in start order: each one stands after those named in its `after`.
    pub order: Vec<ServiceName>,
    /// Notification targets.
    pub notify: Vec<Target>,
}

/// One service: what belongs to the host ([`Service`]) and what goes with a release ([`Settings`]).
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// Why its `env_file` cannot be used: its environment is not known then.
    pub no_env: Option<String>,
    /// The stable addresses it owns, in the order of descriptors 3, 4, …
    pub listen: Vec<Listen>,
    /// Length of each slot's accept queue.
    pub backlog: u32,
    /// Mode and owner of its unix sockets.
    pub socket_file: SocketFile,
    /// How a new release takes over.
    pub strategy: Strategy,
    /// With `hold`: connections never wait longer than this for a candidate; then the old
    /// instance is started again.
    pub max_gap: Duration,
    /// With `port`: how connections are passed on.
    pub forward: Forward,
    /// With `port`: an outside reverse proxy is the stable entry point, in the place of listeners.
    pub proxy: Option<Proxy>,
    /// Services that are started before this one.
    pub after: Vec<ServiceName>,
    /// Greatest size of an artifact, packed and unpacked alike, in bytes.
    pub artifact_bytes_max: u64,
    /// What its trees are made of beside the artifact.
    pub tree: Tree,
    /// Keys of `release.toml` that the host does not let a release set.
    pub pinned: Vec<ReleaseKey>,
    /// How many releases are kept.
    pub keep: Keep,
    /// What becomes of connections that clients keep open.
    pub kept: Kept,
    /// What becomes of output that its log has no room for.
    pub log_full: Full,
    /// How a rollback is rehearsed before each release.
    pub rehearse: Rehearse,
    /// What a program may connect to when it is tried out on a copy of the data.
    pub rehearse_connect: RehearseConnect,
    /// Directories that it may write to then; what it writes is thrown away.
    pub rehearse_write: Vec<PathBuf>,
    /// How its data is backed up.
    pub backup: Option<Backup>,
    /// When a live program that ended is started again.
    pub restart: Policy,
    /// What is done when the live release crashes again and again.
    pub on_crash_loop: Reaction,
    /// What is done when the live release fails its health check at rest.
    pub on_unhealthy: Reaction,
    /// How often it is rehearsed without one; never when absent.
    pub drill: Option<Duration>,
    /// The settings the next release starts with, before its `release.toml` is laid over them.
    pub settings: Settings,
}

impl Service {
    /// Whether a new release runs beside the old one for a while.
    #[must_use]
    pub fn runs_beside(&self) -> bool {
        self.strategy.succession() == Succession::Overlap
    }

    /// Whether the service accepts stream connections.
    #[must_use]
    pub fn is_called_by_streams(&self) -> bool {
        let is_stream = |listen: &Listen| !matches!(listen, Listen::Udp(_));
        self.proxy.is_some() || self.listen.iter().any(is_stream)
    }
}

/// A stable address. Two services never share one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Listen {
    /// `tcp://127.0.0.1:80`, `tcp://[::1]:80`; `tcp://[::]:80` is dual stack.
    Tcp(SocketAddr),
    /// `udp://127.0.0.1:53`
    Udp(SocketAddr),
    /// `unix:/run/halley/web.sock`
    Unix(PathBuf),
}

/// Mode and owner of a unix socket's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketFile {
    /// Permissions.
    pub mode: u32,
    /// The owner of the socket file; Halley's own user when absent.
    pub user: Option<String>,
    /// Its group; the user's when absent.
    pub group: Option<String>,
}

/// How a new release takes over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Strategy {
    /// Side by side until the new one is proven, then all at once.
    Overlap,
    /// Side by side, with a part of the connections first: the steps before the last, in
    /// hundredths of a percent.
    Canary(Vec<u16>),
    /// In turn: connections wait in the queue meanwhile.
    Hold,
    /// In turn, for a service without connections.
    Replace,
}

impl Strategy {
    /// How old and new meet.
    #[must_use]
    pub fn succession(&self) -> Succession {
        match self {
            Self::Overlap | Self::Canary(_) => Succession::Overlap,
            Self::Hold | Self::Replace => Succession::InTurn,
        }
    }
}

/// How connections are forwarded to a program that is given its port.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Forward {
    /// A PROXY protocol v2 header gives the program the client's address.
    pub proxy_protocol: bool,
    /// Connections at a time per instance; more wait in the queue.
    pub max_clients: Option<u32>,
}

/// What a release has set itself, by name alone: values may be secret, and stand elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Own {
    /// Variables of its environment.
    pub env: Vec<String>,
    /// `command`.
    pub command: bool,
    /// `health`, or a part of it.
    pub health: bool,
    /// `stop`, or a part of it.
    pub stop: bool,
}

/// The settings a release runs with. Snapshotted beside it as `meta/N/settings.json`, readable by
/// its owner alone: `env` may hold secrets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Version of this format, now 1.
    pub version: u16,
    /// Program and arguments; a program with a `/` is relative to the release. Empty where the
    /// host leaves it to `release.toml`: PREFLIGHT refuses a release in which it is still empty.
    pub command: Vec<String>,
    /// Name of the user it runs as; Halley's own when absent.
    pub user: Option<String>,
    /// Name of its primary group; the user's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Names of further groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// What it may use.
    #[serde(default, skip_serializing_if = "ProcessLimits::is_none")]
    pub limits: ProcessLimits,
    /// Processes per release.
    pub instances: u16,
    /// Environment: `env_file` first, `env` over it.
    pub env: BTreeMap<String, String>,
    /// How the program gets its sockets.
    pub handoff: Handoff,
    /// Health checks.
    pub health: Health,
    /// The watch after the flip.
    pub bake: Bake,
    /// How it is stopped.
    pub stop: Stop,
    /// How it brings the data to its schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migrate: Option<Migrate>,
    /// What the release declares about the data's schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Schema>,
    /// What runs around the points of its release.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<Hook>,
}

/// How a program gets its sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Handoff {
    /// Descriptors 3.. with `LISTEN_FDS`, `LISTEN_PID`, `LISTEN_FDNAMES`.
    Inherit,
    /// Its own `bind()` gets the slot.
    Intercept,
    /// The program is given its own port or socket path, and connections are forwarded to it.
    Port,
}

/// How a rollback is rehearsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rehearse {
    /// The release one would go back to is started beside the running one and probed.
    Full,
    /// Its tree is compared with its hashes, its settings are read.
    Light,
    /// Not at all.
    Off,
}

/// How a release brings the data to its schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migrate {
    /// Run once per release, in its tree.
    pub command: Vec<String>,
    /// It is killed after this.
    #[serde(with = "super::duration")]
    pub deadline: Duration,
    /// Prints the version of the schema that the data has.
    #[serde(default)]
    pub probe: Option<Vec<String>>,
}

/// What a release declares about the data's schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    /// The version that the data has after its migration.
    pub provides: String,
    /// The versions that it runs on; the one it provides is among them.
    pub accepts: Vec<String>,
    /// What its migration does to releases before it.
    pub kind: SchemaKind,
}

/// What a migration does to releases before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SchemaKind {
    /// It adds: they run on.
    Expand,
    /// It takes away: they do not.
    Contract,
}

/// How a program is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// Name of the first signal: `TERM`, `INT`, `QUIT`, `HUP`, `USR1`, `USR2`, `WINCH`.
    pub signal: String,
    /// Who gets it.
    #[serde(default, skip_serializing_if = "SignalTo::is_main")]
    pub signal_to: SignalTo,
    /// Steered away and left alone this long before the signal.
    #[serde(with = "super::duration")]
    pub linger: Duration,
    /// Then its connections get this long to end before the signal.
    #[serde(default)]
    pub drain: Drain,
    /// `KILL` follows when it still runs after this.
    #[serde(with = "super::duration")]
    pub timeout: Duration,
}

/// Which processes of a program get the stop signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignalTo {
    /// The one that was started; when that ends first, those that it leaves.
    #[default]
    Main,
    /// All of them at once.
    Group,
}

impl SignalTo {
    fn is_main(&self) -> bool {
        *self == Self::Main
    }
}

/// What is done by itself about a live release that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reaction {
    /// It is reported.
    #[default]
    Alarm,
    /// The same release in another process.
    Restart,
    /// The last release that was good before it.
    Rollback,
    /// The same, as it cannot even be started; not configured.
    FallBack,
}

/// How long a release that was steered away from may finish its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Drain {
    /// At most this long.
    For(Duration),
    /// Until the last one has ended by itself.
    Forever,
}

impl Default for Drain {
    fn default() -> Self {
        Self::For(Duration::from_secs(30))
    }
}

impl TryFrom<String> for Drain {
    type Error = super::duration::BadDuration;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text == "forever" {
            return Ok(Self::Forever);
        }
        super::duration::parse(&text).map(Self::For)
    }
}

impl From<Drain> for String {
    fn from(drain: Drain) -> Self {
        match drain {
            Drain::Forever => "forever".to_owned(),
            Drain::For(duration) => super::duration::print(duration),
        }
    }
}

/// What becomes of output that its log has no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The program waits at its next write.
    Block,
    /// It is dropped, and counted.
    Drop,
}

/// What becomes of connections that clients keep open, at a flip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// The next request on each goes to the new release, where that loses nothing.
    Follow,
    /// They stay with the release that accepted them.
    Stay,
    /// As with `Follow`; and quiet ones are ended.
    Close,
}

impl Kept {
    /// What it is where nothing is configured.
    pub const DEFAULT: Self = Self::Stay;
    /// As they are written.
    pub const WORDS: [(&'static str, Self); 3] =
        [("follow", Self::Follow), ("stay", Self::Stay), ("close", Self::Close)];
}

/// How many releases are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    /// Good releases on disk.
    pub releases: u32,
    /// How long the release before stays warm.
    pub standby: Duration,
}

/// A key that `release.toml` may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseKey {
    /// `command`
    Command,
    /// `env`
    Env,
    /// `health`
    Health,
    /// `stop`
    Stop,
    /// `migrate`
    Migrate,
    /// `hooks`
    Hooks,
}
