//! One operation as others see it: its number, its phase, its events, its outcome.
//!
//! A noun; what runs it is [`crate::supervisor::operation::runner`].

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tokio::sync::{Notify, mpsc, oneshot};

use crate::api::{Event, Outcome, PhaseState};
use crate::core::ids::{OpId, ReleaseId, ServiceName};
use crate::core::operation::machine::Kind;
use crate::core::operation::phase::Phase;
use crate::core::time::Tick;
use crate::os::clock;
use crate::store::journal::Record;
use crate::supervisor::service::event_log::EventLog;
use crate::supervisor::service::followable::Watched;

/// An operation as others see it.
#[derive(Debug)]
pub(crate) struct Operation {
    /// Its number.
    pub id: OpId,
    /// What was asked for.
    pub kind: Kind,
    /// The actor that requested it.
    pub actor: String,
    /// When, RFC 3339.
    pub at: RefCell<String>,
    /// When, in ticks.
    pub started: Tick,
    /// The release it is about.
    pub release: Cell<Option<ReleaseId>>,
    /// What it is at; nothing before its first phase.
    pub(crate) phase: Cell<Option<Phase>>,
    /// When that phase began.
    pub phase_started: Cell<Tick>,
    /// How it ended.
    pub outcome: RefCell<Option<Outcome>>,
    /// The events it has published.
    pub events: EventLog,
    /// Why no rung of its way back held, once that has happened.
    stranded: RefCell<Option<String>>,
    /// Somebody wants something else: a commit that the disk does not take counts all the same.
    is_unwaited: Cell<bool>,
    hurry: Notify,
    orders: mpsc::UnboundedSender<Order>,
}

/// A command to a running operation.
#[derive(Debug)]
pub(crate) enum Order {
    /// End it and go back.
    Abort,
    /// Promote: end the watch of this phase as a success. Another one is not ended, and then the
    /// sender is dropped unused.
    Promote(Phase, oneshot::Sender<()>),
    /// Leave the field: another operation takes over a stranded one.
    Yield,
}

impl Operation {
    /// A new operation, and where its orders arrive.
    pub(crate) fn new(
        id: OpId,
        kind: Kind,
        actor: String,
        release: Option<ReleaseId>,
    ) -> (Rc<Self>, mpsc::UnboundedReceiver<Order>) {
        let (orders, inbox) = mpsc::unbounded_channel();
        let operation = Self {
            id,
            kind,
            actor,
            at: RefCell::new(clock::now_rfc3339()),
            started: clock::tick(),
            release: Cell::new(release),
            phase: Cell::default(),
            phase_started: Cell::new(clock::tick()),
            outcome: RefCell::default(),
            events: EventLog::default(),
            stranded: RefCell::default(),
            is_unwaited: Cell::default(),
            hurry: Notify::new(),
            orders,
        };
        (Rc::new(operation), inbox)
    }

    /// An operation that a supervisor before this one began, with the events it had published.
    pub(crate) fn resumed(
        id: OpId,
        kind: Kind,
        actor: String,
        at: String,
        release: ReleaseId,
        records: &[Record],
    ) -> (Rc<Self>, mpsc::UnboundedReceiver<Order>) {
        let (operation, orders) = Self::new(id, kind, actor, Some(release));
        operation.at.replace(at);
        for record in records {
            let is_stranded = Phase::parse(&record.phase) == Some(Phase::Stranded);
            if is_stranded && record.state() == Some(PhaseState::Fail) {
                operation.strand(record.detail.clone());
            }
            if let Some(event) = record.event() {
                operation.tell(event);
            }
        }
        (operation, orders)
    }

    /// Sends a command to the operation, which may be over.
    pub(crate) fn order(&self, order: Order) {
        if let Err(late) = self.orders.send(order) {
            tracing::debug!(op = self.id.0, order = ?late.0, "the operation is over");
        }
    }

    /// Lets no commit wait for the disk any more: it counts, and the next record writes it down.
    pub(crate) fn wait_no_more(&self) {
        self.is_unwaited.set(true);
        self.hurry.notify_one();
    }

    /// Whether a commit counts that the disk does not take.
    pub(crate) fn is_unwaited(&self) -> bool {
        self.is_unwaited.get()
    }

    /// Resolves when nobody wants to wait any more.
    pub(crate) async fn hurried(&self) {
        self.hurry.notified().await;
    }

    /// Ends one whose rollback has failed, as soon as it tries nothing; it may succeed before.
    pub(crate) async fn gives_way(&self) {
        let mut events = self.events.watch();
        while !self.is_over() && !self.is_stranded() && events.changed().await.is_ok() {}
        self.order(Order::Yield);
        self.over().await;
    }

    /// Resolves when no commit waits for the disk any more.
    pub(crate) async fn committed(&self) {
        let mut events = self.events.watch();
        let is_at_it = || !self.is_over() && self.phase.get().is_some_and(Phase::is_commit);
        while is_at_it() && events.changed().await.is_ok() {}
    }

    /// Ends the watch of this phase as a success. Returns whether that was what ended it.
    pub(crate) async fn promote(&self, seen: Phase) -> bool {
        let (taken, answer) = oneshot::channel();
        self.order(Order::Promote(seen, taken));
        answer.await.is_ok()
    }

    /// Publishes an event to all watchers.
    pub(crate) fn tell(&self, event: Event) {
        self.events.tell(event);
    }

    /// Announces the operation to watchers, before any other event.
    pub(crate) fn announce_to_watchers(&self, service: &ServiceName) {
        self.tell(self.announcement(service));
    }

    /// What it is.
    pub(crate) fn announcement(&self, service: &ServiceName) -> Event {
        Event::Operation {
            service: service.to_string(),
            op: self.id.0,
            kind: self.kind.name().to_owned(),
            release: self.release.get().map(|release| release.0),
            actor: self.actor.clone(),
            at: self.at.borrow().clone(),
        }
    }

    /// Resolves when it is over.
    pub(crate) async fn over(&self) {
        let mut events = self.events.watch();
        while !self.is_over() && events.changed().await.is_ok() {}
    }

    /// Whether it is over.
    pub(crate) fn is_over(&self) -> bool {
        self.outcome.borrow().is_some()
    }

    /// Whether it waits for better times after a rollback that failed.
    pub(crate) fn is_stranded(&self) -> bool {
        self.phase.get() == Some(Phase::Stranded)
    }

    /// Whether its rollback has failed, at once or before it was tried again.
    pub(crate) fn has_stranded(&self) -> bool {
        self.is_stranded() || self.stranded.borrow().is_some()
    }

    /// Whether it waits for promote or abort.
    pub(crate) fn is_held(&self) -> bool {
        matches!(self.phase.get(), Some(Phase::Hold | Phase::StepHold(_)))
    }

    /// No rung of its way back held, for this reason; it tries on by itself.
    pub(crate) fn strand(&self, why: String) {
        self.stranded.replace(Some(why));
    }

    /// Why no rung of its way back held, once that has happened.
    pub(crate) fn why_stranded(&self) -> Option<String> {
        self.stranded.borrow().clone()
    }

    /// The name of what it is at.
    pub(crate) fn phase_name(&self) -> String {
        self.phase.get().map_or_else(String::new, Phase::name)
    }
}

impl Watched for Operation {
    fn events(&self) -> &EventLog {
        &self.events
    }

    fn phase(&self) -> (String, Tick) {
        (self.phase_name(), self.phase_started.get())
    }

    fn is_held(&self) -> bool {
        Self::is_held(self)
    }
}
