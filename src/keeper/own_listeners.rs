//! What a program behind a fence says to itself: workers that talk over a listener of their own, on a
//! port that the kernel chose.
//!
//! A port that anybody else listens at too must never count as the program's own: the kernel chooses
//! between listeners.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::core::ordered::Ordered as _;
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
    /// Whether only this program listens there.
    #[must_use]
    pub fn listens_alone(&self, at: SocketAddr) -> bool {
        let ip = at.ip().to_canonical();
        if !ip.is_loopback() && !ip.is_unspecified() {
            return false;
        }
        let states = [diag::LISTEN];
        let wanted =
            diag::Wanted { states: &states, local_port: Some(at.port()), remote_port: None };
        let mut others: BTreeSet<u64> =
            diag::rows(wanted).into_iter().map(|row| row.inode).into_set();
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
