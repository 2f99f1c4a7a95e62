//! The candidate: started, and probed until it may get connections.

use std::rc::Rc;

use crate::config::host::Start;
use crate::core::ids::{GenerationId, ReleaseId};
use crate::core::operation::machine::Event as Step;
use crate::core::time::Tick;
use crate::supervisor::health::diagnosis;
use crate::supervisor::health::probe::Transcript;
use crate::supervisor::instances::gate::{self, Gated, Rigour};
use crate::supervisor::instances::start;
use crate::supervisor::operation::assignment::Assignment;
use crate::supervisor::operation::phases::in_turn;
use crate::supervisor::service::Service;
use crate::supervisor::service::instances::{Generation, Instance};
use crate::supervisor::service::phase_result::PhaseResult;
use crate::supervisor::service::settings;

/// Starts the candidate, with the settings that its release is sealed with.
pub(crate) async fn start(service: &Rc<Service>, assignment: &Assignment) -> PhaseResult {
    let Assignment { release, generation: id, .. } = *assignment;
    let settings = match settings::of_start(service, release, Start::Again) {
        Ok(settings) => settings,
        Err(error) => return PhaseResult::failed(error.to_string()),
    };
    match start::start(service, id, release, settings).await {
        Ok(generation) => PhaseResult::ok(format!("generation {id}, {}", pids(&generation))),
        Err(error) => PhaseResult::failed(error.to_string()),
    }
}

/// Probes the candidate until it may get connections, or its time is over.
pub(crate) async fn gate(
    service: &Rc<Service>,
    assignment: &Assignment,
    parked: Option<Tick>,
    transcript: &mut Transcript,
) -> PhaseResult {
    let Assignment { release, generation: id, .. } = *assignment;
    let Some(generation) = service.fleet.get(id) else {
        return died(service, id, release);
    };
    service.watch_kept();
    let limit = in_turn::gate_limit(assignment, parked, generation.settings.health.deadline);
    match gate::gate(service, &generation, Rigour::Full, limit, transcript).await {
        Gated::Open(detail) => PhaseResult::ok(detail),
        Gated::Died => died(service, id, release),
        Gated::Shut(why) => {
            let hint = diagnosis::diagnose(service, &generation);
            let lines = diagnosis::last_lines(service, &generation);
            PhaseResult::failed(format!("{why}{hint}{lines}"))
        }
    }
}

/// A process of the candidate has ended.
pub(crate) fn died(service: &Service, id: GenerationId, release: ReleaseId) -> PhaseResult {
    PhaseResult::because(Step::Died, diagnosis::death(service, id, release))
}

fn pids(generation: &Generation) -> String {
    // One that has ended at once is named all the same.
    let pid = |instance: &Rc<Instance>| {
        instance.pid().or_else(|| instance.last_end().map(|last| last.pid))
    };
    let pids: Vec<String> =
        generation.instances().iter().filter_map(pid).map(|pid| pid.to_string()).collect();
    format!("pid {}", pids.join(", "))
}
