//! The bake after the flip, and on each step before it: loops that look, and let the pure verdict
//! of [`crate::core::analysis::verdict`] decide.
//!
//! Three of them, side by side, so that none keeps another waiting: the health check with what is
//! seen without sending a request ([`passive`]), what is asked over HTTP, and the command
//! ([`active`]). The first one alone returns.
//!
//! Nothing of a bake is durable. A supervisor that comes after a crash watches again from the
//! start, for the whole time and with a warm-up of its own: later, never laxer. A command that its
//! predecessor left is ended at boot.
//!
//! This room watches and returns a verdict. It must never act on one: no promotion, no rollback.

pub(crate) mod active;
pub(crate) mod book;
pub(crate) mod error_lines;
pub(crate) mod finding;
pub(crate) mod metrics;
pub(crate) mod passive;
pub(crate) mod resources;
pub(crate) mod usage_history;

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use crate::core::analysis::signal::Name;
use crate::core::health::Sample;
use crate::os::clock;
use crate::supervisor::health::probe::{Probe, Transcript};
use crate::supervisor::health::probe_all::{Round, probe_all};
use crate::supervisor::instances::gate;
use crate::supervisor::service::Service;
use crate::supervisor::service::instances::{Generation, Instance};

use self::book::Book;
pub(crate) use self::book::{Baked, Depth, Watch};
use self::finding::Finding;
use self::passive::Quiet;
use self::usage_history::SharedCurve;

/// What a bake found, with what went wrong without changing its verdict.
#[derive(Debug)]
pub(crate) struct Report {
    /// The verdict.
    pub baked: Baked,
    /// For people.
    pub warnings: BTreeSet<String>,
}

/// Watches a generation that new connections go to.
pub(crate) async fn watch(
    service: &Rc<Service>,
    generation: &Rc<Generation>,
    watch: &Watch,
    curve: SharedCurve,
    transcript: &mut Transcript,
) -> Report {
    let book = Book::open(service, generation, watch, curve);
    let baked = tokio::select! {
        biased;
        baked = look_on(&book, transcript) => baked,
        never = active::paths(&book), if watch.depth != Depth::Look => match never {},
        never = active::command(&book), if watch.depth != Depth::Look => match never {},
    };
    Report { baked, warnings: book.warnings.take() }
}

/// The health check, and what can be read without sending a request, until there is a verdict.
async fn look_on(book: &Book, transcript: &mut Transcript) -> Baked {
    let mut ends = book.generation.ends();
    if *ends.borrow_and_update() > 0 {
        return Baked::Died;
    }
    let mut quiet = Quiet::begin(book);
    let mut n_probes = 0_u32;
    loop {
        let (probe, died) =
            gate::look_at_all(&book.service, &book.generation, &mut ends, transcript).await;
        if died {
            return Baked::Died;
        }
        n_probes += 1;
        let sample = compared(book, &probe, transcript).await;
        book.note(Name::Probes, Finding::new(sample, probe.why().unwrap_or_default()));
        quiet.look(book);
        if let Some(baked) = book.end(clock::tick(), n_probes) {
            return baked;
        }
        let left_ms = book.until.since_ms(clock::tick());
        let pause = book.interval().min(Duration::from_millis(left_ms.max(1)));
        if gate::died_within(pause, &mut ends).await {
            return Baked::Died;
        }
    }
}

/// A bad probe counts when the generation that runs beside this one is good.
async fn compared(book: &Book, probe: &Probe, transcript: &mut Transcript) -> Sample {
    if probe.is_good() {
        return Sample::Good;
    }
    let Some(beside) = book.beside.as_ref().filter(|beside| beside.is_alive()) else {
        return Sample::Bad;
    };
    let seen = |instance: &Rc<Instance>, probe: &Probe| {
        transcript.push(beside.release, instance.index, probe);
    };
    let other = probe_all(&book.service, beside, Round::Thorough, seen).await;
    if other.is_good() { Sample::Bad } else { Sample::Unclear }
}
