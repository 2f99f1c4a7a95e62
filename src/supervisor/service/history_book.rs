//! The history as a supervisor writes it: a line that a disk does not take is kept, and written once it does.
//! What a supervisor did not come to write, the next one finds in the journals.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use crate::api::HistoryEntry;
use crate::core::backoff::Pauses;
use crate::core::ids::{OpId, ServiceName};
use crate::store::layout::{Layout, ServiceLayout};
use crate::store::{history, salvage};
use crate::supervisor::spawn;

/// Between tries to write what waits.
const RETRIES: Pauses = Pauses::doubling(200, 30_000);
/// Lines that wait; older ones are dropped.
const N_WAITING_MAX: usize = 1000;
/// Lines of a service that are looked through for an operation.
const N_LOOKED_AT: usize = 50;
/// What an operation is called in the history.
const KINDS: [&str; 3] = ["release", "rollback", "restart"];

/// The history.
#[derive(Debug)]
pub(crate) struct HistoryBook {
    path: PathBuf,
    waiting: RefCell<VecDeque<HistoryEntry>>,
    is_tried_again: Cell<bool>,
}

impl HistoryBook {
    /// The one in this file.
    pub(crate) fn new(path: PathBuf) -> Rc<Self> {
        Rc::new(Self { path, waiting: RefCell::default(), is_tried_again: Cell::default() })
    }

    /// Writes a line, now or once that can be done.
    pub(crate) fn add(self: &Rc<Self>, entry: HistoryEntry) {
        self.waiting.borrow_mut().push_back(entry);
        let Err(error) = self.write() else { return };
        if self.is_tried_again.replace(true) {
            return;
        }
        tracing::warn!(path = %self.path.display(), %error, "the history waits for its disk");
        let book = Rc::clone(self);
        spawn::local(async move {
            let mut pauses = RETRIES.begin();
            while book.write().is_err() {
                tokio::time::sleep(pauses.pause()).await;
            }
            book.is_tried_again.set(false);
        });
    }

    /// Past operations, the newest first, with those that are not written yet.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn read(
        &self,
        service: Option<&str>,
        limit: usize,
    ) -> io::Result<Vec<HistoryEntry>> {
        let waiting = self.waiting.borrow();
        let names = |entry: &&HistoryEntry| {
            service.is_none_or(|name| entry.service.split(',').any(|own| own == name))
        };
        let mut entries: Vec<_> = waiting.iter().rev().filter(names).cloned().collect();
        entries.truncate(limit);
        entries.extend(history::read(&self.path, service, limit - entries.len())?);
        Ok(entries)
    }

    /// Adds what a service's newest operation has ended with, if that is not in it: a supervisor before
    /// this one wrote the result into the journal and came no further.
    pub(crate) fn catch_up(self: &Rc<Self>, layout: &Layout, name: &ServiceName) {
        let paths = layout.service(name);
        let Some(newest) = ServiceLayout::numbers(&paths.ops()).pop() else { return };
        let left = salvage::read(&paths, OpId(newest));
        let last = left.records.iter().rfind(|record| record.outcome.is_some());
        let (Some(intent), Some(record)) = (&left.intent, last) else { return };
        let Some(outcome) = &record.outcome else { return };
        let is_there = |entry: &HistoryEntry| {
            entry.op == newest
                && KINDS.contains(&entry.kind.as_str())
                && entry.service == outcome.service
        };
        let known = self.read(Some(name.as_str()), N_LOOKED_AT);
        if KINDS.contains(&intent.kind.as_str()) && known.is_ok_and(|all| !all.iter().any(is_there))
        {
            let at = record.at.clone();
            self.add(HistoryEntry::of(outcome, &intent.kind, &intent.actor, at, record.ms));
        }
    }

    fn write(&self) -> io::Result<()> {
        let mut waiting = self.waiting.borrow_mut();
        let n_dropped = waiting.len().saturating_sub(N_WAITING_MAX);
        waiting.drain(..n_dropped);
        while let Some(entry) = waiting.front() {
            history::append(&self.path, entry)?;
            waiting.pop_front();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::api::Outcome;
    use crate::core::operation::outcome::Word;
    use crate::store::journal::{Journal, Record};

    fn entry(op: u64) -> HistoryEntry {
        let outcome = Outcome::new(Word::Restarted.into(), "web", op);
        HistoryEntry::of(&outcome, "restart", "ann", "x".to_owned(), 1)
    }

    fn ops(book: &HistoryBook) -> Vec<u64> {
        book.read(None, 10).unwrap().iter().map(|entry| entry.op).collect()
    }

    fn run<F: Future<Output = ()>>(test: F) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, test);
    }

    #[test]
    fn a_line_that_a_disk_does_not_take_is_shown_and_written_later_in_its_place() {
        run(async {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("root/history.ndjson");
            let book = HistoryBook::new(path.clone());
            book.add(entry(1));
            book.add(entry(2));
            assert_eq!(ops(&book), [2, 1]);
            fs::create_dir(dir.path().join("root")).unwrap();
            while !path.exists() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            book.add(entry(3));
            assert_eq!(ops(&book), [3, 2, 1]);
            assert_eq!(history::read(&path, None, 10).unwrap().len(), 3);
        });
    }

    #[test]
    fn what_stands_in_the_journal_alone_is_added_once() {
        run(async {
            let dir = tempfile::tempdir().unwrap();
            let layout = Layout::new(dir.path());
            let name: ServiceName = "web".parse().unwrap();
            let paths = layout.service(&name);
            paths.create().unwrap();
            let intent = serde_json::json!({
                "version": 1, "op": 7, "kind": "rollback", "actor": "ann", "source": "", "at": "x",
                "boot_id": "", "release": 4, "generation": 2, "old": 1, "warm": null, "ladder": [],
                "inconclusive": "hold", "succession": "overlap",
            });
            let intent = serde_json::from_value(intent).unwrap();
            let mut journal = Journal::create(&paths, &intent).unwrap();
            let book = HistoryBook::new(layout.history());
            book.catch_up(&layout, &name);
            assert_eq!(ops(&book), [0_u64; 0], "it is open");
            let outcome = Outcome::new(Word::Committed.into(), "web", 7);
            journal.announce(&Record::result(outcome)).unwrap();
            book.catch_up(&layout, &name);
            book.catch_up(&layout, &name);
            assert_eq!(ops(&book), [7]);
            assert_eq!(book.read(None, 1).unwrap()[0].actor, "ann");
        });
    }
}
