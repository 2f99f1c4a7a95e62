//! What a program behind a fence says to itself: workers that talk over a listener of their own, on a
//! port that the kernel chose.
//!
//! A port that anybody else listens at too must never count as the program's own: the kernel chooses
//! between listeners.

use std::collections::BTreeSet;

use crate::core::ordered::Ordered as _;
use crate::os::fence::Destination;
use crate::os::{diag, proc};

/// A program, with all that it has started.
#[derive(Debug, Default)]
pub struct Root {
    /// Its first process.
    pub pid: i32,
    /// What all of its processes carry in their environment, however far they ran.
    pub token: String,
}

impl Root {
    /// Whether only this program hears what is sent there, in a stream or in datagrams.
    #[must_use]
    pub fn hears_alone(&self, to: &Destination, is_stream: bool) -> bool {
        match to {
            Destination::Inet(at) => {
                let ip = at.ip().to_canonical();
                let is_here = ip.is_loopback() || ip.is_unspecified();
                is_here && self.has_all(sockets_at(at.port(), is_stream))
            }
            // The same path may be another file where the program is: only names without a file.
            Destination::Unix(path) => path
                .to_str()
                .filter(|name| name.starts_with('@'))
                .is_some_and(|name| self.has_all(diag::named(name))),
            Destination::Family(_) | Destination::Unreadable => false,
        }
    }

    /// Whether there are any, and all of them are its own.
    fn has_all(&self, mut others: BTreeSet<u64>) -> bool {
        if others.is_empty() {
            return false;
        }
        let tree = proc::tree(self.pid);
        let is_all = |pids: &BTreeSet<i32>, others: &mut BTreeSet<u64>| {
            for inode in pids.iter().flat_map(|pid| proc::socket_inodes(*pid)) {
                others.remove(&inode);
            }
            others.is_empty()
        };
        is_all(&tree, &mut others) || is_all(&proc::with_token(&self.token), &mut others)
    }
}

/// Sockets that may get what is sent to this port.
fn sockets_at(port: u16, is_stream: bool) -> BTreeSet<u64> {
    if !is_stream {
        return diag::datagrams(port);
    }
    let states = [diag::LISTEN];
    let wanted = diag::Wanted { states: &states, local_port: Some(port), remote_port: None };
    diag::rows(wanted).into_iter().map(|row| row.inode).into_set()
}
