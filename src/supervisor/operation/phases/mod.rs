//! What each phase of an operation does. One function a phase; the machine decides what follows.

pub(crate) mod hold;
pub(crate) mod preflight;
pub(crate) mod receive;
pub(crate) mod rollback;
pub(crate) mod rollout_step;

use std::path::Path;
use std::rc::Rc;

use crate::core::duty::Duty;
use crate::core::exit::Exit;
use crate::core::ids::{Generation, ReleaseId};
use crate::core::operation::conclusion::{self, Way};
use crate::core::operation::machine::{
    Event as Step, Inconclusive, Kind, Machine, Plan, Succession,
};
use crate::core::retention::Verdict;
use crate::core::time::Tick;
use crate::os::{clock, fs};
use crate::store::receipt::Receipt;
use crate::store::state::Served;
use crate::store::trial::{self, Trial};
use crate::store::{intake as artifact, release};
use crate::supervisor::bake::{self as baking, Baked, Depth, Watch};
use crate::supervisor::data::backup;
use crate::supervisor::data::trial_migration::{self, Taken};
use crate::supervisor::health::diagnosis;
use crate::supervisor::health::gate::{self, Gated, Rigour};
use crate::supervisor::health::probe::Transcript;
use crate::supervisor::instances::restarter::revive;
use crate::supervisor::instances::retire;
use crate::supervisor::instances::start;
use crate::supervisor::operation::assignment::Assignment;
use crate::supervisor::operation::intake::Intake;
use crate::supervisor::operation::watching::Watching;
use crate::supervisor::service::Service;
use crate::supervisor::service::candidate::Candidate;
use crate::supervisor::service::instances::{Crew, Instance};
use crate::supervisor::service::phase_result::PhaseResult;

/// Takes a backup and keeps its receipt.
pub(super) async fn backup(
    service: &Rc<Service>,
    candidate: &Candidate,
    kept: &mut Option<Receipt>,
) -> PhaseResult {
    match trial_migration::backup(service, candidate).await {
        Ok(Taken::Backup(receipt)) => {
            let detail = trial_migration::receipt_text(&receipt);
            *kept = Some(*receipt);
            PhaseResult::ok(detail)
        }
        Ok(Taken::Off) => PhaseResult::skip("none is configured"),
        Ok(Taken::NoData(why)) => {
            let said = format!(
                "there is no data yet, so no backup ({why}); the first one is taken when the next \
                 release begins, or by halley-sup backup {}",
                service.name
            );
            PhaseResult::skip(said.clone()).with_warnings([said])
        }
        Err(why) => PhaseResult::refused(Exit::BackupFailed, format!("no backup: {why}")),
    }
}

/// Restores the backup to scratch and tries the releases on it.
pub(super) async fn rehearse_restore(
    service: &Rc<Service>,
    candidate: &Candidate,
    receipt: Option<&Receipt>,
    transcript: &mut Transcript,
) -> PhaseResult {
    let Some(receipt) = receipt.cloned() else {
        return PhaseResult::skip("there is no backup");
    };
    trial_migration::rehearse(service, candidate, receipt, transcript).await
}

/// Starts the candidate, with the settings that its release is sealed with.
pub(super) async fn start_candidate(service: &Rc<Service>, assignment: &Assignment) -> PhaseResult {
    let Assignment { release, generation, .. } = *assignment;
    let settings = match release::settings(&service.paths, release) {
        Ok(settings) => settings,
        Err(error) => return PhaseResult::failed(error.to_string()),
    };
    match start::start(service, generation, release, settings).await {
        Ok(crew) => PhaseResult::ok(format!("generation {generation}, {}", pids(&crew))),
        Err(error) => PhaseResult::failed(error.to_string()),
    }
}

/// Probes the candidate until it may get connections, or its time is over.
pub(super) async fn gate_candidate(
    service: &Rc<Service>,
    assignment: &Assignment,
    parked: Option<Tick>,
    transcript: &mut Transcript,
) -> PhaseResult {
    let Assignment { release, generation, .. } = *assignment;
    let Some(crew) = service.fleet.get(generation) else {
        return died(service, generation, release);
    };
    let limit = hold::gate_limit(assignment, parked, crew.settings.health.deadline);
    match gate::gate(service, &crew, Rigour::Full, limit, transcript).await {
        Gated::Open(detail) => PhaseResult::ok(detail),
        Gated::Died => died(service, generation, release),
        Gated::Shut(why) => {
            let hint = diagnosis::diagnose(service, &crew);
            let lines = diagnosis::last_lines(service, &crew);
            PhaseResult::failed(format!("{why}{hint}{lines}"))
        }
    }
}

/// A process of the candidate has ended.
pub(crate) fn died(service: &Service, generation: Generation, release: ReleaseId) -> PhaseResult {
    PhaseResult::because(Step::Died, diagnosis::death(service, generation, release))
}

/// A release that gets connections and is not committed is on trial. Begun again after a crash
/// it keeps the tries it has left; another operation's trial, left over when there was nothing to
/// go back to, is replaced.
///
/// # Errors
/// When the trial cannot be written down.
pub(super) fn begin_trial(
    service: &Service,
    assignment: &Assignment,
    kind: Kind,
) -> Result<(), String> {
    let present =
        trial::read(&service.paths).map_err(|error| format!("reading the trial: {error}"))?;
    if kind == Kind::Release && present.is_none_or(|trial| trial.op != assignment.op.0) {
        let trial = Trial {
            version: 1,
            release: assignment.release.0,
            generation: assignment.generation.0,
            op: assignment.op.0,
            n_tries_left: trial::N_TRIES,
        };
        trial::begin(&service.paths, &trial)
            .map_err(|error| format!("beginning the trial: {error}"))?;
    }
    Ok(())
}

/// Trial file, steer, `current`. Performed again after a crash it ends the same.
pub(super) async fn flip(
    service: &Rc<Service>,
    assignment: &Assignment,
    kind: Kind,
    parked: Option<Tick>,
) -> PhaseResult {
    let Assignment { release, generation, .. } = *assignment;
    let Some(crew) = service.fleet.get(generation) else {
        return died(service, generation, release);
    };
    if let Err(why) = begin_trial(service, assignment, kind) {
        return PhaseResult::failed(why);
    }
    if let Err(error) = service.point_proxy(&crew).await {
        return PhaseResult::failed(error.to_string());
    }
    let begun = clock::monotonic_ns();
    if let Err(error) = service.steer_to(&crew, Duty::Trial) {
        return PhaseResult::failed(error.to_string());
    }
    let us = (clock::monotonic_ns() - begun) / 1000;
    let mut warnings = Vec::from_iter(point_current(service, release));
    for instance in &crew.instances() {
        if let Err(error) = service.slots.restore_backlogs(&instance.slots) {
            warnings.push(error.to_string());
        }
    }
    service.tend();
    let gap = hold::gap_text(service, parked);
    PhaseResult::ok(format!("steered in {us} us{gap}")).with_warnings(warnings)
}

/// Points `current` at a release: for people and static files, so a failure is a warning.
#[must_use]
pub(super) fn point_current(service: &Service, release: ReleaseId) -> Option<String> {
    let target = Path::new("releases").join(release.to_string());
    let error = fs::swap_symlink(&service.paths.current(), &target).err()?;
    Some(format!("current does not point at release {release}: {error}"))
}

/// Watches the candidate, which all new connections go to.
pub(super) async fn bake(
    service: &Rc<Service>,
    assignment: &Assignment,
    plan: Plan,
    watching: &mut Watching,
) -> PhaseResult {
    let Assignment { release, generation, .. } = *assignment;
    let Some(crew) = service.fleet.get(generation) else {
        return died(service, generation, release);
    };
    if plan.kind == Kind::Restart || crew.settings.bake.length.is_zero() {
        return PhaseResult::skip("off");
    }
    let old = assignment.old.and_then(|old| service.fleet.get(old));
    let beside = old.filter(|old| old.is_alive() && old.generation != crew.generation);
    let watch = Watch { depth: Depth::Full(crew.settings.bake.length), beside };
    let report =
        baking::watch(service, &crew, &watch, Rc::clone(&watching.curve), &mut watching.transcript)
            .await;
    let mut warnings: Vec<String> = report.warnings.into_iter().collect();
    let result = match report.baked {
        Baked::Pass(detail) => PhaseResult::ok(detail),
        Baked::Died => died(service, generation, release),
        Baked::Fail(why) => {
            let lines = diagnosis::last_lines(service, &crew);
            PhaseResult::failed(format!("{why}{lines}"))
        }
        Baked::Inconclusive(why) => {
            let text = format!("the bake was inconclusive: {why}");
            if plan.inconclusive == Inconclusive::Promote {
                warnings.push(text.clone());
            }
            PhaseResult::not(Step::Inconclusive, why).with_reason(text)
        }
    };
    result.with_warnings(warnings)
}

/// Waits for promote or abort; hard failures still count. Fails when not promoted within 24 h.
pub(super) async fn hold(
    service: &Rc<Service>,
    assignment: &Assignment,
    machine: &Machine,
) -> PhaseResult {
    const HOLD: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);
    if machine.is_held_by_failure() {
        return hold_up(service, assignment).await;
    }
    let Assignment { release, generation, .. } = *assignment;
    let Some(crew) = service.fleet.get(generation) else {
        return died(service, generation, release);
    };
    let mut ends = crew.n_ends.subscribe();
    if *ends.borrow_and_update() == 0 && tokio::time::timeout(HOLD, ends.changed()).await.is_err() {
        return PhaseResult::failed("not promoted within 24 h".to_owned());
    }
    died(service, generation, release)
}

/// Holds what failed and cannot be taken back. It is kept up like one that serves until somebody decides.
async fn hold_up(service: &Rc<Service>, assignment: &Assignment) -> PhaseResult {
    let Assignment { release, generation, .. } = *assignment;
    let crew = match service.fleet.get(generation) {
        Some(crew) => crew,
        None => {
            let settings = match release::settings(&service.paths, release) {
                Ok(settings) => settings,
                Err(error) => return PhaseResult::failed(error.to_string()),
            };
            match start::start(service, generation, release, settings).await {
                Ok(crew) => crew,
                Err(error) => return PhaseResult::failed(error.to_string()),
            }
        }
    };
    if service.routing.live() != Some(generation) {
        let flipped = flip(service, assignment, Kind::Release, None).await;
        if flipped.step != Step::Ok {
            return flipped;
        }
    }
    crew.duty.set(Duty::Live);
    revive(service, &crew);
    std::future::pending().await
}

/// The one rename. The state in memory is the state on disk.
pub(super) fn commit(service: &Rc<Service>, assignment: &Assignment, kind: Kind) -> PhaseResult {
    let Assignment { op, release, generation, old, .. } = *assignment;
    let served = Served { release: release.0, generation: generation.0, op: op.0 };
    let warm = conclusion::warm(kind, Way::Forward);
    let standby = rollback::standby_record(service, warm, old);
    let saved = service.durable.save(|state| {
        state.last_good = Some(served);
        state.standby = standby;
        state.alarm = None;
    });
    if let Err(error) = saved {
        return PhaseResult::not(Step::Failed, error.to_string());
    }
    if let Some(crew) = service.fleet.get(generation) {
        crew.duty.set(Duty::Live);
        service.condition.serves();
        // It may have ended between its last good probe and now: from here on the guard has it.
        revive(service, &crew);
    }
    PhaseResult::ok(format!("last good: {release}")).with_warnings(wrap_up(service, release))
}

/// What follows from a commit; done again when a crash came right after the rename.
/// What is committed stays, so a failure is a warning.
#[must_use]
pub(super) fn wrap_up(service: &Service, release: ReleaseId) -> Option<String> {
    if let Err(error) = trial::clear(&service.paths) {
        return Some(error.to_string());
    }
    let marked = release::set_verdict(&service.paths, release, Verdict::Good, None);
    marked.err().map(|error| error.to_string())
}

/// Before any flip: the candidate goes, and what was staged.
pub(super) async fn undo(
    service: &Rc<Service>,
    assignment: &Assignment,
    succession: Succession,
    intake: &Intake,
    reason: Option<&str>,
) -> PhaseResult {
    let Assignment { op, release, generation, .. } = *assignment;
    // Connections held for the candidate go to the generation that was live before.
    let live = service.live_crew().filter(|live| live.is_alive());
    if let Some(live) = live.filter(|_| succession == Succession::InTurn) {
        if let Err(error) = service.steer_to(&live, Duty::Live) {
            return PhaseResult::not(Step::Failed, error.to_string());
        }
        service.tend();
    }
    intake.call_off().await;
    if let Some(crew) = service.fleet.get(generation) {
        retire::stop_now(service, &crew).await;
    }
    let mut warnings = Vec::new();
    if let Err(error) = artifact::discard(&service.paths, op) {
        warnings.push(format!("removing what was staged: {error}"));
    }
    let is_new = service.paths.meta(release).is_dir()
        && release::known(&service.paths, release)
            .is_ok_and(|known| known.verdict == Verdict::Staged);
    if is_new {
        let why = reason.map(str::to_owned);
        let said = release::set_verdict(&service.paths, release, Verdict::Aborted, why);
        warnings.extend(said.err().map(|error| error.to_string()));
    }
    // A copy of the data that it was called off from.
    backup::sweep(service);
    close_if_nobody_serves(service).await;
    PhaseResult::ok("as before").with_warnings(warnings)
}

/// A first release that did not make it: its listeners are refused again, not hanging.
async fn close_if_nobody_serves(service: &Rc<Service>) {
    if service.live_crew().is_none() && service.fleet.all().is_empty() {
        service.slots.close(service.link()).await;
    }
}

fn pids(crew: &Crew) -> String {
    // One that has ended at once is named all the same.
    let pid = |instance: &Rc<Instance>| {
        instance.pid().or_else(|| instance.last_end.get().map(|last| last.pid))
    };
    let pids: Vec<String> =
        crew.instances().iter().filter_map(pid).map(|pid| pid.to_string()).collect();
    format!("pid {}", pids.join(", "))
}
