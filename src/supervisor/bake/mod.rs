//! The bake after the flip, and on each step before it: loops that look, and let the pure verdict
//! of [`crate::core::analysis::verdict`] decide.
//!
//! Three of them, side by side, so that none keeps another waiting: the health check with what is
//! seen without asking anybody ([`passive`]), what is asked over HTTP, and the command ([`active`]). The first one alone returns.
//!
//! Nothing of a bake is durable. A supervisor that comes after a crash watches again from the
//! start, for the whole time and with a warm-up of its own: later, never laxer. A command that its
//! predecessor left is ended at boot.
//!
//! This room watches and returns a verdict. It must never act on one: no promotion, no rollback.

pub mod active;
pub mod error_lines;
pub mod metrics;
pub mod passive;
pub mod resources;
pub mod usage_history;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use crate::core::analysis::signal::{Ask, Doubt, Name, Weight};
use crate::core::analysis::verdict::{Bake, Verdict};
use crate::core::health::Sample;
use crate::core::time::Tick;
use crate::os::clock;
use crate::supervisor::bake::passive::Quiet;
use crate::supervisor::bake::usage_history::SharedCurve;
use crate::supervisor::health::gate;
use crate::supervisor::health::probe::{Probe, Transcript};
use crate::supervisor::health::probe_all::{Round, probe_all};
use crate::supervisor::service::Service;
use crate::supervisor::service::instances::{Crew, Instance};
use crate::text;
use crate::text::seconds;

/// What came of a bake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Baked {
    /// Good.
    Pass(String),
    /// Bad, because.
    Fail(String),
    /// Neither, because.
    Inconclusive(String),
    /// A process ended.
    Died,
}

/// What a bake found, with what went wrong without changing its verdict.
#[derive(Debug)]
pub struct Report {
    /// The verdict.
    pub baked: Baked,
    /// For people.
    pub warnings: BTreeSet<String>,
}

/// How a generation is watched that gets connections.
#[derive(Debug)]
pub struct Watch {
    /// How long, and how closely.
    pub depth: Depth,
    /// Who serves beside it, or did a moment ago and still runs: what is bad there too is nobody's
    /// fault.
    pub beside: Option<Rc<Crew>>,
}

/// How closely a generation is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// One look by the health check.
    Look,
    /// All that the settings ask for, so long.
    Full(Duration),
}

/// What one look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it says.
    pub sample: Sample,
    /// Why it is not good.
    pub why: String,
}

impl Finding {
    /// All is well.
    #[must_use]
    pub fn good() -> Self {
        Self { sample: Sample::Good, why: String::new() }
    }

    /// This, because.
    #[must_use]
    pub fn new(sample: Sample, why: impl Into<String>) -> Self {
        Self { sample, why: why.into() }
    }

    /// Bad here is unclear where the other one is bad too.
    fn beside(self, other: &Self) -> Self {
        match (self.sample, other.sample) {
            (Sample::Bad, Sample::Bad) => {
                Self::new(Sample::Unclear, format!("{}; and {}", self.why, other.why))
            }
            _ => self,
        }
    }
}

/// Whether the warm-up is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Things are only counted.
    WarmUp,
    /// Things count.
    Judged,
}

/// What the loops of one bake share.
#[derive(Debug)]
struct Book {
    service: Rc<Service>,
    crew: Rc<Crew>,
    beside: Option<Rc<Crew>>,
    begun: Tick,
    warm: Tick,
    until: Tick,
    verdict: RefCell<Bake>,
    /// The last word of each signal that was not good.
    said: RefCell<BTreeMap<Name, String>>,
    warnings: RefCell<BTreeSet<String>>,
    curve: SharedCurve,
}

/// Watches a generation that new connections go to.
pub async fn watch(
    service: &Rc<Service>,
    crew: &Rc<Crew>,
    watch: &Watch,
    curve: SharedCurve,
    transcript: &mut Transcript,
) -> Report {
    let book = Book::open(service, crew, watch, curve);
    let baked = tokio::select! {
        biased;
        baked = look_on(&book, transcript) => baked,
        never = active::paths(&book), if watch.depth != Depth::Look => match never {},
        never = active::command(&book), if watch.depth != Depth::Look => match never {},
    };
    Report { baked, warnings: book.warnings.take() }
}

impl Book {
    fn open(service: &Rc<Service>, crew: &Rc<Crew>, watch: &Watch, curve: SharedCurve) -> Self {
        let begun = clock::tick();
        let (length, warm_up) = match watch.depth {
            Depth::Look => (Duration::ZERO, Duration::ZERO),
            Depth::Full(length) => (length, crew.settings.bake.warm_up.min(length)),
        };
        let until = begun.after_ms(text::ms(length));
        Self {
            service: Rc::clone(service),
            crew: Rc::clone(crew),
            beside: watch.beside.clone(),
            begun,
            warm: begun.after_ms(text::ms(warm_up)),
            until,
            verdict: RefCell::new(Bake::new(until, asks(crew, watch.depth))),
            said: RefCell::default(),
            warnings: RefCell::default(),
            curve,
        }
    }

    fn note(&self, name: Name, finding: Finding) {
        if finding.sample != Sample::Good {
            tracing::debug!(service = %self.service.name, signal = name.text(), finding.why, "seen");
            self.said.borrow_mut().insert(name, finding.why);
        }
        self.verdict.borrow_mut().observe(name, finding.sample);
    }

    fn stage(&self, now: Tick) -> Stage {
        if now < self.warm { Stage::WarmUp } else { Stage::Judged }
    }

    /// Between two looks.
    fn interval(&self) -> Duration {
        self.crew.settings.health.interval
    }

    /// Returns when the warm-up is over.
    async fn warmed_up(&self) {
        let left_ms = self.warm.since_ms(clock::tick());
        tokio::time::sleep(Duration::from_millis(left_ms)).await;
    }

    /// What is told when it ends now; nothing as long as it goes on.
    fn end(&self, now: Tick, n_probes: u32) -> Option<Baked> {
        let verdict = self.verdict.borrow();
        let looked = format!("{n_probes} probes in {}", seconds(self.begun, now));
        Some(match verdict.verdict(now) {
            Verdict::Watching => return None,
            Verdict::Pass => {
                let names =
                    verdict.names().filter(|name| !matches!(name, Name::Probes | Name::FileLimit));
                let names: Vec<_> = names.map(Name::text).collect();
                let also = if names.is_empty() { "" } else { "; good: " };
                Baked::Pass(format!("{looked}{also}{}", names.join(", ")))
            }
            Verdict::Fail(Name::Probes) => {
                let why = self.last_word(Name::Probes);
                Baked::Fail(format!("{why} (the limit of bad probes in a row)"))
            }
            Verdict::Fail(name) => {
                Baked::Fail(format!("{}: {}", name.text(), self.last_word(name)))
            }
            Verdict::Inconclusive(doubts) => {
                let doubts: Vec<_> =
                    doubts.into_iter().map(|(name, doubt)| self.doubt(name, doubt)).collect();
                Baked::Inconclusive(format!("{looked}; {}", doubts.join("; ")))
            }
        })
    }

    fn last_word(&self, name: Name) -> String {
        self.said.borrow().get(&name).cloned().unwrap_or_else(|| "it is bad".to_owned())
    }

    fn doubt(&self, name: Name, doubt: Doubt) -> String {
        let said = self.said.borrow().get(&name).cloned();
        let why = match (doubt, said) {
            (Doubt::TooFew { n_samples, min_samples }, None) => {
                format!("seen {n_samples} times, wanted {min_samples}")
            }
            (Doubt::TooFew { n_samples, min_samples }, Some(said)) => {
                format!("{said} (seen {n_samples} times, wanted {min_samples})")
            }
            (Doubt::Unclear | Doubt::Bad, said) => said.unwrap_or_else(|| "unclear".to_owned()),
        };
        format!("{}: {why}", name.text())
    }
}

/// Every signal that the settings ask for.
fn asks(crew: &Crew, depth: Depth) -> Vec<(Name, Ask)> {
    let settings = &crew.settings;
    let (fall, signals) = (settings.health.fall, &settings.bake.signals);
    let ask = |min_samples| Ask { fall, min_samples, weight: Weight::Required };
    let min_probes = settings.bake.min_samples;
    // Where the limit cannot be read, nobody asked for it either.
    let limit = (Name::FileLimit, ask(0));
    if depth == Depth::Look {
        return vec![(Name::Probes, ask(min_probes.min(1))), limit];
    }
    let mut asks = vec![(Name::Probes, ask(min_probes)), limit];
    asks.extend(resources::bounds(signals).into_iter().map(|(name, _)| (name, ask(1))));
    let configured = [
        (Name::ErrorLines, signals.error_lines.is_some()),
        (Name::Metrics, signals.metrics.is_some()),
        (Name::Command, signals.command.is_some()),
    ];
    asks.extend(
        configured.into_iter().filter(|(_, is_set)| *is_set).map(|(name, _)| (name, ask(1))),
    );
    if !signals.wanted.is_empty() {
        asks.push((Name::Wanted, Ask { weight: Weight::Wanted, ..ask(1) }));
    }
    asks
}

/// The health check, and what can be read without asking anybody, until there is a verdict.
async fn look_on(book: &Book, transcript: &mut Transcript) -> Baked {
    let mut ends = book.crew.n_ends.subscribe();
    if *ends.borrow_and_update() > 0 {
        return Baked::Died;
    }
    let mut quiet = Quiet::begin(book);
    let mut n_probes = 0_u32;
    loop {
        let (probe, died) =
            gate::look_at_all(&book.service, &book.crew, &mut ends, transcript).await;
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

/// A bad probe counts when who runs beside is good.
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
