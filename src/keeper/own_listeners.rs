//! What a program behind a fence says to itself: workers that talk over a listener of their own, on a
//! port that the kernel chose.
//!
//! A port that anybody else listens at too must never count as the program's own: the kernel chooses
//! between listeners.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::core::ordered::Ordered as _;
use crate::os::fence::{Destination, Fence, is_here};
use crate::os::{diag, local, mounts, proc, stranger};

/// A program, with all that it has started.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Root {
    /// Its first process.
    pub pid: i32,
    /// What all of its processes carry in their environment, however far they ran.
    pub token: String,
}

/// Who gets what is sent to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hearers {
    /// This program alone.
    Itself,
    /// Nobody that there would be if this program ran alone. It gets this error then.
    Nobody(i32),
    /// Somebody else, or that is not known.
    Others,
}

impl Root {
    /// Who hears what the caller sends there, in a stream or in datagrams.
    #[must_use]
    pub fn hearers(
        &self,
        fence: &Fence,
        caller: i32,
        to: &Destination,
        is_stream: bool,
    ) -> Hearers {
        let sockets = match to {
            Destination::Inet(at) if is_here(*at) || fence.is_own_ip(*at) => {
                if fence.is_live(*at, is_stream) {
                    return Hearers::Nobody(libc::ECONNREFUSED);
                }
                sockets_at(at.port(), is_stream)
            }
            Destination::Unix(path) => match path.to_str().filter(|name| name.starts_with('@')) {
                Some(_) if fence.live_paths.contains(path) => {
                    return Hearers::Nobody(libc::ECONNREFUSED);
                }
                Some(name) => {
                    let named = diag::named().into_iter();
                    named.filter(|(_, own)| own == name).map(|(inode, _)| inode).into_set()
                }
                None => return self.hearers_at(fence, path, caller),
            },
            Destination::Inet(_) | Destination::Family(_) | Destination::Unreadable => {
                return Hearers::Others;
            }
        };
        match () {
            () if sockets.is_empty() => Hearers::Nobody(libc::ECONNREFUSED),
            () if self.has_all(sockets) => Hearers::Itself,
            () => Hearers::Others,
        }
    }

    /// The same for a path, which may be another file where the program is than here.
    fn hearers_at(&self, fence: &Fence, path: &Path, caller: i32) -> Hearers {
        let file = match seen_by(caller, path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Hearers::Nobody(libc::ENOENT);
            }
            Err(_) => return Hearers::Others,
        };
        let named = diag::named();
        let has_bound = |pid: i32| {
            let inodes = proc::socket_inodes(pid);
            let mut own = named.iter().filter(|(inode, _)| inodes.contains(inode));
            own.any(|(_, name)| seen_by(pid, Path::new(name)).is_ok_and(|seen| seen == file))
        };
        let mut all = proc::tree(self.pid).into_iter().chain(stranger::with_token(&self.token));
        if all.any(has_bound) {
            return Hearers::Itself;
        }
        let own = i32::try_from(std::process::id()).unwrap_or_default();
        let mut live = fence.live_paths.iter();
        let is_live = live.any(|live| seen_by(own, live).is_ok_and(|seen| seen == file));
        // What a program has left that is gone.
        let is_left = !named.iter().any(|(inode, _)| local::is_bound_to(*inode, file.1));
        if is_live || is_left { Hearers::Nobody(libc::ECONNREFUSED) } else { Hearers::Others }
    }

    /// Whether all of them are its own.
    fn has_all(&self, mut others: BTreeSet<u64>) -> bool {
        let tree = proc::tree(self.pid);
        let is_all = |pids: &BTreeSet<i32>, others: &mut BTreeSet<u64>| {
            for inode in pids.iter().flat_map(|pid| proc::socket_inodes(*pid)) {
                others.remove(&inode);
            }
            others.is_empty()
        };
        is_all(&tree, &mut others) || is_all(&stranger::with_token(&self.token), &mut others)
    }
}

/// The file at a path, where another process is: it may lie on a file system of its own, that does
/// not answer.
fn seen_by(pid: i32, path: &Path) -> io::Result<(u64, u64)> {
    let path = path.to_owned();
    let seen = stranger::read(pid, move || mounts::seen_by(pid, &path));
    seen.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
}

/// Sockets that may get what is sent to this port.
fn sockets_at(port: u16, is_stream: bool) -> BTreeSet<u64> {
    let states = [diag::LISTEN];
    let wanted = diag::Wanted { states: &states, local_port: Some(port), remote_port: None };
    let rows = if is_stream { diag::rows(wanted) } else { diag::datagrams() }.into_iter();
    rows.filter(|row| row.local.port() == port).map(|row| row.inode).into_set()
}
