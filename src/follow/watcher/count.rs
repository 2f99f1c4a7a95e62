//! What has become of connections, written where the supervisor reads it.

use super::{Aside, Watcher};
use crate::follow::watched::Watched;
use crate::os::tally::Tally;

impl Watcher {
    pub(super) fn count(&mut self) {
        let n = |is_meant: &dyn Fn(Aside) -> bool| {
            let n = self.known.values().flatten().filter(|aside| is_meant(**aside)).count();
            u32::try_from(n).unwrap_or(u32::MAX)
        };
        let is_blocking = |watched: &&Watched| {
            self.programs.get(watched.program).is_some_and(|program| program.is_blocking)
        };
        let n_blocking = self.watched.iter().filter(is_blocking).count();
        let n_waiting = self.watched.len() - n_blocking;
        let tally = Tally {
            n_waiting: u32::try_from(n_waiting).unwrap_or(u32::MAX),
            n_blocking: n(&|aside| aside == Aside::Blocking)
                + u32::try_from(n_blocking).unwrap_or(u32::MAX),
            n_foreign: n(&|aside| aside == Aside::Foreign),
            n_denied: n(&|aside| aside == Aside::Denied),
            ..self.tally
        };
        if tally != self.tally {
            self.tally = tally;
            self.board.put(&tally);
        }
    }
}
