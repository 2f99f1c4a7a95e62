//! A release waits for promote or abort.

use std::rc::Rc;

use crate::core::duty::Duty;
use crate::core::operation::machine::{Event as Step, Kind, Machine};
use crate::store::release;
use crate::supervisor::instances::restarter::revive;
use crate::supervisor::instances::start;
use crate::supervisor::operation::assignment::Assignment;
use crate::supervisor::operation::phases::candidate::died;
use crate::supervisor::operation::phases::flip::flip;
use crate::supervisor::service::Service;
use crate::supervisor::service::phase_result::PhaseResult;

/// Waits for promote or abort; hard failures still count. Fails when not promoted within 24 h.
pub(crate) async fn hold(
    service: &Rc<Service>,
    assignment: &Assignment,
    machine: &Machine,
) -> PhaseResult {
    const HOLD: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);
    if machine.is_held_by_failure() {
        return hold_up(service, assignment).await;
    }
    let Assignment { release, generation: id, .. } = *assignment;
    let Some(generation) = service.fleet.get(id) else {
        return died(service, id, release);
    };
    let mut ends = generation.ends();
    if *ends.borrow_and_update() == 0 && tokio::time::timeout(HOLD, ends.changed()).await.is_err() {
        return PhaseResult::failed("not promoted within 24 h".to_owned());
    }
    died(service, id, release)
}

/// Holds what failed and cannot be taken back. It is kept up like one that serves until somebody decides.
async fn hold_up(service: &Rc<Service>, assignment: &Assignment) -> PhaseResult {
    let Assignment { release, generation: id, .. } = *assignment;
    let generation = match service.fleet.get(id) {
        Some(generation) => generation,
        None => {
            let settings = match release::settings(&service.paths, release) {
                Ok(settings) => settings,
                Err(error) => return PhaseResult::failed(error.to_string()),
            };
            match start::start(service, id, release, settings).await {
                Ok(generation) => generation,
                Err(error) => return PhaseResult::failed(error.to_string()),
            }
        }
    };
    if service.routing.live() != Some(id) {
        let flipped = flip(service, assignment, Kind::Release, None).await;
        if flipped.step != Step::Ok {
            return flipped;
        }
    }
    generation.assign(Duty::Live);
    revive(service, &generation);
    std::future::pending().await
}
