//! Connections are found by the kernel's list, and only those that are new are looked for in programs.

use std::collections::BTreeSet;

use super::{Aside, LATE_MS, Watcher};
use crate::follow::connection::Connection;
use crate::follow::program::Found;
use crate::follow::watched::Watched;
use crate::os::{connection, diag, proc};

/// How often it is looked for connections, in the first seconds and later.
const SCAN_MS: [u64; 2] = [20, 250];

impl Watcher {
    /// Finds connections that are new, and lets those go that have ended.
    pub(super) fn scan(&mut self, now: u64) {
        let is_early = now.saturating_sub(self.ordered_ms) < LATE_MS && self.orders.number > 0;
        let every = if is_early { SCAN_MS[0] } else { SCAN_MS[1] };
        if self.scanned_ms.is_some_and(|at| now.saturating_sub(at) < every) {
            return;
        }
        self.scanned_ms = Some(now);
        let mut present = BTreeSet::new();
        for port in &self.ports {
            let states = [diag::ESTABLISHED];
            let wanted =
                diag::Wanted { states: &states, local_port: Some(*port), remote_port: None };
            present.extend(diag::rows(wanted).into_iter().map(|row| row.inode));
        }
        present.remove(&0);
        self.known.retain(|inode, _| present.contains(inode));
        let watched: BTreeSet<u64> = self.watched.iter().map(|watched| watched.inode).collect();
        let is_new = |inode: &u64| !self.known.contains_key(inode) && !watched.contains(inode);
        let wanted: BTreeSet<u64> = present.into_iter().filter(is_new).collect();
        if wanted.is_empty() {
            return;
        }
        let parents = proc::parents();
        for index in 0..self.programs.len() {
            let Some(program) = self.programs.get(index) else { continue };
            let found = program.find(&parents, &wanted);
            let is_blocking = program.is_blocking;
            found.into_iter().for_each(|found| self.take_in(index, is_blocking, found));
        }
        // Others', and those that nobody has accepted yet, which have no inode.
        for inode in wanted {
            let is_ours = self.watched.iter().any(|watched| watched.inode == inode);
            if !is_ours {
                self.known.entry(inode).or_insert(None);
            }
        }
    }

    fn take_in(&mut self, program: usize, is_blocking: bool, found: Found) {
        let Found { inode, place, duplicate } = found;
        let fd = match duplicate {
            Ok(_) if is_blocking && !self.ends_quiet => {
                self.known.insert(inode, Some(Aside::Blocking));
                return;
            }
            Ok(fd) => fd,
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(0);
                // One that closed it meanwhile is no reason.
                if !matches!(errno, libc::EBADF | libc::ESRCH) {
                    self.tally.denied = errno.unsigned_abs();
                    self.known.insert(inode, Some(Aside::Denied));
                }
                return;
            }
        };
        // Whoever raised it is dead.
        if connection::mark(&fd).is_ok_and(|mark| mark == connection::MARK) {
            let _ = connection::lower(&fd);
        }
        self.watched.push(Watched {
            id: self.next_id,
            inode,
            program,
            place,
            since: self.orders.number,
            fd,
            connection: Connection::default(),
            is_marked: false,
            is_held: false,
            given_ns: 0,
            carried: None,
        });
        self.next_id += 1;
    }
}
