//! A set that runs: several releases as one operation, as others see it.
//!
//! A noun; what runs it is [`crate::supervisor::release_set`].

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tokio::task::JoinHandle;

use crate::api::{Event, Outcome, SetStatus};
use crate::core::ids::{ReleaseId, ServiceName, SetId};
use crate::core::time::Tick;
use crate::os::clock;
use crate::store::journal::Journal;
use crate::store::set::{Intent, Kind, Record, Step};
use crate::supervisor::service::event_log::EventLog;
use crate::supervisor::service::followable::Watched;
use crate::supervisor::service::operation::{Operation, Order};
use crate::text;

/// A set as others see it.
#[derive(Debug)]
pub(crate) struct ReleaseSet {
    /// Its number.
    pub id: SetId,
    /// The actor that requested it.
    pub actor: String,
    /// When, RFC 3339.
    pub at: String,
    /// When, in ticks.
    pub started: Tick,
    /// Its services in order, with what served before.
    pub members: Vec<(ServiceName, Option<ReleaseId>)>,
    /// The member it is at.
    pub place: Cell<Option<(usize, Kind)>>,
    /// The operation in flight.
    pub operation: RefCell<Option<Rc<Operation>>>,
    /// The operation in flight waits for promote or abort, and watchers have been notified.
    pub(crate) is_held: Cell<bool>,
    /// How it ended.
    pub outcome: RefCell<Option<Outcome>>,
    /// The task that runs it.
    pub task: RefCell<Option<JoinHandle<()>>>,
    /// What it writes down, while it runs.
    pub(crate) journal: RefCell<Option<Rc<RefCell<Journal>>>>,
    aborted_by: RefCell<Option<String>>,
    events: EventLog,
}

impl ReleaseSet {
    /// The set of this intent; its first event is published.
    pub(crate) fn new(intent: &Intent) -> Rc<Self> {
        let members = intent.members.iter().filter_map(|member| {
            let name = member.service.parse().ok()?;
            Some((name, member.before.map(ReleaseId)))
        });
        let set = Rc::new(Self {
            id: SetId(intent.set),
            actor: intent.actor.clone(),
            at: intent.at.clone(),
            started: clock::tick(),
            members: members.collect(),
            place: Cell::new(None),
            operation: RefCell::default(),
            is_held: Cell::default(),
            outcome: RefCell::default(),
            task: RefCell::default(),
            journal: RefCell::default(),
            aborted_by: RefCell::default(),
            events: EventLog::default(),
        });
        set.tell(announcement(intent));
        set
    }

    /// All names, for people and for the history.
    pub(crate) fn names(&self) -> String {
        let names: Vec<&str> = self.members.iter().map(|(name, _)| name.as_str()).collect();
        names.join(",")
    }

    /// Whether a service is one of its members.
    pub(crate) fn has(&self, name: &ServiceName) -> bool {
        self.members.iter().any(|(member, _)| member == name)
    }

    /// What served before: nothing prunes it while the set may go back to it.
    pub(crate) fn before(&self, name: &ServiceName) -> Option<ReleaseId> {
        self.members.iter().find(|(member, _)| member == name)?.1
    }

    /// No member is begun any more, and the one in flight goes back. A set on its way back goes on.
    pub(crate) fn abort(&self, actor: &str) {
        self.note_aborted(actor);
        self.pass_abort_on();
    }

    /// Who has ordered `abort` first, to this supervisor or to one before it.
    pub(crate) fn note_aborted(&self, actor: &str) {
        self.aborted_by.borrow_mut().get_or_insert_with(|| actor.to_owned());
    }

    /// The actor that ordered `abort`.
    pub(crate) fn aborted_by(&self) -> Option<String> {
        self.aborted_by.borrow().clone()
    }

    /// The release in flight hears of an abort that came before or while it runs. It is written down
    /// first: the next supervisor passes it on too.
    pub(crate) fn pass_abort_on(&self) {
        let Some((index, kind @ Kind::Release)) = self.place.get() else { return };
        let (running, aborted_by) = (self.operation.borrow().clone(), self.aborted_by());
        let (Some(running), Some(_)) = (running, &aborted_by) else { return };
        let line = Record::new(Step::Begin { index, kind, op: running.id.0, aborted_by });
        let journal = self.journal.borrow().clone();
        let written = journal.map_or(Ok(()), |journal| journal.borrow_mut().announce(&line));
        if let Err(error) = written {
            tracing::error!(set = self.id.0, %error, "recording an abort");
        }
        running.order(Order::Abort);
    }

    /// Publishes an event to all watchers.
    pub(crate) fn tell(&self, event: Event) {
        self.events.tell(event);
    }

    /// For `status`.
    pub(crate) fn status(&self) -> SetStatus {
        let place = self.place.get();
        let name = |index: usize| self.members.get(index).map(|(name, _)| name.to_string());
        SetStatus {
            set: self.id.0,
            members: self.members.iter().map(|(name, _)| name.to_string()).collect(),
            member: place.and_then(|(index, _)| name(index)),
            kind: place.map(|(_, kind)| kind.name().to_owned()),
            actor: self.actor.clone(),
            at: self.at.clone(),
        }
    }
}

impl Watched for ReleaseSet {
    fn events(&self) -> &EventLog {
        &self.events
    }

    fn phase(&self) -> (String, Tick) {
        let running = self.operation.borrow().clone();
        running.map_or_else(|| (String::new(), self.started), |running| Watched::phase(&*running))
    }

    fn is_held(&self) -> bool {
        self.is_held.get()
    }
}

/// The first thing that watchers hear.
pub(crate) fn announcement(intent: &Intent) -> Event {
    Event::Set {
        set: intent.set,
        members: intent.members.iter().map(|member| member.service.clone()).collect(),
        actor: intent.actor.clone(),
        at: intent.at.clone(),
    }
}

impl ReleaseSet {
    /// Which set runs: its services, its actor, since when.
    pub(crate) fn busy_text(&self) -> String {
        let length = text::whole_seconds(clock::tick().since_ms(self.started));
        let (id, names, actor, at) = (self.id, self.names(), &self.actor, &self.at);
        format!("set {id} ({names} by {actor}) has run since {at} ({length})")
    }
}
