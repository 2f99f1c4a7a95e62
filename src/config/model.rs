//! Settings that are valid by construction: what the rest of the house sees.
//!
//! Only [`super::check`] makes these, from what was typed in ([`super::raw`]). The part of a
//! service's settings that belongs to a release ([`Settings`]) is snapshotted with it and comes back with it,
//! so it is serialised here, with a version.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::ids::ServiceName;

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
}

/// One service: what belongs to the host ([`Service`]) and what goes with a release ([`Settings`]).
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// The stable addresses it owns, in the order of descriptors 3, 4, …
    pub listen: Vec<Listen>,
    /// Length of each slot's accept queue.
    pub backlog: u32,
    /// Services that are started before this one.
    pub after: Vec<ServiceName>,
    /// Greatest size of an artifact, packed and unpacked alike, in bytes.
    pub artifact_bytes_max: u64,
    /// Keys of `release.toml` that the host does not let a release set.
    pub pinned: Vec<ReleaseKey>,
    /// How many releases are kept.
    pub keep: Keep,
    /// The settings the next release starts with, before its `release.toml` is laid over them.
    pub settings: Settings,
}

/// A stable address. Two services never share one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Listen {
    /// `tcp://127.0.0.1:80`, `tcp://[::1]:80`; `tcp://[::]:80` is dual stack.
    Tcp(SocketAddr),
}

/// An outside reverse proxy that is the stable entry point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proxy {
    /// Caddy's admin API; `id` is the `@id` of the `reverse_proxy` handler.
    Caddy {
        /// Where the API listens.
        admin: Admin,
        /// The handler's `@id`.
        id: String,
    },
    /// HAProxy's runtime API; servers `server` (one instance) or `server1`, `server2`, ... of `backend`.
    HaProxy {
        /// Where the API listens.
        admin: Admin,
        /// The backend's name.
        backend: String,
        /// The server's name, or what the servers' names begin with.
        server: String,
    },
    /// nginx: an include file with the servers of an upstream, tested, then reloaded.
    Nginx {
        /// The include file.
        file: PathBuf,
        /// Exits with 0 when the configuration is good.
        test: Vec<String>,
        /// Makes nginx read it.
        reload: Vec<String>,
    },
    /// Any other, by command; upstreams are in `HALLEY_UPSTREAMS` (space-separated) and
    /// `{upstreams}` in its arguments.
    Command {
        /// Points the proxy at the upstreams; run again it does the same again.
        flip: Vec<String>,
        /// Exits with 0 when a flip could be done.
        check: Option<Vec<String>>,
    },
}

/// Where an admin API listens: `http://127.0.0.1:2019`, `tcp://127.0.0.1:9999` or
/// `unix:/run/x.sock`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admin {
    /// An address of TCP.
    Tcp(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
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
}

/// How a program gets its sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Handoff {
    /// Descriptors 3.. with `LISTEN_FDS`, `LISTEN_PID`, `LISTEN_FDNAMES`.
    Inherit,
}

/// What a probe asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// `GET` this path on the first listener; 200 to 399 is good.
    Http(String),
    /// A connection is accepted into the slot's queue and taken out of it by the program.
    Tcp,
    /// A command in the release, as the service's user; exit 0 is good.
    Exec(Vec<String>),
    /// The program says `READY=1` on `NOTIFY_SOCKET`; from then on being alive is good.
    Notify,
    /// Being alive is good (the default for a service without a listener).
    Alive,
}

/// Health checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// What is asked.
    pub check: Check,
    /// Time between probes in gate and bake.
    #[serde(with = "super::duration")]
    pub interval: Duration,
    /// Time between probes at rest; zero is none.
    #[serde(with = "super::duration")]
    pub rest_interval: Duration,
    /// A probe that takes longer is bad.
    #[serde(with = "super::duration")]
    pub timeout: Duration,
    /// Good probes in a row that the gate wants.
    pub rise: u32,
    /// Bad probes in a row that end a bake.
    pub fall: u32,
    /// The candidate must have run this long before the gate opens.
    #[serde(with = "super::duration")]
    pub min_healthy: Duration,
    /// The gate fails when it has not opened by then.
    #[serde(with = "super::duration")]
    pub deadline: Duration,
}

/// The watch after the flip.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bake {
    /// How long; zero commits at once.
    #[serde(rename = "for", with = "super::duration")]
    pub length: Duration,
    /// What an inconclusive verdict means.
    pub inconclusive: Inconclusive,
    /// Fewer probes than this by the end are inconclusive.
    pub min_samples: u32,
}

/// What to do when a bake could neither pass nor fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inconclusive {
    /// Commit.
    Promote,
    /// Wait for `promote` or `abort`.
    Hold,
    /// Roll back.
    Rollback,
}

/// How a program is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// Name of the first signal: `TERM`, `INT`, `QUIT`, `HUP`, `USR1`, `USR2`, `WINCH`.
    pub signal: String,
    /// Steered away and left alone this long before the signal.
    #[serde(with = "super::duration")]
    pub linger: Duration,
    /// `KILL` follows when it still runs after this.
    #[serde(with = "super::duration")]
    pub timeout: Duration,
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
}
