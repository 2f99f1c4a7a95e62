//! How a verb or an operation ended, with what serves now.

use crate::api::{Event, HistoryEntry, Outcome, PhaseState, Trouble};
use crate::core::exit::Exit;
use crate::core::operation::outcome::Word;
use crate::core::operation::phase::Phase;
use crate::core::time::Tick;
use crate::os::clock;
use crate::supervisor::service::operation::Operation;
use crate::supervisor::service::refusal::still;
use crate::supervisor::service::{Service, Shared};

/// A verb that is done.
pub(crate) fn outcome(service: &Service, word: Word, op: u64) -> Outcome {
    Outcome {
        release: service.serving().map(|release| release.0),
        serving: service.serving().map(|release| release.0),
        last_good: service.durable.last_good().map(|release| release.0),
        ..Outcome::new(word.into(), service.name.as_str(), op)
    }
}

/// Writes what has ended into the history, now or once its disk takes it.
pub(crate) fn remember(shared: &Shared, outcome: &Outcome, kind: &str, actor: &str, started: Tick) {
    let ms = clock::tick().since_ms(started);
    shared.history.add(HistoryEntry::of(outcome, kind, actor, clock::now_rfc3339(), ms));
}

/// Both are alive, and a human decides.
pub(crate) fn holding(service: &Service, operation: &Operation) -> Outcome {
    let name = &service.name;
    let next = ["promote", "abort"].map(|verb| format!("halley-sup {verb} {name}"));
    // What failed and cannot be taken back has raised one.
    let alarm = service.durable.state().alarm.clone();
    let held = alarm.filter(|alarm| alarm.exit == Exit::Holding.code());
    let watched = match operation.phase.get() {
        Some(Phase::StepHold(_)) => "the step",
        _ => "the bake",
    };
    let inconclusive =
        format!("{watched} was inconclusive, and inconclusive = \"hold\" is configured");
    let trouble = Trouble {
        what: format!("{name}: operation {} waits for promote or abort", operation.id),
        why: held.map_or(inconclusive, |held| held.why),
        still: still(service),
        next: next.to_vec(),
        exit: Exit::Holding.code(),
    };
    Outcome {
        exit: Exit::Holding.code(),
        next: next.to_vec(),
        release: operation.release.get().map(|release| release.0),
        trouble: Some(trouble),
        ..outcome(service, Word::Holding, operation.id.0)
    }
}

/// A phase of what is done by hand.
#[must_use]
pub(crate) fn phase_event(name: &str, state: PhaseState, begun: Tick, detail: &str) -> Event {
    let ms = clock::tick().since_ms(begun);
    Event::Phase { phase: name.to_owned(), state, ms, detail: detail.to_owned() }
}
