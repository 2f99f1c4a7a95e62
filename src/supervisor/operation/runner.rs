//! A running operation: the machine of [`crate::core::operation::machine`], its journal, its watchers.
//!
//! The loop announces each phase, performs it, and hands the machine what came of it. What a phase
//! does is in [`phases`](super::phases), with its hooks in [`hooks`](super::hooks); the [`Job`] hands
//! each of them the values that it needs, and this file knows none of them.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::mpsc;

use crate::api::{Event, PhaseState};
use crate::core::backoff::{Backoff, Pauses};
use crate::core::notice::Notice;
use crate::core::operation::machine::{Cause, Event as Step, Machine};
use crate::core::operation::phase::Phase;
use crate::core::operation::point::Point;
use crate::core::time::Tick;
use crate::os::clock;
use crate::store::journal::{Journal, Record};
use crate::supervisor::operation::conclude;
use crate::supervisor::operation::job::Job;
use crate::supervisor::service::Service;
use crate::supervisor::service::condition::Source;
use crate::supervisor::service::notices;
use crate::supervisor::service::operation::{Operation, Order};
use crate::supervisor::service::outcome;
use crate::supervisor::service::phase_result::PhaseResult;
use crate::supervisor::spawn;
use crate::text;

/// Before a phase is tried again.
const RETRIES: Pauses = Pauses::doubling(200, 10_000);

/// Sets an operation running.
///
/// # Errors
/// The one that runs already.
pub(crate) fn begin(
    service: &Rc<Service>,
    operation: Rc<Operation>,
    machine: Machine,
    job: Job,
    journal: Journal,
    orders: mpsc::UnboundedReceiver<Order>,
) -> Result<(), Rc<Operation>> {
    operation.announce_to_watchers(&service.name);
    let (own, running) = (Rc::clone(service), Rc::clone(&operation));
    service
        .activity
        .begin(running, || spawn::local(run(own, operation, machine, job, journal, orders)))
}

/// Runs an operation to its end.
async fn run(
    service: Rc<Service>,
    operation: Rc<Operation>,
    mut machine: Machine,
    mut job: Job,
    mut journal: Journal,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    let mut retries = RETRIES.begin();
    let is_called_off = Cell::new(false);
    let keep_abort = |phase| {
        is_called_off.set(true);
        keep_abort(&service, &operation, phase);
    };
    service.activity.may_begin().await;
    loop {
        let phase = machine.phase();
        if let Phase::Done(outcome) = phase {
            return job.conclude(&service, &operation, &mut journal, outcome).await;
        }
        job.prepare(&service, phase);
        // Hooks announce themselves, where there are any.
        let is_hook = matches!(phase, Phase::Hook(_));
        if !is_hook {
            announce(&operation, &mut journal, job.number(phase), &machine);
        }
        if matches!(phase, Phase::Hold | Phase::StepHold(_)) {
            tell_held(&service, &operation);
        }
        let begun = clock::tick();
        let mut why = String::new();
        let step = tokio::select! {
            biased;
            performed = job.perform(&service, &operation, &machine, &mut journal) => {
                job.note(&performed);
                if !is_hook {
                    close(&operation, &mut journal, &performed, phase, begun);
                }
                why = performed.detail;
                performed.step
            }
            step = interrupted(&machine, &mut orders, &keep_abort) => match step {
                Some(step) => {
                    if step == Step::Abort {
                        abort(&operation, &mut journal, &mut job, phase, begun);
                    }
                    step
                }
                None => return conclude::give_way(&service, &operation, &mut journal),
            },
        };
        if phase == Phase::Migrate && job.no_way_back(&service).is_some() {
            machine.hold_on_failure();
        }
        if is_called_off.take() {
            machine.call_off();
        }
        let was_called_off = machine.is_called_off();
        let next = machine.step(step);
        if was_called_off && !machine.is_called_off() {
            let phase = text::phase(&phase.name());
            job.abort(format!("aborted in phase {phase}, which went on to its end"));
        }
        if next != Some(phase) && machine.is_held_by_failure() {
            job.raise_held(&service);
        }
        let again = (next == Some(phase)).then_some(&why);
        pause(&service, &operation, phase, again, &mut retries).await;
    }
}

/// Waits before a phase is tried again, with the reason in `status`.
async fn pause(
    service: &Service,
    operation: &Operation,
    phase: Phase,
    again: Option<&String>,
    retries: &mut Backoff,
) {
    let Some(why) = again else {
        service.condition.resolve(Source::Operation);
        return retries.reset();
    };
    let phase = text::phase(&phase.name());
    service.condition.report(Source::Operation, format!("{phase} is tried again: {why}"));
    tokio::select! {
        () = tokio::time::sleep(retries.pause()) => {}
        () = operation.hurried() => {}
    }
}

/// Notes that a phase was called off.
fn abort(operation: &Operation, journal: &mut Journal, job: &mut Job, phase: Phase, begun: Tick) {
    if let Phase::Hook(point @ (Point::AfterCommit | Point::AfterRollback)) = phase {
        return job.abort_hook(operation, journal, point);
    }
    job.abort(format!("aborted in phase {}", text::phase(&phase.name())));
    tell_phase(operation, phase, PhaseState::Fail, begun, "aborted".to_owned());
}

/// Both generations are alive, and the operation waits for promote or abort.
fn tell_held(service: &Service, operation: &Operation) {
    let trouble = outcome::holding(service, operation).trouble;
    if let Some(trouble) = trouble {
        let message = notices::of_operation(service, operation, &trouble);
        notices::tell(service, Notice::Held, message);
    }
}

/// Keeps an abort until the end of a phase that is seen through, also for the next supervisor. The
/// journal is lent to the phase, so this is another writer of its end.
fn keep_abort(service: &Service, operation: &Operation, phase: Phase) {
    let record = Record::called_off(&phase.name(), Cause::Aborted.name());
    let written = Journal::reopen(&service.paths, operation.id)
        .and_then(|mut journal| journal.announce(&record));
    if let Err(error) = written {
        tracing::error!(op = operation.id.0, %error, "the journal cannot be written");
    }
    tracing::info!(phase = phase.name(), "an abort waits for the end of a phase");
}

/// Waits for an order that moves the machine; the others are dropped, and whoever waits for one of
/// them hears of it. An abort of what is seen through is kept. `None` is to give way.
async fn interrupted(
    machine: &Machine,
    orders: &mut mpsc::UnboundedReceiver<Order>,
    keep_abort: impl Fn(Phase),
) -> Option<Step> {
    loop {
        let (step, taken) = match orders.recv().await {
            Some(Order::Abort) => (Step::Abort, None),
            Some(Order::Promote(seen, taken)) => (Step::Promote(seen), Some(taken)),
            Some(Order::Yield) if machine.phase() == Phase::Stranded => return None,
            Some(Order::Yield) => continue,
            None => std::future::pending().await,
        };
        let mut trial = *machine;
        if trial.step(step).is_some() {
            if let Some(Err(())) = taken.map(|taken| taken.send(())) {
                tracing::debug!("the client that has ordered it is gone");
            }
            return Some(step);
        }
        if step == Step::Abort && machine.phase().is_seen_through() {
            keep_abort(machine.phase());
        }
    }
}

/// Writes the phase down before it is performed. Probing leaves nothing behind, so those phases
/// are noted without waiting for the disk; every other one waits. A journal that cannot be written
/// does not stop a rollback: the error is reported, and the rollback goes on.
fn announce(operation: &Operation, journal: &mut Journal, number: Option<u64>, machine: &Machine) {
    let phase = machine.phase();
    operation.phase.set(Some(phase));
    operation.phase_started.set(clock::tick());
    let record = Record::start(&phase.name(), machine.cause().name(), number);
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
    performed: &PhaseResult,
    phase: Phase,
    begun: Tick,
) {
    let state = match performed.step {
        _ if performed.is_skipped => PhaseState::Skip,
        // A dry run is called off by its own preflight.
        Step::Ok | Step::Promote(_) | Step::Abort => PhaseState::Ok,
        _ => PhaseState::Fail,
    };
    let ms = clock::tick().since_ms(begun);
    let record = Record::end(&phase.name(), state, ms, performed.detail.clone());
    if let Err(error) = journal.note(&record) {
        tracing::warn!(op = operation.id.0, %error, "recording the end of a phase");
    }
    if phase == Phase::Stranded && state == PhaseState::Fail {
        operation.strand(performed.detail.clone());
    }
    tell_phase(operation, phase, state, begun, performed.detail.clone());
}

fn tell_phase(operation: &Operation, phase: Phase, state: PhaseState, begun: Tick, detail: String) {
    let ms = clock::tick().since_ms(begun);
    operation.tell(Event::Phase { phase: phase.name(), state, ms, detail });
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::core::operation::machine::{Inconclusive, Kind, Plan, Succession};

    #[tokio::test]
    async fn who_orders_what_has_no_effect_hears_of_it() {
        let (kind, inconclusive) = (Kind::Release, Inconclusive::Hold);
        let succession = Succession::Overlap;
        let plan = Plan { kind, n_cold: 1, inconclusive, succession, n_steps: 0 };
        let machine = Machine::resume(plan, Phase::Hold, Cause::Inconclusive);
        let (orders, mut inbox) = mpsc::unbounded_channel();
        let (late, dropped) = oneshot::channel();
        orders.send(Order::Promote(Phase::Bake, late)).unwrap();
        let (right, taken) = oneshot::channel();
        orders.send(Order::Promote(Phase::Hold, right)).unwrap();
        let step = interrupted(&machine, &mut inbox, |_| ()).await;
        assert_eq!(step, Some(Step::Promote(Phase::Hold)));
        assert!(dropped.await.is_err() && taken.await.is_ok());
    }
}
