//! The candidate is watched while all new connections go to it.

use std::rc::Rc;

use crate::core::operation::machine::{Event as Step, Inconclusive, Kind, Plan};
use crate::supervisor::bake::{self as baking, Baked, Depth, Watch};
use crate::supervisor::health::diagnosis;
use crate::supervisor::operation::assignment::Assignment;
use crate::supervisor::operation::phases::candidate::died;
use crate::supervisor::operation::watching::Watching;
use crate::supervisor::service::Service;
use crate::supervisor::service::phase_result::PhaseResult;

/// Watches the candidate, which all new connections go to.
pub(crate) async fn bake(
    service: &Rc<Service>,
    assignment: &Assignment,
    plan: Plan,
    watching: &mut Watching,
) -> PhaseResult {
    let Assignment { release, generation: id, .. } = *assignment;
    let Some(generation) = service.fleet.get(id) else {
        return died(service, id, release);
    };
    if plan.kind == Kind::Restart || generation.settings.bake.length.is_zero() {
        return PhaseResult::skip("off");
    }
    let old = assignment.old.and_then(|old| service.fleet.get(old));
    let beside = old.filter(|old| old.is_alive() && old.id != generation.id);
    let watch = Watch { depth: Depth::Full(generation.settings.bake.length), beside };
    let report = baking::watch(
        service,
        &generation,
        &watch,
        Rc::clone(&watching.curve),
        &mut watching.transcript,
    )
    .await;
    let mut warnings: Vec<String> = report.warnings.into_iter().collect();
    let result = match report.baked {
        Baked::Pass(detail) => PhaseResult::ok(detail),
        Baked::Died => died(service, id, release),
        Baked::Fail(why) => {
            let lines = diagnosis::last_lines(service, &generation);
            PhaseResult::failed(format!("{why}{lines}"))
        }
        Baked::Inconclusive(why) => {
            let text = format!("the bake was inconclusive: {why}");
            if plan.inconclusive == Inconclusive::Promote {
                warnings.push(text.clone());
            }
            PhaseResult::not(Step::Inconclusive, why).with_reason(text)
        }
    };
    result.with_warnings(warnings)
}
