//! Hooks: commands around the points of a release, each inside the phase it belongs to.
//!
//! A `before_*` hook that fails, fails its phase, and traffic has not moved by then. An `after_*`
//! hook never changes an outcome: it is a warning. A rollback runs no hook that could stop it and
//! none of the release that is left; `after_rollback` is of the release that serves then. A restart
//! runs none.
//!
//! A point's hooks are run at most once: their beginning is on the disk before they begin. What a
//! supervisor's death cut off (the next one ends the command) is not run again, because nobody
//! knows how far it came: a `before_*` point fails its phase then, an `after_*` point is a warning.

use std::rc::Rc;

use tokio::sync::mpsc;

use crate::config::model::Settings;
use crate::core::exit::Exit;
use crate::core::ids::ReleaseId;
use crate::core::operation::machine::{Deploy, Event as Step, Kind, Outcome as Ended, Succession};
use crate::core::operation::phase::Phase;
use crate::core::operation::point::Point;
use crate::store::journal::Journal;
use crate::store::release;
use crate::supervisor::operation::context::Job;
use crate::supervisor::operation::phases;
use crate::supervisor::operation::phases::hold;
use crate::supervisor::service::Service;
use crate::supervisor::service::operation::{Doing, Operation, Order};
use crate::supervisor::service::phase_result::PhaseResult;
use crate::supervisor::tasks::hook_run::Call;
use crate::supervisor::tasks::hook_state::{Mark, Noting};

/// Performs a phase with its hooks.
pub async fn perform(
    service: &Rc<Service>,
    operation: &Rc<Operation>,
    job: &mut Job,
    machine: &Deploy,
    journal: &mut Journal,
) -> PhaseResult {
    let plan = machine.plan();
    if plan.kind != Kind::Release {
        return phases::perform(service, operation, job, machine).await;
    }
    let before: &[Point] = match (machine.phase(), plan.succession) {
        (Phase::Migrate, _) => &[Point::BeforeMigrate],
        (Phase::Start, Succession::Overlap) => &[Point::BeforeStart],
        // Nobody waits yet, and the old one is untouched.
        (Phase::Park, Succession::InTurn) => &[Point::BeforeStart, Point::BeforeStop],
        _ => &[],
    };
    for point in before {
        if let Err(why) = must(service, operation, job, *point, journal).await {
            return match machine.phase() {
                Phase::Start => PhaseResult::failed(why),
                _ => PhaseResult::refused(Exit::PreflightRefused, why),
            };
        }
    }
    if machine.phase() == Phase::Bake {
        return bake(service, operation, job, machine, journal).await;
    }
    let performed = phases::perform(service, operation, job, machine).await;
    if machine.phase() != Phase::Gate || performed.step != Step::Ok {
        return performed;
    }
    match must(service, operation, job, Point::BeforeFlip, journal).await {
        Ok(()) if service.fleet.get(job.generation).is_some_and(|crew| crew.is_whole()) => {
            performed
        }
        Ok(()) => phases::died(service, job.generation, job.release),
        Err(why) => PhaseResult::failed(why),
    }
}

/// Runs a point whose failure is its phase's.
async fn must(
    service: &Rc<Service>,
    operation: &Operation,
    job: &mut Job,
    point: Point,
    journal: &mut Journal,
) -> Result<(), String> {
    match job.hooks.get(point) {
        None => {}
        Some(Mark::Good) => return Ok(()),
        Some(Mark::Begun) => {
            let name = point.name();
            return Err(format!(
                "hook {name}: interrupted when the supervisor went down, and not run again"
            ));
        }
        Some(Mark::Failed(why)) => return Err(why.clone()),
    }
    let of = match point {
        Point::BeforeStop => {
            let Some(old) = service.live_crew() else { return Ok(()) };
            (old.release, old.settings.clone())
        }
        _ => candidate(service, job)?,
    };
    let before = if point == Point::BeforeStop { None } else { before(job) };
    let Some(call) = Call::new(job.op, Kind::Release, point, of, before) else { return Ok(()) };
    let mut noting = Noting::new(operation, journal);
    noting.begin(&mut job.hooks, point)?;
    // What is waited for is seen in `status`.
    let phase = operation.phase.replace(Some(Doing::Hook(point)));
    let limit = |deadline| hold::gate_limit(service, job, deadline);
    let ended = call.run_all(service, limit).await;
    operation.phase.set(phase);
    noting.end(&mut job.hooks, &call, &ended);
    ended
}

/// The bake, with `after_flip` beside it: a candidate that turns bad meanwhile is left at once, and
/// its hook is ended.
async fn bake(
    service: &Rc<Service>,
    operation: &Rc<Operation>,
    job: &mut Job,
    machine: &Deploy,
    journal: &mut Journal,
) -> PhaseResult {
    let of = candidate(service, job).ok();
    let fresh = job.hooks.get(Point::AfterFlip).is_none();
    let call = of
        .filter(|_| fresh)
        .and_then(|of| Call::new(job.op, Kind::Release, Point::AfterFlip, of, before(job)));
    let (Some(call), Some(crew)) = (call, service.fleet.get(job.generation)) else {
        return phases::perform(service, operation, job, machine).await;
    };
    let mut noting = Noting::new(operation, journal);
    if let Err(why) = noting.begin(&mut job.hooks, call.point) {
        job.warnings.push(why);
        return phases::perform(service, operation, job, machine).await;
    }
    let mut deaths = crew.n_ends.subscribe();
    let mut hooks = std::pin::pin!(call.run_each(service));
    let mut ended = None;
    let performed = {
        let mut baked = std::pin::pin!(phases::perform(service, operation, job, machine));
        loop {
            tokio::select! {
                biased;
                performed = &mut baked => break performed,
                said = &mut hooks, if ended.is_none() => ended = Some(said),
            }
        }
    };
    if ended.is_none() && performed.step == Step::Ok {
        tokio::select! {
            biased;
            _ = deaths.changed() => {
                return phases::died(service, job.generation, job.release);
            }
            said = &mut hooks => ended = Some(said),
        }
    }
    if let Some(ended) = &ended {
        noting.end(&mut job.hooks, &call, ended);
    }
    performed
}

/// Runs what comes after the last phase, and adds to the warnings what went wrong with any
/// `after_*` hook. Somebody who says `abort` does not wait for them.
pub async fn at_end(
    service: &Rc<Service>,
    operation: &Operation,
    job: &mut Job,
    journal: &mut Journal,
    (kind, ended): (Kind, Ended),
    orders: &mut mpsc::UnboundedReceiver<Order>,
) {
    if let Some(call) = last_call(service, job, kind, ended) {
        let mut noting = Noting::new(operation, journal);
        match noting.begin(&mut job.hooks, call.point) {
            Err(why) => job.warnings.push(why),
            Ok(()) => {
                operation.phase.set(Some(Doing::Hook(call.point)));
                let ended = tokio::select! {
                    biased;
                    ended = call.run_each(service) => ended,
                    () = aborted(orders) => {
                        Err(format!("hook {}: ended by abort", call.point.name()))
                    }
                };
                noting.end(&mut job.hooks, &call, &ended);
            }
        }
    }
    job.warnings.extend(job.hooks.warnings());
}

fn last_call(service: &Service, job: &Job, kind: Kind, ended: Ended) -> Option<Call> {
    let (point, of, before) = match (ended, kind) {
        (Ended::Committed, Kind::Release) => {
            (Point::AfterCommit, candidate(service, job).ok()?, before(job))
        }
        (Ended::RolledBack(_), Kind::Release | Kind::Rollback) => {
            let crew = service.live_crew()?;
            let old = job.old.and_then(|generation| service.fleet.get(generation));
            let left = match kind {
                Kind::Release => Some(job.release),
                _ => old.map(|crew| crew.release),
            };
            (Point::AfterRollback, (crew.release, crew.settings.clone()), left)
        }
        _ => return None,
    };
    let fresh = job.hooks.get(point).is_none();
    Call::new(job.op, kind, point, of, before).filter(|_| fresh)
}

async fn aborted(orders: &mut mpsc::UnboundedReceiver<Order>) {
    loop {
        match orders.recv().await {
            Some(Order::Abort) => return,
            Some(Order::Promote | Order::Yield) => {}
            None => std::future::pending().await,
        }
    }
}

/// The release that is brought in, with the settings it is sealed with.
fn candidate(service: &Service, job: &Job) -> Result<(ReleaseId, Settings), String> {
    let settings = release::settings(&service.paths, job.release);
    settings.map(|settings| (job.release, settings)).map_err(|error| error.to_string())
}

/// What served when the release began.
fn before(job: &Job) -> Option<ReleaseId> {
    job.ladder.first().copied()
}
