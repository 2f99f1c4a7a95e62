//! What each phase of an operation does. One function a phase; the machine decides what follows.

pub(crate) mod hold;
pub(crate) mod preflight;
pub(crate) mod receive;
pub(crate) mod rollback;
pub(crate) mod rollout_step;

use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use crate::core::duty::Duty;
use crate::core::exit::Exit;
use crate::core::ids::{Generation, ReleaseId};
use crate::core::operation::conclusion::{self, Way};
use crate::core::operation::machine::{Event as Step, Inconclusive, Kind, Machine, Succession};
use crate::core::operation::phase::Phase;
use crate::core::retention::Verdict;
use crate::os::{clock, fs};
use crate::store::state::Served;
use crate::store::trial::{self, Trial};
use crate::store::{intake, release};
use crate::supervisor::bake::{self as baking, Baked, Depth, Watch};
use crate::supervisor::data::backup;
use crate::supervisor::data::migration;
use crate::supervisor::data::trial_migration;
use crate::supervisor::health::diagnosis;
use crate::supervisor::health::gate::{self, Gated, Rigour};
use crate::supervisor::instances::restarter::revive;
use crate::supervisor::instances::retire;
use crate::supervisor::instances::start;
use crate::supervisor::operation::context::Job;
use crate::supervisor::rollback_readiness::rehearsal;
use crate::supervisor::service::Service;
use crate::supervisor::service::instances::Crew;
use crate::supervisor::service::operation::Operation;
use crate::supervisor::service::phase_result::PhaseResult;

/// Performs a phase.
pub(crate) async fn perform(
    service: &Rc<Service>,
    operation: &Rc<Operation>,
    job: &mut Job,
    machine: &Machine,
) -> PhaseResult {
    match machine.phase() {
        Phase::Receive => receive::receive(service, operation, job).await,
        Phase::Verify => receive::verify(service, job).await,
        Phase::Preflight => preflight::preflight(service, operation, job).await,
        Phase::Stage => receive::stage(service, job).await,
        Phase::RehearseOld => rehearsal::old(service, &job.candidate(), &mut job.transcript).await,
        Phase::Backup => backup(service, job).await,
        Phase::RestoreRehearsal => rehearse_restore(service, job).await,
        Phase::Migrate => migration::perform(service, &job.candidate(), &mut job.transcript).await,
        Phase::Park => hold::park(service, job).await,
        Phase::StopOld => hold::stop_old(service, job).await,
        Phase::Start => start_candidate(service, job).await,
        Phase::Gate => gate_candidate(service, job).await,
        Phase::Step(step) => rollout_step::perform(service, job, machine, step).await,
        Phase::StepHold(_) => hold(service, job).await,
        Phase::Flip => flip(service, job, machine).await,
        Phase::Bake => bake(service, job, machine).await,
        Phase::Hold => hold(service, job).await,
        Phase::Commit => commit(service, job, machine),
        Phase::Undo => undo(service, job, machine).await,
        Phase::BackStart(rung) => rollback::start(service, job, rung, machine).await,
        Phase::BackGate(rung) => rollback::gate(service, job, rung).await,
        Phase::BackFlip(rung) => rollback::flip(service, job, rung).await,
        Phase::BackVerify(rung) => rollback::verify(service, job, rung).await,
        Phase::BackCommit(rung) => rollback::commit(service, job, rung, machine),
        Phase::Stranded => rollback::stranded(service, job).await,
        // Run by the room's hooks.
        Phase::Hook(_) | Phase::Done(_) => PhaseResult::skip(""),
    }
}

async fn backup(service: &Rc<Service>, job: &mut Job) -> PhaseResult {
    match trial_migration::backup(service, job.op).await {
        Ok(Some(receipt)) => {
            let detail = trial_migration::receipt_text(&receipt);
            job.receipt = Some(receipt);
            PhaseResult::ok(detail)
        }
        Ok(None) if service.config().backup.is_none() => PhaseResult::skip("none is configured"),
        Ok(None) => PhaseResult::skip("no release has made any data yet"),
        Err(why) => PhaseResult::refused(Exit::BackupFailed, format!("no backup: {why}")),
    }
}

async fn rehearse_restore(service: &Rc<Service>, job: &mut Job) -> PhaseResult {
    let Some(receipt) = job.receipt.clone() else {
        return PhaseResult::skip("there is no backup");
    };
    let candidate = job.candidate();
    trial_migration::rehearse(service, &candidate, receipt, &mut job.transcript).await
}

async fn start_candidate(service: &Rc<Service>, job: &mut Job) -> PhaseResult {
    let settings = match release::settings(&service.paths, job.release) {
        Ok(settings) => settings,
        Err(error) => return PhaseResult::failed(error.to_string()),
    };
    match start::start(service, job.generation, job.release, settings).await {
        Ok(crew) => PhaseResult::ok(format!("generation {}, {}", job.generation, pids(&crew))),
        Err(error) => PhaseResult::failed(error.to_string()),
    }
}

async fn gate_candidate(service: &Rc<Service>, job: &mut Job) -> PhaseResult {
    let Some(crew) = service.fleet.get(job.generation) else {
        return died(service, job.generation, job.release);
    };
    let limit = hold::gate_limit(service, job, crew.settings.health.deadline);
    match gate::gate(service, &crew, Rigour::Full, limit, &mut job.transcript).await {
        Gated::Open(detail) => PhaseResult::ok(detail),
        Gated::Died => died(service, job.generation, job.release),
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

/// A release that gets connections and is not committed is on trial. PhaseResult again after a crash
/// it keeps the tries it has left; another operation's trial, left over when there was nothing to
/// go back to, is replaced.
///
/// # Errors
/// When the trial cannot be written down.
pub(crate) fn begin_trial(service: &Service, job: &Job, kind: Kind) -> Result<(), String> {
    let present = trial::read(&service.paths).ok().flatten();
    if kind == Kind::Release && present.is_none_or(|trial| trial.op != job.op.0) {
        let trial = Trial {
            version: 1,
            release: job.release.0,
            generation: job.generation.0,
            op: job.op.0,
            n_tries_left: trial::N_TRIES,
        };
        trial::begin(&service.paths, &trial)
            .map_err(|error| format!("beginning the trial: {error}"))?;
    }
    Ok(())
}

/// Trial file, steer, `current`. PhaseResult again after a crash it ends the same.
async fn flip(service: &Rc<Service>, job: &mut Job, machine: &Machine) -> PhaseResult {
    let Some(crew) = service.fleet.get(job.generation) else {
        return died(service, job.generation, job.release);
    };
    if let Err(why) = begin_trial(service, job, machine.plan().kind) {
        return PhaseResult::failed(why);
    }
    if let Err(why) = service.point_proxy(&crew).await {
        return PhaseResult::failed(why);
    }
    let begun = clock::monotonic_ns();
    if let Err(error) = service.steer_to(&crew, Duty::Trial) {
        return PhaseResult::failed(error.to_string());
    }
    let us = (clock::monotonic_ns() - begun) / 1000;
    point_current(service, job.release, &mut job.warnings);
    for instance in &crew.instances() {
        if let Err(error) = service.slots.restore_backlogs(&instance.slots) {
            job.warnings.push(error.to_string());
        }
    }
    service.tend();
    PhaseResult::ok(format!("steered in {us} us{}", hold::gap_text(service, job)))
}

/// Points `current` at a release: for people and static files, so a failure is a warning.
pub(crate) fn point_current(service: &Service, release: ReleaseId, warnings: &mut Vec<String>) {
    let target = Path::new("releases").join(release.to_string());
    if let Err(error) = fs::swap_symlink(&service.paths.current(), &target) {
        warnings.push(format!("current does not point at release {release}: {error}"));
    }
}

async fn bake(service: &Rc<Service>, job: &mut Job, machine: &Machine) -> PhaseResult {
    let Some(crew) = service.fleet.get(job.generation) else {
        return died(service, job.generation, job.release);
    };
    if machine.plan().kind == Kind::Restart || crew.settings.bake.length.is_zero() {
        return PhaseResult::skip("off");
    }
    let old = job.old.and_then(|old| service.fleet.get(old));
    let beside = old.filter(|old| old.is_alive() && old.generation != crew.generation);
    let watch = Watch { depth: Depth::Full(crew.settings.bake.length), beside };
    let report =
        baking::watch(service, &crew, &watch, Rc::clone(&job.curve), &mut job.transcript).await;
    job.warnings.extend(report.warnings);
    match report.baked {
        Baked::Pass(detail) => PhaseResult::ok(detail),
        Baked::Died => died(service, job.generation, job.release),
        Baked::Fail(why) => {
            let lines = diagnosis::last_lines(service, &crew);
            PhaseResult::failed(format!("{why}{lines}"))
        }
        Baked::Inconclusive(why) => {
            let text = format!("the bake was inconclusive: {why}");
            if machine.plan().inconclusive == Inconclusive::Promote {
                job.warnings.push(text.clone());
            }
            job.blame(text);
            PhaseResult::not(Step::Inconclusive, why)
        }
    }
}

/// Waits for promote or abort; hard failures still count. Fails when not promoted within 24 h.
async fn hold(service: &Rc<Service>, job: &mut Job) -> PhaseResult {
    const HOLD: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);
    let Some(crew) = service.fleet.get(job.generation) else {
        return died(service, job.generation, job.release);
    };
    let mut ends = crew.n_ends.subscribe();
    if *ends.borrow_and_update() == 0 && tokio::time::timeout(HOLD, ends.changed()).await.is_err() {
        return PhaseResult::failed("not promoted within 24 h".to_owned());
    }
    died(service, job.generation, job.release)
}

/// The one rename. The state in memory is the state on disk.
fn commit(service: &Rc<Service>, job: &mut Job, machine: &Machine) -> PhaseResult {
    let served = Served { release: job.release.0, generation: job.generation.0, op: job.op.0 };
    let warm = conclusion::warm(machine.plan().kind, Way::Forward);
    let standby = rollback::standby_record(service, warm, job.old);
    let saved = service.durable.save(|state| {
        state.last_good = Some(served);
        state.standby = standby;
        state.alarm = None;
    });
    if let Err(error) = saved {
        return PhaseResult::not(Step::Failed, error.to_string());
    }
    if let Some(crew) = service.fleet.get(job.generation) {
        crew.duty.set(Duty::Live);
        service.condition.serves();
        // It may have ended between its last good probe and now: from here on the guard has it.
        revive(service, &crew);
    }
    wrap_up(service, job);
    PhaseResult::ok(format!("last good: {}", job.release))
}

/// What follows from a commit; done again when a crash came right after the rename.
pub(crate) fn wrap_up(service: &Service, job: &mut Job) {
    let wrapped_up =
        trial::clear(&service.paths).map_err(|error| error.to_string()).and_then(|()| {
            release::set_verdict(&service.paths, job.release, Verdict::Good, None)
                .map_err(|error| error.to_string())
        });
    if let Err(error) = wrapped_up {
        job.warnings.push(error);
    }
}

/// Before any flip: the candidate goes, and what was staged.
async fn undo(service: &Rc<Service>, job: &mut Job, machine: &Machine) -> PhaseResult {
    // Connections held for the candidate go to the generation that was live before.
    let live = service.live_crew().filter(|live| live.is_alive());
    if let Some(live) = live.filter(|_| machine.plan().succession == Succession::InTurn) {
        if let Err(error) = service.steer_to(&live, Duty::Live) {
            return PhaseResult::not(Step::Failed, error.to_string());
        }
        service.tend();
    }
    job.intake.cancelled.store(true, Ordering::Relaxed);
    drop(job.intake.idle.lock().await);
    if let Some(crew) = service.fleet.get(job.generation) {
        retire::stop_now(service, &crew).await;
    }
    if let Err(error) = intake::discard(&service.paths, job.op) {
        job.warnings.push(format!("removing what was staged: {error}"));
    }
    let is_new = service.paths.meta(job.release).is_dir()
        && release::known(&service.paths, job.release)
            .is_ok_and(|known| known.verdict == Verdict::Staged);
    if is_new {
        let why = job.why.lines().next().map(str::to_owned);
        let said = release::set_verdict(&service.paths, job.release, Verdict::Aborted, why);
        if let Err(error) = said {
            job.warnings.push(error.to_string());
        }
    }
    // A copy of the data that it was called off from.
    backup::sweep(service);
    close_if_nobody_serves(service).await;
    PhaseResult::ok("as before")
}

/// A first release that did not make it: its listeners are refused again, not hanging.
async fn close_if_nobody_serves(service: &Rc<Service>) {
    if service.live_crew().is_none() && service.fleet.all().is_empty() {
        service.slots.close(service.link()).await;
    }
}

fn pids(crew: &Crew) -> String {
    let pids: Vec<String> =
        crew.instances().iter().filter_map(|i| i.pid()).map(|pid| pid.to_string()).collect();
    format!("pid {}", pids.join(", "))
}
