//! What a launcher does before it becomes the program. It comes from the supervisor, through the
//! keeper, which adds nothing to it.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::os::fence::Fence;
use crate::os::isolate::Isolation;
use crate::os::limits::ProcessLimits;
use crate::os::names::LaunchUser;

/// What a launcher does before `execve`. Everything is resolved: no lookup is left to the launcher.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LaunchSpec {
    /// The program's own name (`argv[0]`) when it is another than `program`.
    #[serde(default)]
    pub name: Option<String>,
    /// Path of the program, absolute, or relative to `cwd` when it has a `/`; without a `/` it is
    /// looked up in the `PATH` of `env`.
    pub program: String,
    /// The arguments after the program's own name.
    pub args: Vec<String>,
    /// The whole environment; `LISTEN_FDS`, `LISTEN_PID` and `LISTEN_FDNAMES` are added.
    pub env: Vec<(String, String)>,
    /// Working directory.
    pub cwd: String,
    /// The user to run as.
    pub user: Option<LaunchUser>,
    /// Kept descriptors that become 3, 4, … in this order, with their `LISTEN_FDNAMES`.
    pub listen: Vec<ListenFd>,
    /// Kept sockets that the program's own `bind()` gets.
    #[serde(default)]
    pub intercept: Vec<Catch>,
    /// What it may reach over sockets; everything when absent.
    #[serde(default)]
    pub fence: Option<Fence>,
    /// Kept descriptor that becomes 1 and 2; `/dev/null` when absent.
    pub output: Option<String>,
    /// Kept descriptor that becomes 2, when it is not that of `output`.
    #[serde(default)]
    pub errors: Option<String>,
    /// Kept descriptor that becomes 0; `/dev/null` when absent.
    #[serde(default)]
    pub input: Option<String>,
    /// What it may use.
    #[serde(default)]
    pub own_limits: ProcessLimits,
    /// Set `no_new_privs`.
    pub no_new_privs: bool,
    /// What it sees instead of what is live.
    #[serde(default)]
    pub isolation: Option<Isolation>,
    /// It sees what this process sees.
    #[serde(default)]
    pub beside: Option<i32>,
    /// It and all that descend from it are known by this.
    #[serde(default)]
    pub mark: Option<String>,
    /// It may write below these directories alone.
    #[serde(default)]
    pub writes: Option<Vec<PathBuf>>,
    /// A directory that it cannot write to, as root either.
    #[serde(default)]
    pub sealed: Option<PathBuf>,
    /// The keeper's own before it changed them; the keeper sets them.
    #[serde(default)]
    pub limits: Limits,
    /// The control group that was made for it; the keeper sets it.
    #[serde(default)]
    pub group: Option<PathBuf>,
}

/// What a child inherits and is to have otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// The soft limit of open files.
    pub n_files: Option<u64>,
    /// `oom_score_adj`.
    pub oom_score_adj: Option<i32>,
}

/// A descriptor for `LISTEN_FDS`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenFd {
    /// The name the keeper has it under.
    pub kept: String,
    /// Its entry in `LISTEN_FDNAMES`.
    pub fd_name: String,
}

/// A kept socket and the address that a program asks for when it shall get it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catch {
    /// The address.
    pub at: CatchAt,
    /// The name the keeper has the socket under.
    pub kept: String,
}

/// An address that a program asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatchAt {
    /// With a stream socket.
    Tcp(SocketAddr),
    /// With a datagram socket.
    Udp(SocketAddr),
    /// A path, with a stream socket.
    Unix(PathBuf),
}

impl LaunchSpec {
    /// Whether the keeper answers calls of the program.
    pub(super) fn is_watched(&self) -> bool {
        !self.intercept.is_empty() || self.fence.is_some()
    }
}

impl CatchAt {
    /// Whether it is asked for with a stream socket.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        !matches!(self, Self::Udp(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_of_a_supervisor_that_named_more_is_read() {
        let text = r#"{"program":"./web","args":[],"env":[],"cwd":"/srv","user":null,"listen":[],
            "output":null,"no_new_privs":false,"n_files_max":null,"cgroup":null}"#;
        let spec: LaunchSpec = serde_json::from_str(text).unwrap();
        let expected =
            LaunchSpec { program: "./web".into(), cwd: "/srv".into(), ..LaunchSpec::default() };
        assert_eq!(spec, expected);
    }

    #[test]
    fn a_keeper_that_knows_more_reads_a_spec() {
        // Two options that keepers of the same protocol version know, without a default of their own.
        #[derive(Deserialize)]
        struct Known {
            program: String,
            n_files_max: Option<u64>,
            cgroup: Option<String>,
        }
        let spec = LaunchSpec { program: "./web".into(), ..LaunchSpec::default() };
        let known: Known = serde_json::from_slice(&serde_json::to_vec(&spec).unwrap()).unwrap();
        assert_eq!(
            (known.program.as_str(), known.n_files_max, known.cgroup),
            ("./web", None, None)
        );
    }
}
