//! The way back: one rung after the other, from the process that still runs to cold starts.

use std::rc::Rc;
use std::time::Duration;

use crate::config::host::Start;
use crate::core::duty::Duty;
use crate::core::ids::{GenerationId, OpId, ReleaseId};
use crate::core::operation::conclusion::{self, Because, Blame, Left, Way};
use crate::core::operation::ladder;
use crate::core::operation::machine::{Cause, Event as Step, Kind, Succession};
use crate::core::ordered;
use crate::core::time::Tick;
use crate::os::clock;
use crate::store::release;
use crate::store::state::{Frozen, Served, State};
use crate::store::trial;
use crate::supervisor::health::check;
use crate::supervisor::health::diagnosis;
use crate::supervisor::health::probe::Transcript;
use crate::supervisor::health::probe_all::{Round, probe_all};
use crate::supervisor::instances::gate::{self, Gated, Rigour};
use crate::supervisor::instances::outside_proxy;
use crate::supervisor::instances::restarter::revive;
use crate::supervisor::instances::retire;
use crate::supervisor::instances::start;
use crate::supervisor::instances::stop_all;
use crate::supervisor::operation::alarm;
use crate::supervisor::operation::assignment::Assignment;
use crate::supervisor::operation::cold_rungs::ColdRungs;
use crate::supervisor::operation::findings::Findings;
use crate::supervisor::operation::phases::flip::{point_current, runs_again};
use crate::supervisor::operation::phases::in_turn;
use crate::supervisor::operation::phases::standby;
use crate::supervisor::operation::phases::wrap_up::WrapUp;
use crate::supervisor::rollback_readiness::schema;
use crate::supervisor::service::Service;
use crate::supervisor::service::instances::Generation;
use crate::supervisor::service::operation::Operation;
use crate::supervisor::service::phase_result::PhaseResult;
use crate::supervisor::service::settings;

/// Why a release was left that nobody knows anything bad of.
const CUT_OFF: &str = "Halley or the machine went down in its bake";

/// Pause before the ladder is climbed again when nothing answers.
const STRANDED_PAUSE: Duration = Duration::from_secs(5);

/// Starts a rung's release cold, with the settings it ran with.
pub(crate) async fn start(
    service: &Rc<Service>,
    assignment: &Assignment,
    rung: u8,
    rungs: &mut ColdRungs,
    succession: Succession,
    parked: &mut Option<Tick>,
) -> PhaseResult {
    let release = assignment.cold(rung);
    let strict = release.filter(|it| ladder::must_accept(rung, *it, assignment.left));
    if let Some(why) = strict.and_then(|release| schema::misses(service, release)) {
        let why = format!("passed over: {why}");
        return PhaseResult::not(Step::Failed, why.clone()).with_warnings([why]);
    }
    if succession == Succession::InTurn {
        parked.get_or_insert_with(clock::tick);
        if let Err(error) = stop_all::clear(service).await {
            return PhaseResult::not(Step::Failed, error.to_string());
        }
    }
    discard_rung(service, rungs.left.take()).await;
    let Some(release) = release else {
        return PhaseResult::not(Step::Failed, "there is no such release");
    };
    let settings = match settings::of_start(service, release, Start::Back) {
        Ok(settings) => settings,
        Err(error) => return PhaseResult::not(Step::Failed, error.to_string()),
    };
    let Some(id) = rungs.present else {
        return PhaseResult::not(Step::Failed, "no generation was set aside");
    };
    match start::start(service, id, release, settings).await {
        Ok(_) => PhaseResult::ok(format!("release {release}")),
        Err(error) => {
            let why = format!("release {release}: {error}");
            PhaseResult::not(Step::Failed, why.clone()).with_warnings([why])
        }
    }
}

/// A rung that did not hold is stopped before the next one is started.
async fn discard_rung(service: &Rc<Service>, left: Option<GenerationId>) {
    let Some(id) = left else { return };
    if service.routing.live() == Some(id) {
        return;
    }
    if let Some(generation) = service.fleet.get(id) {
        retire::stop_now(service, &generation).await;
    }
}

/// Probes a rung: once when it served a moment ago, shortly when it was started cold.
pub(crate) async fn gate(
    service: &Rc<Service>,
    generation: Option<Rc<Generation>>,
    rung: u8,
    transcript: &mut Transcript,
) -> PhaseResult {
    let generation = generation.filter(|generation| generation.is_whole());
    let Some(generation) = generation.filter(|generation| generation.duty() != Duty::Draining)
    else {
        // Nothing was asked, so nothing failed: a cold start is next.
        let gone = PhaseResult::not(Step::Failed, "it is no longer running");
        return PhaseResult { is_skipped: rung == 0, ..gone };
    };
    // Taken back: no retirement stops it from here on.
    if generation.duty() == Duty::Standby {
        generation.assign(Duty::Candidate);
    }
    let gated = if rung == 0 {
        at_once(service, &generation, transcript).await
    } else {
        let deadline = generation.settings.health.deadline;
        gate::gate(service, &generation, Rigour::Short, deadline, transcript).await
    };
    let why = match gated {
        Gated::Open(detail) => {
            return PhaseResult::ok(format!("release {}: {detail}", generation.release));
        }
        Gated::Died => diagnosis::death(service, generation.id, generation.release),
        Gated::Shut(why) => format!("{why}{}", diagnosis::last_lines(service, &generation)),
    };
    if rung == 0 {
        // It is no use now; it goes its way again.
        retire::begin(service, &generation, clock::tick());
    }
    let first = why.lines().next().unwrap_or_default();
    let warning = format!("rollback to release {} failed: {first}", generation.release);
    PhaseResult::not(Step::Failed, first).with_warnings([warning])
}

/// One look at each process; ends of a life long ago do not count.
async fn at_once(
    service: &Rc<Service>,
    generation: &Rc<Generation>,
    transcript: &mut Transcript,
) -> Gated {
    let probe = probe_all(service, generation, Round::Quick, |instance, probe| {
        transcript.push(generation.release, instance.index, probe);
    });
    match probe.await.why() {
        Some(why) => Gated::Shut(why.to_owned()),
        None => Gated::Open("warm".to_owned()),
    }
}

/// Steers to a rung, points `current` at it.
pub(crate) async fn flip(
    service: &Rc<Service>,
    generation: Option<Rc<Generation>>,
    parked: Option<Tick>,
) -> PhaseResult {
    let Some(generation) = generation else {
        return PhaseResult::not(Step::Failed, "its processes are gone");
    };
    if let Err(error) = outside_proxy::point(service, &generation).await {
        let why = error.to_string();
        return PhaseResult::not(Step::Failed, why.clone()).with_warnings([why]);
    }
    let begun = clock::monotonic_ns();
    if let Err(error) = service.steer_to(&generation, Duty::Live) {
        return PhaseResult::not(Step::Failed, error.to_string());
    }
    let us = (clock::monotonic_ns() - begun) / 1000;
    revive(service, &generation);
    let mut warning = Vec::from_iter(point_current(service, generation.release));
    warning.extend(runs_again(service));
    service.tend();
    let gap = in_turn::gap_text(service, parked);
    PhaseResult::ok(format!("release {}, steered in {us} us{gap}", generation.release))
        .with_warnings(warning)
}

/// Probes where users are.
pub(crate) async fn verify(
    service: &Rc<Service>,
    generation: Option<Rc<Generation>>,
) -> PhaseResult {
    let Some(generation) = generation else {
        return PhaseResult::not(Step::Failed, "its processes are gone");
    };
    let probe = check::in_public(service, &generation.settings).await;
    match probe.why() {
        None => PhaseResult::ok("answers at the service's address"),
        Some(why) => PhaseResult::not(Step::Failed, why),
    }
}

/// One rename: this rung's release is the last good one. Whatever was left is bad, and frozen.
pub(crate) fn commit(
    service: &Rc<Service>,
    operation: &Operation,
    assignment: &Assignment,
    generation: Option<Rc<Generation>>,
    cause: Cause,
    reason: Option<&str>,
) -> PhaseResult {
    let kind = operation.kind;
    let Some(generation) = generation else {
        return PhaseResult::not(Step::Failed, "its processes are gone");
    };
    let blame = blame(service, assignment, (kind, cause), generation.release);
    let served =
        Served { release: generation.release.0, generation: generation.id.0, op: assignment.op.0 };
    let why = match kind {
        Kind::Rollback => format!("rolled back by {}", assignment.actor),
        _ if cause == Cause::Interrupted => CUT_OFF.to_owned(),
        _ => reason.unwrap_or("it failed").to_owned(),
    };
    let frozen = blame.frozen().and_then(|release| release::known(&service.paths, release).ok());
    let standby = standby::record(
        service,
        conclusion::warm(kind, Way::Back, assignment.before),
        assignment.old,
    );
    let standby = standby.filter(|standby| standby.generation != served.generation);
    let change = |state: &mut State| {
        state.last_good = Some(served);
        state.standby.clone_from(&standby);
        state.alarm = None;
        // What one goes back to is trusted again.
        state.frozen.retain(|frozen| frozen.release != served.release);
        if let Some(known) = &frozen {
            state.frozen.retain(|frozen| frozen.digest != known.manifest.digest);
            state.frozen.push(Frozen {
                digest: known.manifest.digest.clone(),
                release: known.release.0,
                why: why.clone(),
                at: clock::now_rfc3339(),
            });
        }
    };
    let counts_unsaved = || operation.is_unwaited() || starts_already(service, kind, &served);
    let unsaved = match service.durable.commit(&change, &counts_unsaved) {
        Ok(unsaved) => unsaved.map(|error| error.to_string()),
        Err(error) => return PhaseResult::not(Step::Failed, error.to_string()),
    };
    service.condition.serves();
    let left = blame.verdict().map(|(left, verdict)| (left, verdict, why));
    let wrap_up = WrapUp { good: generation.release, left };
    PhaseResult::ok(format!("last good: {}", generation.release))
        .with_warnings(unsaved.into_iter().chain(wrap_up.perform(service)))
}

/// Whether the disk has it that a reboot starts this: a commit that it does not take changes nothing
/// then, and the next record writes the rest down. What a rollback has left must not be on trial there: its
/// commit may not have been taken either.
fn starts_already(service: &Service, kind: Kind, served: &Served) -> bool {
    let good = State::load(&service.paths).ok().and_then(|state| state.last_good);
    good.is_some_and(|it| (it.release, it.generation) == (served.release, served.generation))
        && (kind != Kind::Rollback || trial::clear(&service.paths).is_ok())
}

/// What is held against the release that was left.
fn blame(
    service: &Service,
    assignment: &Assignment,
    (kind, cause): (Kind, Cause),
    back_at: ReleaseId,
) -> Blame {
    let because = match cause {
        Cause::Interrupted => Because::OfTheMachine,
        _ if service.activity.set().is_some() => Because::OfItsSet,
        _ => Because::OfItself,
    };
    conclusion::blame(Left { kind, release: assignment.left, back_at, because })
}

/// No rung held. A generation that still answers is left alone; if none does, connections are held
/// in the queues of the live slots, and after a pause the rollback is tried again from the top.
pub(crate) async fn stranded(
    service: &Rc<Service>,
    op: OpId,
    rungs: &mut ColdRungs,
    findings: &Findings,
) -> PhaseResult {
    discard_rung(service, rungs.leave()).await;
    let mut generations = service.fleet.all();
    // The one that is steered to comes first, then the newest.
    let rank = |generation: &Rc<Generation>| {
        (service.routing.live() == Some(generation.id), generation.id)
    };
    ordered::sort(&mut generations, |a, b| rank(a) > rank(b));
    let mut unled = None;
    for generation in generations.into_iter().filter(|generation| generation.is_alive()) {
        let answers = probe_all(service, &generation, Round::Every, |_, _| {}).await.is_good();
        // The proxy stays where it is until somebody answers.
        if !answers {
            continue;
        }
        let pointed = outside_proxy::point(service, &generation).await;
        if pointed.is_ok() && service.steer_to(&generation, Duty::Live).is_ok() {
            let warning = point_current(service, generation.release);
            service.tend();
            return PhaseResult::ok(format!(
                "release {} answers and keeps running",
                generation.release
            ))
            .with_warnings(warning);
        }
        unled.get_or_insert(generation.release);
    }
    alarm::raise_alarm(service, op, findings);
    tokio::time::sleep(STRANDED_PAUSE).await;
    let why = match unled {
        Some(release) if service.config().proxy.is_some() => {
            format!("release {release} answers, and the proxy cannot be led to it")
        }
        _ => "no release answers; connections wait".to_owned(),
    };
    PhaseResult::not(Step::Failed, why + ", trying again")
}
