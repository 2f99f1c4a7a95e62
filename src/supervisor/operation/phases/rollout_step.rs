//! One step of a rollout: a part of the connections goes to the candidate, and it is watched. The
//! live release is the control.

use std::rc::Rc;

use crate::config::model::Strategy;
use crate::core::operation::machine::{Event as Outcome, Inconclusive, Kind, Machine};
use crate::core::operation::rollout::Part;
use crate::supervisor::bake::{self, Baked, Depth, Watch};
use crate::supervisor::health::diagnosis;
use crate::supervisor::operation::context::Job;
use crate::supervisor::operation::phases;
use crate::supervisor::service::Service;
use crate::supervisor::service::phase_result::PhaseResult;

/// How many steps there are before the flip.
pub(crate) fn count(service: &Service, kind: Kind) -> u8 {
    let config = service.config();
    let beside = service.live_crew().is_some_and(|live| live.is_alive());
    let can_share = service.slots.listeners().iter().any(|listener| !listener.is_door());
    let n = match (&config.strategy, kind) {
        _ if !beside || !can_share => 0,
        // The way back is taken at once.
        (_, Kind::Rollback) => 0,
        (Strategy::Canary(steps), Kind::Release) => steps.len(),
        (Strategy::Hold | Strategy::Replace, _) => 0,
        (Strategy::Overlap | Strategy::Canary(_), _) => {
            usize::from(config.settings.instances.saturating_sub(1))
        }
    };
    u8::try_from(n).unwrap_or(u8::MAX)
}

/// The part of the connections on a step.
fn part(service: &Service, kind: Kind, step: u8) -> Part {
    match (&service.config().strategy, kind) {
        (Strategy::Canary(steps), Kind::Release) => {
            let last = steps.last().copied().unwrap_or(0);
            Part::Share(steps.get(usize::from(step)).copied().unwrap_or(last))
        }
        _ => Part::Instances(u16::from(step) + 1),
    }
}

/// Steers a step's part to the candidate and watches it.
pub(crate) async fn perform(
    service: &Rc<Service>,
    job: &mut Job,
    machine: &Machine,
    step: u8,
) -> PhaseResult {
    let Some(crew) = service.fleet.get(job.generation) else {
        return phases::died(service, job.generation, job.release);
    };
    let kind = machine.plan().kind;
    if let Err(why) = phases::begin_trial(service, job, kind) {
        return PhaseResult::failed(why);
    }
    let part = part(service, kind, step);
    if let Err(error) = service.steer_part(&crew, part) {
        return PhaseResult::failed(error.to_string());
    }
    service.tend();
    let depth = match part {
        Part::Share(_) => Depth::Full(crew.settings.bake.length),
        // One look at each process under load before the next one takes its place.
        Part::Instances(_) => Depth::Look,
    };
    let beside = service.live_crew().filter(|live| live.generation != crew.generation);
    let watch = Watch { depth, beside };
    let text = text(part, crew.instances().len());
    let report =
        bake::watch(service, &crew, &watch, Rc::clone(&job.curve), &mut job.transcript).await;
    job.warnings.extend(report.warnings);
    match report.baked {
        Baked::Pass(detail) => PhaseResult::ok(format!("{text}: {detail}")),
        Baked::Died => phases::died(service, job.generation, job.release),
        Baked::Fail(why) => {
            let lines = diagnosis::last_lines(service, &crew);
            PhaseResult::failed(format!("at {text}: {why}{lines}"))
        }
        Baked::Inconclusive(why) => {
            let doubt = format!("the step to {text} was inconclusive: {why}");
            if machine.plan().inconclusive == Inconclusive::Promote {
                job.warnings.push(doubt.clone());
            }
            job.blame(doubt);
            PhaseResult::not(Outcome::Inconclusive, format!("{text}: {why}"))
        }
    }
}

fn text(part: Part, n_instances: usize) -> String {
    match part {
        Part::Share(share) if share % 100 == 0 => format!("{} %", share / 100),
        Part::Share(share) => format!("{}.{:02} %", share / 100, share % 100),
        Part::Instances(n) => format!("instance {n} of {n_instances}"),
    }
}
