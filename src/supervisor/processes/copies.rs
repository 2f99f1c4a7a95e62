//! Copies of all that the keeper has: what a supervisor needs to take the place of a keeper that has
//! died. Descriptors are duplicates, so that nothing closes in between.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use crate::core::ordered::Few;
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
        }
    }

    /// A list of everything begins.
    pub(super) fn begin(&self, setup: Setup, held: Vec<OwnedFd>) {
        self.setup.replace(Some((setup, held)));
        self.kept.borrow_mut().clear();
        self.heirs.borrow_mut().clear();
        self.filters.borrow_mut().clear();
    }

    /// It keeps a descriptor.
    pub(super) fn keep(&self, name: &str, fd: BorrowedFd<'_>) {
        match fd.try_clone_to_owned() {
            Ok(copy) => drop(self.kept.borrow_mut().insert(name.to_owned(), copy)),
            Err(error) => tracing::error!(name, %error, "no copy of what the keeper has"),
        }
    }

    /// It closes a descriptor.
    pub(super) fn forget(&self, name: &str) {
        self.kept.borrow_mut().remove(name);
    }

    /// It has a child.
    pub(super) fn heir(&self, heir: Heir) {
        self.end_spawn(heir.child);
        self.heirs.borrow_mut().insert(heir.child, heir);
    }

    /// It answers calls.
    pub(super) fn filter(&self, filter: Filter) {
        self.filters.borrow_mut().push(filter);
    }

    /// It is asked to start a child.
    pub(super) fn begin_spawn(&self, child: ChildId) {
        self.spawning.borrow_mut().insert(child);
    }

    /// It has answered for it.
    pub(super) fn end_spawn(&self, child: ChildId) {
        self.spawning.borrow_mut().remove(&child);
    }

    /// It forgets a child. A filter is held as long as a process runs under it.
    pub(super) fn ended(&self, child: ChildId) {
        self.heirs.borrow_mut().remove(&child);
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
            state: State { unborn, is_stopping: self.is_stopping.get(), told_ready: true },
        };
        Some(estate.keep_on(OsStr::new(in_place::OWN)))
    }
}
