//! A running operation: the machine of [`crate::core::operation::machine`], its journal, its watchers.
//!
//! The loop announces each phase, performs it, and hands the machine what came of it. What a phase
//! does is in [`crate::supervisor::operation::phases`], with its hooks in [`crate::supervisor::operation::hooks`]; this file knows none of them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::api::{Event, Outcome, PhaseState};
use crate::core::ids::{OpId, ReleaseId, ServiceName};
use crate::core::notice::Notice;
use crate::core::operation::machine::{Deploy, Event as Step, Kind};
use crate::core::operation::phase::Phase;
use crate::core::time::Tick;
use crate::os::clock;
use crate::store::journal::{Journal, Record};
use crate::supervisor::control::dispatch;
use crate::supervisor::notify::message::Message;
use crate::supervisor::operation::conclude;
use crate::supervisor::operation::context::{Job, Performed};
use crate::supervisor::operation::hooks;
use crate::supervisor::service::Service;
use crate::supervisor::service::notices;

/// An operation as others see it.
#[derive(Debug)]
pub struct Operation {
    /// Its number.
    pub id: OpId,
    /// What was asked for.
    pub kind: Kind,
    /// Who asked.
    pub actor: String,
    /// When, RFC 3339.
    pub at: RefCell<String>,
    /// When, in ticks.
    pub started: Tick,
    /// The release it is about.
    pub release: Cell<Option<ReleaseId>>,
    /// The phase it is in.
    pub phase: RefCell<String>,
    /// When that phase began.
    pub phase_started: Cell<Tick>,
    /// How it ended.
    pub outcome: RefCell<Option<Outcome>>,
    events: RefCell<Vec<Event>>,
    n_events: watch::Sender<usize>,
    orders: mpsc::UnboundedSender<Order>,
}

/// What somebody tells a running operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// End it and go back.
    Abort,
    /// End the bake or the hold well.
    Promote,
    /// Leave the field: another operation takes over a stranded one.
    Yield,
}

impl Operation {
    /// A new operation, and where its orders arrive.
    pub fn new(
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
            phase: RefCell::default(),
            phase_started: Cell::new(clock::tick()),
            outcome: RefCell::default(),
            events: RefCell::default(),
            n_events: watch::channel(0).0,
            orders,
        };
        (Rc::new(operation), inbox)
    }

    /// An operation that a supervisor before this one began, with what it had told.
    pub fn resumed(
        id: OpId,
        kind: Kind,
        actor: String,
        at: String,
        release: ReleaseId,
        records: &[Record],
    ) -> (Rc<Self>, mpsc::UnboundedReceiver<Order>) {
        let (operation, orders) = Self::new(id, kind, actor, Some(release));
        operation.at.replace(at);
        for event in records.iter().filter_map(Record::event) {
            operation.tell(event);
        }
        (operation, orders)
    }

    /// Tells the operation something; it may be over.
    pub fn order(&self, order: Order) {
        if self.orders.send(order).is_err() {
            tracing::debug!(op = self.id.0, ?order, "the operation is over");
        }
    }

    /// Tells all watchers.
    pub fn tell(&self, event: Event) {
        // Progress replaces progress: a late watcher needs the last number only.
        let mut events = self.events.borrow_mut();
        let is_progress = |event: &Event| matches!(event, Event::Progress { .. });
        if is_progress(&event) && events.last().is_some_and(is_progress) {
            events.pop();
        }
        events.push(event);
        drop(events);
        self.n_events.send_modify(|n| *n += 1);
    }

    /// Tells watchers what it is, before anything else.
    pub fn announce_to_watchers(&self, service: &ServiceName) {
        self.tell(self.announcement(service));
    }

    /// What it is.
    pub fn announcement(&self, service: &ServiceName) -> Event {
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
    pub async fn over(&self) {
        let mut events = self.watch();
        while !self.is_over() && events.changed().await.is_ok() {}
    }

    /// The events from this one on.
    pub fn events_from(&self, index: usize) -> Vec<Event> {
        self.events.borrow().iter().skip(index).cloned().collect()
    }

    /// Changes with each new event.
    pub fn watch(&self) -> watch::Receiver<usize> {
        self.n_events.subscribe()
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        self.outcome.borrow().is_some()
    }

    /// Whether it waits for better times after a rollback that failed.
    pub fn is_stranded(&self) -> bool {
        *self.phase.borrow() == Phase::Stranded.name()
    }
}

/// Runs an operation to its end.
pub async fn run(
    service: Rc<Service>,
    operation: Rc<Operation>,
    mut machine: Deploy,
    mut job: Job,
    mut journal: Journal,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    let mut n_tries = 0_u32;
    loop {
        let phase = machine.phase();
        if let Phase::Done(outcome) = phase {
            let ended = (machine.plan().kind, outcome);
            hooks::at_end(&service, &operation, &mut job, &mut journal, ended, &mut orders).await;
            conclude::finish(&service, &operation, &mut journal, &mut job, outcome).await;
            return;
        }
        pause_before_retry(n_tries).await;
        job.prepare(&service, phase);
        announce(&operation, &mut journal, &job, &machine).await;
        if matches!(phase, Phase::Hold | Phase::StepHold(_)) {
            tell_held(&service, &operation);
        }
        let begun = clock::tick();
        let step = tokio::select! {
            biased;
            performed = hooks::perform(&service, &operation, &mut job, &machine, &mut journal) => {
                close(&operation, &mut journal, &performed, phase, begun);
                performed.step
            }
            step = interrupted(&machine, &mut orders) => match step {
                Some(step) => {
                    if step == Step::Abort {
                        job.why = format!("aborted in phase {}", phase.name());
                        let detail = "aborted".to_owned();
                        tell_phase(&operation, phase, PhaseState::Fail, begun, detail);
                    }
                    step
                }
                None => return conclude::give_way(&service, &operation, &mut journal),
            },
        };
        let next = machine.step(step);
        n_tries = if next == Some(phase) { n_tries + 1 } else { 0 };
    }
}

/// Both are alive, and somebody must say which.
fn tell_held(service: &Service, operation: &Operation) {
    let trouble = dispatch::holding(service, operation).trouble;
    if let Some(trouble) = trouble {
        let message = Message::of_operation(service, operation, &trouble);
        notices::tell(service, Notice::Held, message);
    }
}

/// Waits for an order that moves the machine; the others are dropped. `None` is to give way.
async fn interrupted(
    machine: &Deploy,
    orders: &mut mpsc::UnboundedReceiver<Order>,
) -> Option<Step> {
    loop {
        let step = match orders.recv().await {
            Some(Order::Abort) => Step::Abort,
            Some(Order::Promote) => Step::Promote,
            Some(Order::Yield) if machine.phase() == Phase::Stranded => return None,
            Some(Order::Yield) => continue,
            None => std::future::pending().await,
        };
        let mut trial = *machine;
        if trial.step(step).is_some() {
            return Some(step);
        }
    }
}

async fn pause_before_retry(n_tries: u32) {
    if n_tries > 0 {
        let ms = 100_u64.saturating_mul(1 << n_tries.min(8));
        tokio::time::sleep(Duration::from_millis(ms.min(10_000))).await;
    }
}

/// Writes the phase down before it is performed. Probing leaves nothing behind, so those phases
/// are noted without waiting for the disk; every other one waits. A journal that cannot be written
/// does not stop a way back: it is said, and the way is gone.
async fn announce(operation: &Operation, journal: &mut Journal, job: &Job, machine: &Deploy) {
    let phase = machine.phase();
    operation.phase.replace(phase.name());
    operation.phase_started.set(clock::tick());
    let record = Record::start(&phase.name(), machine.cause().name(), job.notes(phase));
    let probing = matches!(phase, Phase::BackGate(_) | Phase::BackVerify(_));
    let written = if probing { journal.note(&record) } else { journal.announce(&record) };
    if let Err(error) = written {
        tracing::error!(op = operation.id.0, %error, "the journal cannot be written");
        operation.tell(Event::Phase {
            phase: phase.name(),
            state: PhaseState::Start,
            ms: 0,
            detail: format!("the journal cannot be written: {error}"),
        });
        return;
    }
    operation.tell(Event::Phase {
        phase: phase.name(),
        state: PhaseState::Start,
        ms: 0,
        detail: String::new(),
    });
}

fn close(
    operation: &Operation,
    journal: &mut Journal,
    performed: &Performed,
    phase: Phase,
    begun: Tick,
) {
    let state = match performed.step {
        Step::Ok if performed.skipped() => PhaseState::Skip,
        // A dry run is called off by its own preflight.
        Step::Ok | Step::Promote | Step::Abort => PhaseState::Ok,
        _ => PhaseState::Fail,
    };
    let ms = clock::tick().since_ms(begun);
    let record = Record::end(&phase.name(), state, ms, performed.detail.clone());
    if let Err(error) = journal.note(&record) {
        tracing::warn!(op = operation.id.0, %error, "noting the end of a phase");
    }
    tell_phase(operation, phase, state, begun, performed.detail.clone());
}

fn tell_phase(operation: &Operation, phase: Phase, state: PhaseState, begun: Tick, detail: String) {
    let ms = clock::tick().since_ms(begun);
    operation.tell(Event::Phase { phase: phase.name(), state, ms, detail });
}
