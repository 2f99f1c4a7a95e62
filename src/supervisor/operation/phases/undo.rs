//! Before any flip: everything is as it was before.

use std::rc::Rc;

use crate::core::duty::Duty;
use crate::core::operation::machine::{Event as Step, Succession};
use crate::core::retention::Verdict;
use crate::os::fs;
use crate::store::{intake as artifact, release};
use crate::supervisor::data::backup;
use crate::supervisor::instances::retire;
use crate::supervisor::operation::assignment::Assignment;
use crate::supervisor::operation::intake::Intake;
use crate::supervisor::service::Service;
use crate::supervisor::service::phase_result::PhaseResult;
use crate::supervisor::spawn;

/// Before any flip: the candidate goes, and what was staged.
pub(crate) async fn undo(
    service: &Rc<Service>,
    assignment: &Assignment,
    succession: Succession,
    intake: &Intake,
    reason: Option<&str>,
) -> PhaseResult {
    let Assignment { op, release, generation: id, .. } = *assignment;
    // Connections held for the candidate go to the generation that was live before.
    let live = service.live_generation().filter(|live| live.is_alive());
    if let Some(live) = live.filter(|_| succession == Succession::InTurn) {
        if let Err(error) = service.steer_to(&live, Duty::Live) {
            return PhaseResult::not(Step::Failed, error.to_string());
        }
        service.tend();
    }
    intake.call_off().await;
    if let Some(generation) = service.fleet.get(id) {
        retire::stop_now(service, &generation).await;
    }
    let mut warnings = Vec::new();
    let paths = service.paths.clone();
    let discarded = spawn::blocking(move || {
        artifact::discard(&paths, op)?;
        let is_one = paths.release(release).exists();
        if is_one { Ok(()) } else { fs::remove_tree(&paths.writable(release)) }
    })
    .await;
    if let Err(error) = discarded.flatten() {
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

/// A first release that did not make it, or one of a stopped service: its listeners are refused again, not hanging.
async fn close_if_nobody_serves(service: &Rc<Service>) {
    let is_wanted = service.durable.last_good().is_some() && !service.durable.state().stopped;
    if !is_wanted && service.live_generation().is_none() && service.fleet.all().is_empty() {
        service.slots.close(service.link()).await;
    }
}
