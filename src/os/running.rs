//! Which Halley runs for a configuration, when its file can no longer say.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::net::sockopt::socket_peercred;

use crate::os::{local, proc};

/// The control socket of the supervisor that was started with this verb for this file. Who runs under
/// another user is not believed.
#[must_use]
pub fn control_socket(verb: &str, config: &Path) -> Option<PathBuf> {
    let config = std::path::absolute(config).ok()?;
    let is_one = |pid: &i32| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split('\0').skip(1);
        words.next() == Some(verb) && words.next().is_some_and(|path| is_same(path, &config))
    };
    let pids: Vec<i32> = proc::all().into_iter().filter(is_one).collect();
    let own = rustix::process::geteuid();
    let is_its = |socket: &PathBuf| {
        let peer = UnixStream::connect(socket).and_then(|it| Ok(socket_peercred(it)?));
        peer.is_ok_and(|peer| peer.uid == own && pids.contains(&peer.pid.as_raw_pid()))
    };
    // Nobody else's sockets are connected to, and those of services have another mode.
    let mut private = if pids.is_empty() { Vec::new() } else { local::private_listeners() };
    private.sort_by_key(|path| !path.ends_with("control.sock"));
    private.into_iter().find(is_its)
}

fn is_same(one: &str, other: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    Path::new(one) == other || real(one.as_ref()).is_some_and(|one| Some(one) == real(other))
}
