//! The gate before the flip: the loop that looks, and lets the pure verdict of
//! [`crate::core::health`] decide. The bake after it looks in the same way.

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::watch;

use crate::core::health::{self, Gate, Sample};
use crate::core::restart::Process;
use crate::core::time::Tick;
use crate::os::clock;
use crate::supervisor::health::probe::{Probe, Transcript};
use crate::supervisor::health::probe_all::{Round, probe_all};
use crate::supervisor::service::Service;
use crate::supervisor::service::instances::Generation;
use crate::text;
use crate::text::seconds;

/// How hard a gate looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rigour {
    /// All that the settings ask for: `rise` good probes in a row and `min_healthy`.
    Full,
    /// `rise` good probes: an older release that was good before.
    Short,
}

/// What came of a gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Gated {
    /// It opened; this is the detail to print.
    Open(String),
    /// It stays shut, because.
    Shut(String),
    /// A process ended.
    Died,
}

/// Probes a generation in its own slots until the gate opens or the limit is there.
pub(crate) async fn gate(
    service: &Rc<Service>,
    generation: &Rc<Generation>,
    rigour: Rigour,
    limit: Duration,
    transcript: &mut Transcript,
) -> Gated {
    let health = &generation.settings.health;
    let begun = clock::tick();
    let (rise, min_healthy_ms) = match rigour {
        Rigour::Full => (health.rise, text::ms(health.min_healthy)),
        Rigour::Short => (health.rise, 0),
    };
    let deadline = begun.after_ms(text::ms(limit));
    let mut gate = Gate::new(rise, min_healthy_ms, generation.started, deadline);
    let mut ends = generation.ends();
    if *ends.borrow_and_update() > 0 {
        return Gated::Died;
    }
    loop {
        let (probe, died) = look_at_all(service, generation, &mut ends, transcript).await;
        if died {
            return Gated::Died;
        }
        let now = clock::tick();
        match gate.observe(now, sample(&probe)) {
            health::Verdict::Open => {
                return Gated::Open(format!("{rise} of {rise} in {}", seconds(begun, now)));
            }
            health::Verdict::Shut => return Gated::Shut(shut_text(&probe, rise, begun, now)),
            health::Verdict::Pending => {}
        }
        if died_within(health.interval, &mut ends).await {
            return Gated::Died;
        }
    }
}

/// How long the word of a process's end may take once its place is empty.
const WORD_OF_AN_END: Duration = Duration::from_secs(5);

/// One round over every instance, remembered; and whether a process has ended meanwhile.
pub(crate) async fn look_at_all(
    service: &Rc<Service>,
    generation: &Rc<Generation>,
    ends: &mut watch::Receiver<u32>,
    transcript: &mut Transcript,
) -> (Probe, bool) {
    let round = probe_all(service, generation, Round::Thorough, |instance, probe| {
        instance.note_ready(probe.is_good());
        transcript.push(generation.release, instance.index, probe);
    });
    let probe = tokio::select! {
        biased;
        probe = round => probe,
        _ = ends.changed() => return (Probe::bad("its process has ended"), true),
    };
    // Between the end of a process and the word of it, what it left behind is ended.
    let is_gone =
        generation.instances().iter().any(|instance| instance.seat(Process::Program).is_empty());
    let died = match ends.has_changed() {
        Ok(false) if is_gone => died_within(WORD_OF_AN_END, ends).await,
        changed => changed.unwrap_or(true),
    };
    (probe, died)
}

/// Waits so long, and returns whether a process has ended meanwhile.
pub(crate) async fn died_within(pause: Duration, ends: &mut watch::Receiver<u32>) -> bool {
    tokio::time::timeout(pause, ends.changed()).await.is_ok()
}

fn sample(probe: &Probe) -> Sample {
    if probe.is_good() { Sample::Good } else { Sample::Bad }
}

fn shut_text(probe: &Probe, rise: u32, begun: Tick, now: Tick) -> String {
    let last = probe.why().unwrap_or("the last probe was good").to_owned();
    format!("{last}, for {} ({rise} good in a row needed)", seconds(begun, now))
}
