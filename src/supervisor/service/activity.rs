//! What a service is busy with: its operation, its set, work on its data, a start.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use tokio::sync::{Mutex, MutexGuard, Notify};
use tokio::task::JoinHandle;

use crate::core::ids::OpId;
use crate::core::ordered::Few;
use crate::keeper::protocol::ChildId;
use crate::supervisor::processes::child_tag::Purpose;
use crate::supervisor::service::operation::Operation;
use crate::supervisor::service::release_set::ReleaseSet;
use crate::supervisor::service::unresumed::Unresumed;

/// Past operations that late watchers can still follow from memory.
const N_PAST: usize = 8;

/// What a service is busy with.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    operation: RefCell<Option<Rc<Operation>>>,
    task: RefCell<Option<JoinHandle<()>>>,
    past: RefCell<VecDeque<Rc<Operation>>>,
    unresumed: RefCell<Option<Unresumed>>,
    set: RefCell<Option<Rc<ReleaseSet>>>,
    starting: Mutex<()>,
    scaling: Cell<bool>,
    data_work: Cell<Option<&'static str>>,
    left_over: RefCell<Few<Purpose, ChildId>>,
    began: Notify,
    is_held_back: Cell<bool>,
    let_begin: Notify,
}

impl Activity {
    /// The operation that runs.
    pub(crate) fn operation(&self) -> Option<Rc<Operation>> {
        self.operation.borrow().clone()
    }

    /// An operation begins, with the task that runs it.
    ///
    /// # Errors
    /// The one that runs already: there is never a second one.
    pub(crate) fn begin(
        &self,
        operation: Rc<Operation>,
        run: impl FnOnce() -> JoinHandle<()>,
    ) -> Result<(), Rc<Operation>> {
        if let Some(running) = self.operation() {
            return Err(running);
        }
        self.began.notify_waiters();
        self.operation.replace(Some(operation));
        let task = run();
        self.task.replace(Some(task));
        Ok(())
    }

    /// The operation is over; late watchers still find it.
    pub(crate) fn end(&self, operation: &Rc<Operation>) {
        self.operation.replace(None);
        let mut past = self.past.borrow_mut();
        past.push_front(Rc::clone(operation));
        past.truncate(N_PAST);
    }

    /// Takes the task of the running operation, to end it.
    pub(crate) fn take_task(&self) -> Option<JoinHandle<()>> {
        self.task.borrow_mut().take()
    }

    /// The running or a past operation of this number.
    pub(crate) fn operation_of(&self, op: OpId) -> Option<Rc<Operation>> {
        let running = self.operation().filter(|running| running.id == op);
        running.or_else(|| self.past.borrow().iter().find(|past| past.id == op).cloned())
    }

    /// An open operation that is not resumed.
    pub(crate) fn unresumed(&self) -> Option<Unresumed> {
        self.unresumed.borrow().clone()
    }

    /// An operation is left open, or none any more.
    pub(crate) fn leave_open(&self, unresumed: Option<Unresumed>) {
        self.unresumed.replace(unresumed);
    }

    /// Whether no operation runs, and none is open.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.operation.borrow().is_none() && self.unresumed.borrow().is_none()
    }

    /// The running set that the service is a member of.
    pub(crate) fn set(&self) -> Option<Rc<ReleaseSet>> {
        self.set.borrow().clone()
    }

    /// The service belongs to a running set from here on, or to none any more.
    pub(crate) fn join(&self, set: Option<Rc<ReleaseSet>>) {
        self.set.replace(set);
    }

    /// Held while an operation begins, the last good release is being started, the data is replaced
    /// or the service is taken down.
    pub(crate) async fn starting(&self) -> MutexGuard<'_, ()> {
        self.starting.lock().await
    }

    /// Begins to change the number of instances; `false` when that is under way already.
    pub(crate) fn begin_scaling(&self) -> bool {
        !self.scaling.replace(true)
    }

    /// The number of instances is as it should be, or cannot be changed.
    pub(crate) fn end_scaling(&self) {
        self.scaling.set(false);
    }

    /// What is being done with the data by hand.
    pub(crate) fn data_work(&self) -> Option<&'static str> {
        self.data_work.get()
    }

    /// Work on the data begins.
    pub(crate) fn begin_data_work(&self, work: &'static str) {
        self.data_work.set(Some(work));
        self.began.notify_waiters();
    }

    /// Work on the data is over.
    pub(crate) fn end_data_work(&self) {
        self.data_work.set(None);
    }

    /// A command that a supervisor before this one ran, and whose end is not yet collected.
    pub(crate) fn leave_over(&self, purpose: Purpose, child: ChildId) {
        self.left_over.borrow_mut().insert(purpose, child);
    }

    /// Takes over a command that a supervisor before this one ran for this purpose.
    pub(crate) fn take_left_over(&self, purpose: &Purpose) -> Option<ChildId> {
        self.left_over.borrow_mut().remove(purpose)
    }

    /// Commands of supervisors before this one that are still to be asked for.
    pub(crate) fn left_over(&self) -> Vec<ChildId> {
        self.left_over.borrow().values().copied().collect()
    }

    /// An operation that goes on waits for the start of services before its own.
    pub(crate) fn hold_back(&self) {
        self.is_held_back.set(true);
    }

    /// They have been started, or have had their time.
    pub(crate) fn let_begin(&self) {
        self.is_held_back.set(false);
        self.let_begin.notify_waiters();
    }

    /// Waits for those before it.
    pub(crate) async fn may_begin(&self) {
        while self.is_held_back.get() {
            self.let_begin.notified().await;
        }
    }

    /// Resolves when an operation or work on the data begins.
    pub(crate) async fn began(&self) {
        self.began.notified().await;
    }
}
