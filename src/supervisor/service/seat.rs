//! Where a process of an instance is: nobody there, one that is being started, one that runs.
//!
//! A start takes its time, and much may happen meanwhile. One that is being started is not gone,
//! and its place is not free: nobody else starts there, and nobody lets go of what it is about to
//! have.

use std::cell::RefCell;
use std::mem;

use crate::core::time::Tick;
use crate::keeper::protocol::{ChildId, Identity};

/// The place of one process, over its restarts.
#[derive(Debug, Default)]
pub(crate) struct Seat {
    state: RefCell<State>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Empty,
    Starting(ChildId),
    Running(Run),
}

/// A running process.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    /// Its number at the keeper.
    pub child: ChildId,
    /// The identity of the process.
    pub identity: Identity,
    /// When it was started.
    pub started: Tick,
}

impl Seat {
    /// Whether nobody is there: neither one that runs nor one that is being started.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(*self.state.borrow(), State::Empty)
    }

    /// Whether a process runs there.
    pub(crate) fn is_running(&self) -> bool {
        matches!(*self.state.borrow(), State::Running(_))
    }

    /// The process that runs there.
    pub(crate) fn run(&self) -> Option<Run> {
        match &*self.state.borrow() {
            State::Running(run) => Some(run.clone()),
            State::Empty | State::Starting(_) => None,
        }
    }

    /// The child that has the place, whether it runs already or not.
    pub(crate) fn owner(&self) -> Option<ChildId> {
        match &*self.state.borrow() {
            State::Empty => None,
            State::Starting(child) => Some(*child),
            State::Running(run) => Some(run.child),
        }
    }

    /// A child is about to be started there. `false` when the place is not free.
    pub(crate) fn claim(&self, child: ChildId) -> bool {
        let is_free = self.is_empty();
        if is_free {
            self.state.replace(State::Starting(child));
        }
        is_free
    }

    /// The process runs: one that was started there, or was found.
    pub(crate) fn fill(&self, run: Run) {
        self.state.replace(State::Running(run));
    }

    /// The start of this child has come to nothing. Returns whether the place was its own.
    pub(crate) fn give_up(&self, child: ChildId) -> bool {
        let is_its_own = matches!(*self.state.borrow(), State::Starting(own) if own == child);
        if is_its_own {
            self.state.take();
        }
        is_its_own
    }

    /// This child has ended. Nothing when another one has the place.
    pub(crate) fn take(&self, child: ChildId) -> Option<Run> {
        let mut state = self.state.borrow_mut();
        match mem::take(&mut *state) {
            State::Running(run) if run.child == child => Some(run),
            other => {
                *state = other;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: ChildId = ChildId(1);
    const SECOND: ChildId = ChildId(2);

    fn run(child: ChildId) -> Run {
        Run {
            child,
            identity: Identity { pid: 7, start_ticks: 1, boot_id: String::new() },
            started: Tick(0),
        }
    }

    #[test]
    fn only_one_is_started_in_a_place() {
        let seat = Seat::default();
        assert!(seat.claim(FIRST));
        assert!(!seat.claim(SECOND));
        assert!(!seat.is_empty() && !seat.is_running());
        assert_eq!(seat.owner(), Some(FIRST));
        seat.fill(run(FIRST));
        assert!(!seat.claim(SECOND));
        assert!(seat.is_running());
    }

    #[test]
    fn nobody_empties_the_place_of_another() {
        let seat = Seat::default();
        assert!(seat.claim(FIRST));
        assert!(!seat.give_up(SECOND));
        assert!(seat.take(FIRST).is_none());
        seat.fill(run(FIRST));
        assert!(seat.take(SECOND).is_none());
        assert!(!seat.give_up(FIRST));
        assert_eq!(seat.take(FIRST).map(|run| run.child), Some(FIRST));
        assert!(seat.is_empty());
    }
}
