//! A program that connections are to follow away from: its processes, and which descriptor of theirs is which
//! connection.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;

use crate::os::{proc, recover};

/// Where a process has a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The process.
    pub pid: i32,
    /// Its descriptor.
    pub number: i32,
}

/// A program.
#[derive(Debug)]
pub struct Program {
    /// Its first process.
    pub root: i32,
    /// A reader that waits by itself was seen.
    pub is_blocking: bool,
    /// How many answers were seen under close watch, without such a reader.
    pub n_seen: u32,
}

/// So many answers are enough.
const ENOUGH: u32 = 8;

/// A connection of it.
#[derive(Debug)]
pub struct Found {
    /// Which socket.
    pub inode: u64,
    /// Where it is.
    pub place: Place,
    /// A duplicate, or why there is none.
    pub duplicate: io::Result<OwnedFd>,
}

impl Program {
    /// One of which nothing is known.
    #[must_use]
    pub fn new(root: i32) -> Self {
        Self { root, is_blocking: false, n_seen: 0 }
    }

    /// Whether a mark may go up: some programs make a socket wait for as long as they read from it, and a
    /// large body wakes such a reader in spite of the mark. So it is watched at its work first.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        !self.is_blocking && self.n_seen >= ENOUGH
    }

    /// Whether it is to be watched closely.
    #[must_use]
    pub fn wants_close_watch(&self) -> bool {
        !self.is_blocking && self.n_seen < ENOUGH
    }

    /// Whether its first process is there.
    #[must_use]
    pub fn is_there(&self) -> bool {
        proc::start_ticks(self.root).is_ok() && !proc::is_zombie(self.root)
    }

    /// Those of these sockets that it has.
    #[must_use]
    pub fn find(&self, parents: &[(i32, i32)], wanted: &BTreeSet<u64>) -> Vec<Found> {
        let mut found: Vec<Found> = Vec::new();
        for pid in proc::tree_in(parents, self.root) {
            let process = proc::pidfd(pid);
            for (number, inode) in recover::sockets(pid) {
                if !wanted.contains(&inode) || found.iter().any(|one| one.inode == inode) {
                    continue;
                }
                let duplicate = match &process {
                    Ok(process) => recover::descriptor(process, number),
                    Err(error) => Err(io::Error::from(error.kind())),
                };
                // It may be another one by now: then it is looked for again.
                let is_it = |fd: &OwnedFd| recover::id_of(fd).is_ok_and(|id| id.1 == inode);
                if duplicate.as_ref().is_ok_and(|fd| !is_it(fd)) {
                    continue;
                }
                found.push(Found { inode, place: Place { pid, number }, duplicate });
            }
        }
        found
    }

    /// Whether any of its processes has this socket.
    #[must_use]
    pub fn has(&self, inode: u64) -> bool {
        let has = |pid: &i32| recover::sockets(*pid).any(|(_, open)| open == inode);
        self.is_there() && proc::tree(self.root).iter().any(has)
    }
}

impl Place {
    /// Whether this very socket is still there.
    #[must_use]
    pub fn has(self, inode: u64) -> bool {
        recover::socket_at(self.pid, self.number) == Some(inode)
    }
}
