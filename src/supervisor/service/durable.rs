//! What a service keeps on disk about itself: its state, and whether a release is on trial.

use std::cell::{Ref, RefCell};
use std::io;

use crate::core::ids::ReleaseId;
use crate::store::layout::ServiceLayout;
use crate::store::state::{State, StateError};
use crate::store::trial;

/// The durable state of a service; in memory it is as it was last saved.
#[derive(Debug)]
pub(crate) struct Durable {
    paths: ServiceLayout,
    state: RefCell<State>,
}

impl Durable {
    /// The state on disk.
    ///
    /// # Errors
    /// When the state file cannot be read: it is never replaced by an empty one.
    pub(crate) fn load(paths: ServiceLayout) -> Result<Self, StateError> {
        let state = RefCell::new(State::load(&paths)?);
        Ok(Self { paths, state })
    }

    /// The state as last saved.
    pub(crate) fn state(&self) -> Ref<'_, State> {
        self.state.borrow()
    }

    /// Changes the state in memory and saves it in one durable step; on failure the memory is as
    /// the disk.
    ///
    /// # Errors
    /// When it cannot be saved.
    pub(crate) fn save(&self, change: impl FnOnce(&mut State)) -> Result<(), StateError> {
        let mut next = self.state.borrow().clone();
        change(&mut next);
        next.save(&self.paths)?;
        self.state.replace(next);
        Ok(())
    }

    /// Changes the state in memory and saves it if that can be done: what it says is done all the
    /// same, and the next save that succeeds writes it down.
    ///
    /// # Errors
    /// When it cannot be saved.
    pub(crate) fn change(&self, change: impl FnOnce(&mut State)) -> Result<(), StateError> {
        change(&mut self.state.borrow_mut());
        self.state.borrow().save(&self.paths)
    }

    /// Saves a commit, which counts also where it cannot be saved if that is allowed. Returns why it is not
    /// saved then.
    ///
    /// # Errors
    /// When it cannot be saved and does not count.
    pub(crate) fn commit(
        &self,
        change: &dyn Fn(&mut State),
        counts_unsaved: &dyn Fn() -> bool,
    ) -> Result<Option<StateError>, StateError> {
        let Err(error) = self.save(change) else { return Ok(None) };
        if !counts_unsaved() {
            return Err(error);
        }
        drop(self.change(change));
        Ok(Some(error))
    }

    /// The release that a reboot starts.
    pub(crate) fn last_good(&self) -> Option<ReleaseId> {
        self.state.borrow().last_good.as_ref().map(|served| ReleaseId(served.release))
    }

    /// The releases that the state names: one of them may serve, whatever was lost of it.
    pub(crate) fn named(&self) -> Vec<ReleaseId> {
        let state = self.state.borrow();
        let standby = state.standby.as_ref().map(|standby| ReleaseId(standby.release));
        self.last_good().into_iter().chain(standby).collect()
    }

    /// The release that is live but not committed.
    ///
    /// # Errors
    /// When that cannot be read.
    pub(crate) fn trial(&self) -> io::Result<Option<ReleaseId>> {
        Ok(trial::read(&self.paths)?.map(|trial| ReleaseId(trial.release)))
    }
}
