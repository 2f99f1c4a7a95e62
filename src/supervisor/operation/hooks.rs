//! Hooks: commands around the points of a release. Each point is a phase of the machine, which
//! decides what follows a failure, an abort or a crash; this file runs the commands.
//!
//! A `before_*` hook that fails, fails the release, and traffic has not moved by then. An `after_*`
//! hook never changes an outcome: it is a warning. A rollback runs no hook that could stop it and
//! none of the release that is left; `after_rollback` is of the release that serves then. A restart
//! runs none. `after_flip` runs beside the bake, which does not wait for it when it turns bad: it is
//! part of that phase.
//!
//! A point's hooks are run at most once: their beginning is on the disk before they begin. What a
//! supervisor's death cut off (the next one ends the command) is not run again, because how
//! far it came is unknown. A point without hooks is passed over and leaves no line.

use std::rc::Rc;

use crate::config::model::Settings;
use crate::core::ids::ReleaseId;
use crate::core::operation::machine::{Event as Step, Kind, Machine};
use crate::core::operation::phase::Phase;
use crate::core::operation::point::Point;
use crate::os::clock;
use crate::store::journal::Journal;
use crate::store::release;
use crate::supervisor::operation::context::Job;
use crate::supervisor::operation::phases;
use crate::supervisor::operation::phases::hold;
use crate::supervisor::service::Service;
use crate::supervisor::service::operation::Operation;
use crate::supervisor::service::phase_result::PhaseResult;
use crate::supervisor::tasks::hook_run::Call;
use crate::supervisor::tasks::hook_state::{HookState, Mark, Noting};

/// Performs a phase; a point's hooks are a phase, those after the flip are part of the bake.
pub(crate) async fn perform(
    service: &Rc<Service>,
    operation: &Rc<Operation>,
    job: &mut Job,
    machine: &Machine,
    journal: &mut Journal,
) -> PhaseResult {
    match (machine.phase(), machine.plan().kind) {
        (Phase::Hook(point), kind) => at(service, operation, job, (kind, point), journal).await,
        (Phase::Bake, Kind::Release) => bake(service, operation, job, machine, journal).await,
        _ => phases::perform(service, operation, job, machine).await,
    }
}

/// Runs a point's hooks, unless they have been begun before.
async fn at(
    service: &Rc<Service>,
    operation: &Operation,
    job: &mut Job,
    (kind, point): (Kind, Point),
    journal: &mut Journal,
) -> PhaseResult {
    let ended = match outcome(&job.hooks, point) {
        Some(ended) => ended,
        None => run(service, operation, job, (kind, point), journal).await,
    };
    let is_whole = || service.fleet.get(job.generation).is_some_and(|crew| crew.is_whole());
    match (ended, point) {
        (Ok(()), Point::BeforeFlip) if !is_whole() => {
            phases::died(service, job.generation, job.release)
        }
        (Ok(()), _) => PhaseResult::ok(""),
        // What their failure means is in the warnings of the end.
        (Err(why), Point::AfterFlip | Point::AfterCommit | Point::AfterRollback) => {
            PhaseResult::not(Step::Failed, why)
        }
        (Err(why), _) => PhaseResult::failed(why),
    }
}

/// How the hooks of a point have ended, when they have been begun: they are not run again.
pub(super) fn outcome(marks: &HookState, point: Point) -> Option<Result<(), String>> {
    let name = point.name();
    Some(match marks.get(point)? {
        Mark::Good => Ok(()),
        Mark::Begun => Err(format!(
            "hook {name}: interrupted when the supervisor went down, and not run again"
        )),
        Mark::Failed(why) => Err(why.clone()),
    })
}

async fn run(
    service: &Rc<Service>,
    operation: &Operation,
    job: &mut Job,
    (kind, point): (Kind, Point),
    journal: &mut Journal,
) -> Result<(), String> {
    let Some(call) = call(service, job, kind, point)? else { return Ok(()) };
    let mut noting = Noting::new(operation, journal);
    if let Err(why) = noting.begin(&mut job.hooks, point) {
        if point == Point::AfterCommit || point == Point::AfterRollback {
            job.warnings.push(why.clone());
        }
        return Err(why);
    }
    // What is waited for is seen in `status`.
    operation.phase.set(Some(Phase::Hook(point)));
    operation.phase_started.set(clock::tick());
    let ended = match point {
        Point::AfterFlip | Point::AfterCommit | Point::AfterRollback => {
            call.run_each(service).await
        }
        Point::BeforeMigrate | Point::BeforeStart | Point::BeforeFlip | Point::BeforeStop => {
            let limit = |deadline| hold::gate_limit(service, job, deadline);
            call.run_all(service, limit).await
        }
    };
    noting.end(&mut job.hooks, point, &ended.clone().map(|()| call.commands()));
    ended
}

/// A point's commands, in whose tree they run, and what they must know. None when it has none.
fn call(service: &Service, job: &Job, kind: Kind, point: Point) -> Result<Option<Call>, String> {
    let live = || service.live_crew().map(|crew| (crew.release, crew.settings.clone()));
    let (of, before) = match point {
        Point::BeforeStop => (live(), None),
        Point::AfterRollback => {
            let old = job.old.and_then(|generation| service.fleet.get(generation));
            let left = match kind {
                Kind::Release => Some(job.release),
                Kind::Rollback | Kind::Restart => old.map(|crew| crew.release),
            };
            (live(), left)
        }
        // Too late for a refusal: what is committed stays.
        Point::AfterCommit => (candidate(service, job).ok(), before(job)),
        Point::BeforeMigrate | Point::BeforeStart | Point::BeforeFlip | Point::AfterFlip => {
            (Some(candidate(service, job)?), before(job))
        }
    };
    Ok(of.and_then(|of| Call::new(job.op, kind, point, of, before)))
}

/// `abort` does not wait for hooks after the end.
pub(crate) fn abort(operation: &Operation, job: &mut Job, journal: &mut Journal, point: Point) {
    let ended = Err(format!("hook {}: ended by abort", point.name()));
    Noting::new(operation, journal).end(&mut job.hooks, point, &ended);
}

/// The bake, with `after_flip` beside it: a candidate that turns bad meanwhile is left at once, and
/// its hook is ended.
async fn bake(
    service: &Rc<Service>,
    operation: &Rc<Operation>,
    job: &mut Job,
    machine: &Machine,
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
        noting.end(&mut job.hooks, call.point, &ended.clone().map(|()| call.commands()));
    }
    performed
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
