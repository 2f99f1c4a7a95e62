//! Copies of all that the keeper has: what a supervisor needs to take the place of a keeper that has
//! died. Descriptors are duplicates, so that nothing closes in between.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::core::ordered::Few;
use crate::keeper::estate::record::Record;
use crate::keeper::estate::{Estate, Filter, State};
use crate::keeper::protocol::{ChildId, Heir, Setup, token};
use crate::os::in_place;
use crate::os::intercept::{self, Waiting};

/// What the keeper has, as far as it has told.
#[derive(Debug)]
pub(super) struct Copies {
    keeper: i32,
    /// How it was set up, and what it holds for life; nothing when it is of an earlier version.
    setup: RefCell<Option<(Setup, Vec<OwnedFd>)>>,
    kept: RefCell<Few<String, OwnedFd>>,
    heirs: RefCell<Few<ChildId, Heir>>,
    filters: RefCell<Vec<Filter>>,
    /// Children that it was asked to start, and that it has not answered for.
    spawning: RefCell<BTreeSet<ChildId>>,
    is_stopping: Cell<bool>,
    /// Where all of it is written down, for when this process is killed too.
    record: RefCell<Option<Record>>,
    record_path: RefCell<Option<PathBuf>>,
}

impl Copies {
    /// None yet of what the keeper with this process id has.
    pub(super) fn of(keeper: i32) -> Self {
        Self {
            keeper,
            setup: RefCell::default(),
            kept: RefCell::default(),
            heirs: RefCell::default(),
            filters: RefCell::default(),
            spawning: RefCell::default(),
            is_stopping: Cell::new(false),
            record: RefCell::default(),
            record_path: RefCell::default(),
        }
    }

    /// A list of everything begins.
    pub(super) fn begin(&self, setup: Setup, held: Vec<OwnedFd>) {
        self.setup.replace(Some((setup, held)));
        self.kept.borrow_mut().clear();
        self.heirs.borrow_mut().clear();
        self.filters.borrow_mut().clear();
    }

    /// Writes down from now on what there is, and what changes.
    pub(super) fn record(&self, path: &Path) {
        self.record_path.replace(Some(path.to_owned()));
        self.write_down(path);
    }

    /// All of it. When the disk does not take it, the next change tries again.
    fn write_down(&self, path: &Path) {
        let (kept, heirs) = (self.kept.borrow(), self.heirs.borrow());
        let kept = kept.iter().map(|(name, fd)| (name.as_str(), fd.as_fd()));
        match Record::begin(path, kept, heirs.values(), &self.filters.borrow()) {
            Ok(mut record) => {
                for child in &*self.spawning.borrow() {
                    record.starts(*child, token(self.keeper, *child));
                }
                self.record.replace(Some(record));
            }
            Err(error) => {
                tracing::warn!(%error, "writing down what the keeper has");
                self.record.replace(None);
            }
        }
    }

    fn note(&self, note: impl FnOnce(&mut Record)) {
        let Some(path) = self.record_path.borrow().clone() else { return };
        if self.record.borrow().as_ref().is_none_or(Record::is_due) {
            self.write_down(&path);
        }
        if let Some(record) = self.record.borrow_mut().as_mut() {
            note(record);
        }
    }

    /// It keeps a descriptor.
    pub(super) fn keep(&self, name: &str, fd: BorrowedFd<'_>) {
        match fd.try_clone_to_owned() {
            Ok(copy) => {
                self.kept.borrow_mut().insert(name.to_owned(), copy);
                self.note(|record| record.kept(name, fd));
            }
            Err(error) => tracing::error!(name, %error, "no copy of what the keeper has"),
        }
    }

    /// It closes a descriptor.
    pub(super) fn forget(&self, name: &str) {
        if self.kept.borrow_mut().remove(name).is_some() {
            self.note(|record| record.dropped(name));
        }
    }

    /// It has a child.
    pub(super) fn heir(&self, heir: Heir) {
        self.spawning.borrow_mut().remove(&heir.child);
        self.note(|record| record.heir(&heir));
        self.heirs.borrow_mut().insert(heir.child, heir);
    }

    /// It answers calls.
    pub(super) fn filter(&self, filter: Filter) {
        self.note(|record| record.filter(&filter));
        self.filters.borrow_mut().push(filter);
    }

    /// It is asked to start a child.
    pub(super) fn begin_spawn(&self, child: ChildId) {
        self.spawning.borrow_mut().insert(child);
        self.note(|record| record.starts(child, token(self.keeper, child)));
    }

    /// It has answered for it.
    pub(super) fn end_spawn(&self, child: ChildId) {
        // A child that did not start.
        if self.spawning.borrow_mut().remove(&child) {
            self.note(|record| record.gone(child));
        }
    }

    /// It forgets a child. A filter is held as long as a process runs under it.
    pub(super) fn ended(&self, child: ChildId) {
        self.heirs.borrow_mut().remove(&child);
        self.note(|record| record.gone(child));
        let is_used =
            |filter: &Filter| !matches!(intercept::waiting(&filter.fd), Ok(Waiting::Nobody));
        self.filters.borrow_mut().retain(is_used);
    }

    /// It was asked to stop.
    pub(super) fn stop(&self) {
        self.is_stopping.set(true);
    }

    /// Whether they are all that the next keeper needs.
    pub(super) fn are_whole(&self) -> bool {
        self.setup.borrow().is_some()
    }

    /// The text of it, as a keeper leaves it to the next one; and the setup.
    pub(super) fn described(&self) -> io::Result<Vec<u8>> {
        let setup = self.setup.borrow();
        let (setup, held) = setup.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        let copy = |(name, fd): (&String, &OwnedFd)| Ok((name.clone(), fd.try_clone()?));
        let filter = |filter: &Filter| {
            let (child, watched) = (filter.child, filter.watched.clone());
            Ok(Filter { child, fd: filter.fd.try_clone()?, watched })
        };
        let estate = Estate {
            setup: setup.clone(),
            held: held.iter().map(OwnedFd::try_clone).collect::<io::Result<_>>()?,
            kept: self.kept.borrow().iter().map(copy).collect::<io::Result<_>>()?,
            children: self.heirs.borrow().values().cloned().collect(),
            filters: self.filters.borrow().iter().map(filter).collect::<io::Result<_>>()?,
            state: State::default(),
            trial: None,
        };
        estate.described()
    }

    /// How the keeper was set up.
    pub(super) fn setup(&self) -> Option<Setup> {
        Some(self.setup.borrow().as_ref()?.0.clone())
    }

    /// Becomes the keeper that goes on with it. Returns when that failed, or there is nothing to go on
    /// with.
    pub(super) fn keep_on(&self) -> Option<io::Error> {
        let (setup, held) = self.setup.take()?;
        tracing::warn!("the keeper is gone; this process takes its place");
        let token = |child: &ChildId| token(self.keeper, *child);
        let unborn = self.spawning.borrow().iter().map(token).collect();
        let estate = Estate {
            setup,
            held,
            kept: self.kept.take().drain().collect(),
            children: self.heirs.take().drain().map(|(_, heir)| heir).collect(),
            filters: self.filters.take(),
            state: State {
                unborn,
                is_stopping: self.is_stopping.get(),
                told_ready: true,
                stands_in: true,
            },
            trial: None,
        };
        Some(estate.keep_on(OsStr::new(in_place::OWN)))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;
    use crate::keeper::estate::record::Known;

    #[test]
    fn what_a_disk_did_not_take_is_written_with_the_next_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("later/running.ndjson");
        let copies = Copies::of(1);
        let file = File::open("/dev/null").unwrap();
        copies.keep("one", file.as_fd());
        copies.begin_spawn(ChildId(7));
        copies.record(&path);
        copies.keep("two", file.as_fd());
        assert!(Known::read(&path).is_none());
        fs::create_dir(dir.path().join("later")).unwrap();
        copies.keep("three", file.as_fd());
        let known = Known::read(&path).unwrap();
        let names: Vec<_> = known.kept.keys().map(String::as_str).collect();
        assert_eq!(names, ["one", "three", "two"]);
        assert_eq!(known.unborn.len(), 1);
    }
}
