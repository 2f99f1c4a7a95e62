//! The candidate becomes the last good release.

use std::rc::Rc;

use crate::core::duty::Duty;
use crate::core::operation::conclusion::{self, Way};
use crate::core::operation::machine::{Cause, Event as Step};
use crate::store::state::{Served, State};
use crate::supervisor::instances::restarter::revive;
use crate::supervisor::operation::assignment::Assignment;
use crate::supervisor::operation::phases::standby;
use crate::supervisor::operation::phases::wrap_up::WrapUp;
use crate::supervisor::service::Service;
use crate::supervisor::service::operation::Operation;
use crate::supervisor::service::phase_result::PhaseResult;

/// The one rename. The state in memory is the state on disk, but where that is not waited for.
pub(crate) fn commit(
    service: &Rc<Service>,
    operation: &Operation,
    assignment: &Assignment,
    cause: Cause,
) -> PhaseResult {
    let Assignment { op, release, generation: id, old, .. } = *assignment;
    let served = Served { release: release.0, generation: id.0, op: op.0 };
    let warm = conclusion::warm(operation.kind, Way::Forward, assignment.before);
    let standby = standby::record(service, warm, old);
    let change = |state: &mut State| {
        state.last_good = Some(served);
        state.standby.clone_from(&standby);
        state.alarm = None;
    };
    let unsaved = match service.durable.commit(&change, &|| operation.is_unwaited()) {
        Ok(unsaved) => unsaved,
        Err(error) => return PhaseResult::not(Step::Failed, error.to_string()),
    };
    let unsaved = unsaved.map(|error| format!("a reboot would start the release before: {error}"));
    if let Some(generation) = service.fleet.get(id) {
        generation.assign(Duty::Live);
        service.condition.serves();
        // It may have ended between its last good probe and now: from here on the guard has it.
        revive(service, &generation);
    }
    let cut_off = (cause == Cause::Interrupted).then(|| {
        format!("Halley or the machine went down in the bake of release {release}, the first one")
    });
    PhaseResult::ok(format!("last good: {release}"))
        .with_warnings(cut_off)
        .with_warnings(unsaved)
        .with_warnings(WrapUp::forward(assignment).perform(service))
}
