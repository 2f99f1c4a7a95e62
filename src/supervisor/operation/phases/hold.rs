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
    let Assignment { release, generation, .. } = *assignment;
    let Some(crew) = service.fleet.get(generation) else {
        return died(service, generation, release);
    };
    let mut ends = crew.ends();
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
    crew.assign(Duty::Live);
    revive(service, &crew);
    std::future::pending().await
}
