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
use crate::core::operation::machine::{Event as Step, Kind};
use crate::core::operation::point::Point;
use crate::core::time::Tick;
use crate::store::release::{self, ReleaseError};
use crate::supervisor::operation::assignment::Assignment;
use crate::supervisor::operation::phases::{candidate, in_turn};
use crate::supervisor::service::Service;
use crate::supervisor::service::phase_result::PhaseResult;
use crate::supervisor::tasks::hook_error::HookError;
use crate::supervisor::tasks::hook_run::Call;
use crate::supervisor::tasks::hook_state::{Mark, Noting};

/// Runs a point's hooks, unless they have been begun before.
pub(crate) async fn at(
    service: &Rc<Service>,
    noting: &mut Noting<'_>,
    assignment: &Assignment,
    (kind, point): (Kind, Point),
    parked: Option<Tick>,
) -> PhaseResult {
    let mut warnings = Vec::new();
    let ended = match noting.mark(point) {
        Some(mark) => outcome(mark, point),
        None => match call(service, assignment, kind, point) {
            Ok(Some(call)) => run(service, noting, assignment, &call, parked, &mut warnings).await,
            Ok(None) => Ok(()),
            Err(error) => Err(error.into()),
        },
    };
    let Assignment { release, generation: id, .. } = *assignment;
    let is_whole = || service.fleet.get(id).is_some_and(|generation| generation.is_whole());
    let result = match (ended, point) {
        (Ok(()), Point::BeforeFlip) if !is_whole() => candidate::died(service, id, release),
        (Ok(()), _) => PhaseResult::ok(""),
        // What their failure means is in the warnings of the end.
        (Err(error), Point::AfterFlip | Point::AfterCommit | Point::AfterRollback) => {
            PhaseResult::not(Step::Failed, error.to_string())
        }
        (Err(error), _) => PhaseResult::failed(error.to_string()),
    };
    result.with_warnings(warnings)
}

/// How the hooks of a point have ended that have been begun: they are not run again.
pub(super) fn outcome(mark: &Mark, point: Point) -> Result<(), HookError> {
    match mark {
        Mark::Good => Ok(()),
        Mark::Begun => Err(HookError::Interrupted { point }),
        Mark::Failed(why) => Err(HookError::Recorded(why.clone())),
    }
}

async fn run(
    service: &Rc<Service>,
    noting: &mut Noting<'_>,
    assignment: &Assignment,
    call: &Call,
    parked: Option<Tick>,
    warnings: &mut Vec<String>,
) -> Result<(), HookError> {
    let point = call.point;
    if let Err(error) = noting.begin(point) {
        if point == Point::AfterCommit || point == Point::AfterRollback {
            warnings.push(error.to_string());
        }
        return Err(error);
    }
    noting.show(point);
    let ended = match point {
        Point::AfterFlip | Point::AfterCommit | Point::AfterRollback => {
            call.run_each(service).await
        }
        Point::BeforeMigrate | Point::BeforeStart | Point::BeforeFlip | Point::BeforeStop => {
            let limit = |deadline| in_turn::gate_limit(assignment, parked, deadline);
            call.run_all(service, limit).await
        }
    };
    noting.end(point, ended.as_ref().map(|()| call.commands()));
    ended
}

/// A point's commands, in whose tree they run, and what they must know. None when it has none.
fn call(
    service: &Service,
    assignment: &Assignment,
    kind: Kind,
    point: Point,
) -> Result<Option<Call>, ReleaseError> {
    let live = || {
        service
            .live_generation()
            .map(|generation| (generation.release, generation.settings.clone()))
    };
    let (of, before) = match point {
        Point::BeforeStop => (live(), None),
        Point::AfterRollback => (live(), assignment.left),
        // Too late for a refusal: what is committed stays.
        Point::AfterCommit => (candidate(service, assignment).ok(), assignment.back_to()),
        Point::BeforeMigrate | Point::BeforeStart | Point::BeforeFlip | Point::AfterFlip => {
            (Some(candidate(service, assignment)?), assignment.back_to())
        }
    };
    Ok(of.and_then(|of| Call::new(assignment.op, kind, point, of, before)))
}

/// `abort` does not wait for hooks after the end.
pub(crate) fn abort(noting: &mut Noting<'_>, point: Point) {
    noting.end(point, Err(&HookError::Aborted { point }));
}

/// The bake, with `after_flip` beside it: a candidate that turns bad meanwhile is left at once, and
/// its hook is ended. The bake's warnings count also when the wait for the hook is cut short.
pub(crate) async fn beside_bake(
    service: &Rc<Service>,
    noting: &mut Noting<'_>,
    assignment: &Assignment,
    bake: impl Future<Output = PhaseResult>,
    warnings: &mut Vec<String>,
) -> PhaseResult {
    let point = Point::AfterFlip;
    let fresh = noting.mark(point).is_none();
    let of = candidate(service, assignment).ok().filter(|_| fresh);
    let back_to = assignment.back_to();
    let call = of.and_then(|of| Call::new(assignment.op, Kind::Release, point, of, back_to));
    let (Some(call), Some(generation)) = (call, service.fleet.get(assignment.generation)) else {
        return bake.await;
    };
    if let Err(error) = noting.begin(point) {
        warnings.push(error.to_string());
        return bake.await;
    }
    let mut deaths = generation.ends();
    let mut hooks = std::pin::pin!(call.run_each(service));
    let mut ended = None;
    let mut baked = {
        let mut bake = std::pin::pin!(bake);
        loop {
            tokio::select! {
                biased;
                baked = &mut bake => break baked,
                said = &mut hooks, if ended.is_none() => ended = Some(said),
            }
        }
    };
    warnings.append(&mut baked.warnings);
    if ended.is_none() && baked.step == Step::Ok {
        tokio::select! {
            biased;
            _ = deaths.changed() => {
                return candidate::died(service, assignment.generation, assignment.release);
            }
            said = &mut hooks => ended = Some(said),
        }
    }
    if let Some(ended) = &ended {
        noting.end(point, ended.as_ref().map(|()| call.commands()));
    }
    baked
}

/// The release that is brought in, with the settings it is sealed with.
fn candidate(
    service: &Service,
    assignment: &Assignment,
) -> Result<(ReleaseId, Settings), ReleaseError> {
    Ok((assignment.release, release::settings(&service.paths, assignment.release)?))
}
