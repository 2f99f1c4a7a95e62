//! The candidate is watched while all new connections go to it.

use std::rc::Rc;

use crate::core::operation::machine::{Event as Step, Inconclusive, Kind, Plan};
use crate::supervisor::bake::{self as baking, Baked, Depth, Watch};
use crate::supervisor::health::diagnosis;
use crate::supervisor::operation::assignment::Assignment;
use crate::supervisor::operation::phases::candidate::died;
use crate::supervisor::operation::watching::Watching;
use crate::supervisor::service::Service;
use crate::supervisor::service::instances::Generation;
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
    watched(service, &generation, &watch, plan, watching, None).await
}

/// Watches the candidate, and judges: in a bake, or while it has a part of the connections.
pub(super) async fn watched(
    service: &Rc<Service>,
    generation: &Rc<Generation>,
    watch: &Watch,
    plan: Plan,
    watching: &mut Watching,
    part: Option<&str>,
) -> PhaseResult {
    let (curve, transcript) = (Rc::clone(&watching.curve), &mut watching.transcript);
    let report = baking::watch(service, generation, watch, curve, transcript).await;
    let mut warnings: Vec<String> = report.warnings.into_iter().collect();
    let of = part.map_or(String::new(), |part| format!("{part}: "));
    let result = match report.baked {
        Baked::Pass(detail) => PhaseResult::ok(of + &detail),
        Baked::Died => died(service, generation.id, generation.release),
        Baked::Fail(why) => {
            let at = part.map_or("", |_| "at ");
            let lines = diagnosis::last_lines(service, generation);
            PhaseResult::failed(format!("{at}{of}{why}{lines}"))
        }
        Baked::Inconclusive(why) => {
            let what = part.map_or("the bake".to_owned(), |part| format!("the step to {part}"));
            let doubt = format!("{what} was inconclusive: {why}");
            if plan.inconclusive == Inconclusive::Promote {
                warnings.push(doubt.clone());
            }
            PhaseResult::not(Step::Inconclusive, of + &why).with_reason(doubt)
        }
    };
    result.with_warnings(warnings)
}
