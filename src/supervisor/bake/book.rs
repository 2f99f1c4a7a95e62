//! What the loops of one bake share: the watched generation, the end time, and the findings.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use crate::core::analysis::signal::{Ask, Doubt, Name, Weight};
use crate::core::analysis::verdict::{Bake, Verdict};
use crate::core::health::Sample;
use crate::core::time::Tick;
use crate::os::clock;
use crate::supervisor::bake::finding::{Finding, Stage};
use crate::supervisor::bake::resources;
use crate::supervisor::bake::usage_history::SharedCurve;
use crate::supervisor::service::Service;
use crate::supervisor::service::instances::Generation;
use crate::text;
use crate::text::{count, seconds};

/// What came of a bake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Baked {
    /// Good.
    Pass(String),
    /// Bad, because.
    Fail(String),
    /// Neither, because.
    Inconclusive(String),
    /// A process ended.
    Died,
}

/// How a generation is watched that gets connections.
#[derive(Debug)]
pub(crate) struct Watch {
    /// How long, and how closely.
    pub depth: Depth,
    /// The generation that serves beside it, or did a moment ago and still runs: what is bad there
    /// too is not blamed on the watched one.
    pub beside: Option<Rc<Generation>>,
}

/// How closely a generation is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// One look by the health check.
    Look,
    /// All that the settings ask for, so long.
    Full(Duration),
}

/// What the loops of one bake share.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) service: Rc<Service>,
    pub(super) generation: Rc<Generation>,
    pub(super) beside: Option<Rc<Generation>>,
    pub(super) begun: Tick,
    warm: Tick,
    pub(super) until: Tick,
    verdict: RefCell<Bake>,
    /// The last text of each signal that was not good.
    said: RefCell<BTreeMap<Name, String>>,
    pub(super) warnings: RefCell<BTreeSet<String>>,
    pub(super) curve: SharedCurve,
}

impl Book {
    pub(super) fn open(
        service: &Rc<Service>,
        generation: &Rc<Generation>,
        watch: &Watch,
        curve: SharedCurve,
    ) -> Self {
        let begun = clock::tick();
        let (length, warm_up) = match watch.depth {
            Depth::Look => (Duration::ZERO, Duration::ZERO),
            Depth::Full(length) => (length, generation.settings.bake.warm_up.min(length)),
        };
        let until = begun.after_ms(text::ms(length));
        Self {
            service: Rc::clone(service),
            generation: Rc::clone(generation),
            beside: watch.beside.clone(),
            begun,
            warm: begun.after_ms(text::ms(warm_up)),
            until,
            verdict: RefCell::new(Bake::new(until, asks(generation, watch.depth))),
            said: RefCell::default(),
            warnings: RefCell::default(),
            curve,
        }
    }

    pub(super) fn note(&self, name: Name, finding: Finding) {
        if finding.sample != Sample::Good {
            tracing::debug!(service = %self.service.name, signal = name.text(), finding.why, "seen");
            self.said.borrow_mut().insert(name, finding.why);
        }
        self.verdict.borrow_mut().observe(name, finding.sample);
    }

    pub(super) fn stage(&self, now: Tick) -> Stage {
        if now < self.warm { Stage::WarmUp } else { Stage::Judged }
    }

    /// Between two looks.
    pub(super) fn interval(&self) -> Duration {
        self.generation.settings.health.interval
    }

    /// Returns when the warm-up is over.
    pub(super) async fn warmed_up(&self) {
        let left_ms = self.warm.since_ms(clock::tick());
        tokio::time::sleep(Duration::from_millis(left_ms)).await;
    }

    /// The result to report when it ends now; nothing as long as it goes on.
    pub(super) fn end(&self, now: Tick, n_probes: u32) -> Option<Baked> {
        let verdict = self.verdict.borrow();
        let looked = format!("{} in {}", count(n_probes, "probe"), seconds(self.begun, now));
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
                format!("{}, {min_samples} needed", count(n_samples, "sample"))
            }
            (Doubt::TooFew { n_samples, min_samples }, Some(said)) => {
                format!("{said} ({}, {min_samples} needed)", count(n_samples, "sample"))
            }
            (Doubt::Unclear | Doubt::Bad, said) => said.unwrap_or_else(|| "unclear".to_owned()),
        };
        format!("{}: {why}", name.text())
    }
}

/// Every signal that the settings ask for.
fn asks(generation: &Generation, depth: Depth) -> Vec<(Name, Ask)> {
    let settings = &generation.settings;
    let (fall, signals) = (settings.health.fall, &settings.bake.signals);
    let ask = |min_samples| Ask { fall, min_samples, weight: Weight::Required };
    let min_probes = settings.bake.min_samples;
    // An unreadable limit gives no samples, so none are required.
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
