//! How a verb or an operation ended, with what serves now.

use crate::api::{Event, PhaseState};
use crate::api::{Outcome, Trouble};
use crate::core::exit::Exit;
use crate::core::operation::outcome::Word;
use crate::core::time::Tick;
use crate::os::clock;
use crate::supervisor::service::Service;
use crate::supervisor::service::operation::Operation;
use crate::supervisor::service::refusal::still;

/// A verb that is done.
pub(crate) fn outcome(service: &Service, word: Word, op: u64) -> Outcome {
    Outcome {
        outcome: word.into(),
        service: service.name.to_string(),
        op,
        release: service.serving().map(|release| release.0),
        serving: service.serving().map(|release| release.0),
        last_good: service.durable.last_good().map(|release| release.0),
        exit: Exit::Done.code(),
        warnings: Vec::new(),
        next: Vec::new(),
        trouble: None,
        members: Vec::new(),
    }
}

/// Both are alive, and a human decides.
pub(crate) fn holding(service: &Service, operation: &Operation) -> Outcome {
    let name = &service.name;
    let next = ["promote", "abort"].map(|verb| format!("halley-sup {verb} {name}"));
    // What failed and cannot be taken back has raised one.
    let alarm = service.durable.state().alarm.clone();
    let held = alarm.filter(|alarm| alarm.exit == Exit::Holding.code());
    let inconclusive = "the bake was inconclusive, and inconclusive = \"hold\" is configured";
    let trouble = Trouble {
        what: format!("{name}: operation {} waits for promote or abort", operation.id),
        why: held.map_or(inconclusive.to_owned(), |held| held.why),
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
