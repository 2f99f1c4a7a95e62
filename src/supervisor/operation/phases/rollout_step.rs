//! One step of a rollout: a part of the connections goes to the candidate, and it is watched. The
//! live release is the control.

use std::rc::Rc;

use crate::config::model::Strategy;
use crate::core::exit::Exit;
use crate::core::operation::machine::{Kind, Plan};
use crate::core::operation::rollout::Part;
use crate::supervisor::bake::{Depth, Watch};
use crate::supervisor::operation::assignment::Assignment;
use crate::supervisor::operation::phases::{bake, candidate, trial};
use crate::supervisor::operation::watching::Watching;
use crate::supervisor::service::Service;
use crate::supervisor::service::phase_result::PhaseResult;

/// How many steps there are before the flip.
pub(crate) fn count(service: &Service, kind: Kind) -> u8 {
    let config = service.config();
    let beside = service.live_generation().is_some_and(|live| live.is_alive());
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
fn part(assignment: &Assignment, kind: Kind, step: u8) -> Part {
    match (&assignment.strategy, kind) {
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
    assignment: &Assignment,
    plan: Plan,
    step: u8,
    watching: &mut Watching,
) -> PhaseResult {
    let Assignment { release, generation: id, .. } = *assignment;
    let Some(generation) = service.fleet.get(id) else {
        return candidate::died(service, id, release);
    };
    if let Err(error) = trial::begin(service, assignment, plan.kind) {
        return PhaseResult::refused(Exit::NoSpace, error.to_string());
    }
    let part = part(assignment, plan.kind, step);
    if let Err(error) = service.steer_part(&generation, part) {
        return PhaseResult::failed(error.to_string());
    }
    service.tend();
    let depth = match part {
        Part::Share(_) => Depth::Full(generation.settings.bake.length),
        // One look at each process under load before the next one takes its place.
        Part::Instances(_) => Depth::Look,
    };
    let beside = service.live_generation().filter(|live| live.id != generation.id);
    let watch = Watch { depth, beside };
    let text = text(part, generation.instances().len());
    bake::watched(service, &generation, &watch, plan, watching, Some(&text)).await
}

fn text(part: Part, n_instances: usize) -> String {
    match part {
        Part::Share(share) if share % 100 == 0 => format!("{} %", share / 100),
        Part::Share(share) => format!("{}.{:02} %", share / 100, share % 100),
        Part::Instances(n) => format!("instance {n} of {n_instances}"),
    }
}
