//! All new connections go to the candidate.

use std::path::Path;
use std::rc::Rc;

use crate::core::duty::Duty;
use crate::core::exit::Exit;
use crate::core::ids::ReleaseId;
use crate::core::operation::machine::Kind;
use crate::core::time::Tick;
use crate::os::{clock, fs};
use crate::store::reserve;
use crate::supervisor::instances::outside_proxy;
use crate::supervisor::operation::assignment::Assignment;
use crate::supervisor::operation::phases::candidate::died;
use crate::supervisor::operation::phases::{in_turn, trial as on_trial};
use crate::supervisor::service::Service;
use crate::supervisor::service::phase_result::PhaseResult;

/// Trial file, steer, `current`. Performed again after a crash it ends the same.
pub(crate) async fn flip(
    service: &Rc<Service>,
    assignment: &Assignment,
    kind: Kind,
    parked: Option<Tick>,
) -> PhaseResult {
    let Assignment { release, generation: id, .. } = *assignment;
    let Some(generation) = service.fleet.get(id) else {
        return died(service, id, release);
    };
    if let Err(error) = on_trial::begin(service, assignment, kind) {
        return PhaseResult::refused(Exit::NoSpace, error.to_string());
    }
    if let Err(error) = outside_proxy::point(service, &generation).await {
        return PhaseResult::failed(error.to_string());
    }
    let begun = clock::monotonic_ns();
    if let Err(error) = service.steer_to(&generation, Duty::Trial) {
        return PhaseResult::failed(error.to_string());
    }
    let us = (clock::monotonic_ns() - begun) / 1000;
    let mut warnings = Vec::from_iter(point_current(service, release));
    warnings.extend(runs_again(service));
    for instance in &generation.instances() {
        if let Err(error) = service.slots.restore_backlogs(&instance.slots) {
            warnings.push(error.to_string());
        }
    }
    service.tend();
    let gap = in_turn::gap_text(service, parked);
    PhaseResult::ok(format!("steered in {us} us{gap}")).with_warnings(warnings)
}

/// A service that was stopped has connections again: from here on a reboot starts it. A disk that is
/// full is a warning.
#[must_use]
pub(crate) fn runs_again(service: &Service) -> Option<String> {
    if !service.durable.state().stopped {
        return None;
    }
    let saved = service.durable.change(|state| state.stopped = false);
    Some(format!("a reboot would not start it: {}", saved.err()?))
}

/// Points `current` at a release: for people and static files, so a failure is a warning.
#[must_use]
pub(crate) fn point_current(service: &Service, release: ReleaseId) -> Option<String> {
    let target = Path::new("releases").join(release.to_string());
    let mut swap = || fs::swap_symlink(&service.paths.current(), &target);
    let error = reserve::spend(&service.paths.reserve(), &mut swap).err()?;
    Some(format!("current does not point at release {release}: {error}"))
}
