//! Messages for people: what happened, why, what is true now, what to do next.

use std::rc::Rc;

use crate::api::{Outcome, Trouble};
use crate::core::exit::Exit;
use crate::core::ids::OpId;
use crate::core::notice::Notice;
use crate::store::state::StateError;
use crate::store::{migration, receipt};
use crate::supervisor::operation::assignment::Assignment;
use crate::supervisor::operation::findings::Findings;
use crate::supervisor::service::Service;
use crate::supervisor::service::notices;
use crate::supervisor::service::refusal::still;

/// A rollback failed: raises an alarm that lasts until the next commit, or a start by hand.
pub(crate) fn raise_alarm(service: &Rc<Service>, op: OpId, findings: &Findings) {
    if service.durable.state().alarm.is_some() {
        return;
    }
    let alarm = alarm(service, op, findings);
    tracing::error!(service = %service.name, what = alarm.what, why = alarm.why, "ROLLBACK FAILED");
    let running = service.activity.operation();
    if let Some(running) = running {
        let message = notices::of_operation(service, &running, &alarm);
        notices::tell(service, Notice::RollbackFailed, message);
    }
    let saved: Result<(), StateError> = service.durable.save(|state| state.alarm = Some(alarm));
    if let Err(error) = saved {
        tracing::error!(service = %service.name, %error, "saving the alarm");
    }
}

/// The last good release was stopped and started by hand, and answers: a rollback that had failed is over.
///
/// # Errors
/// When that is not recorded.
pub(crate) fn settle(service: &Service) -> Result<(), StateError> {
    let is_of_rollback = |alarm: &Trouble| alarm.exit == Exit::RollbackFailed.code();
    if !service.durable.state().alarm.as_ref().is_some_and(is_of_rollback) {
        return Ok(());
    }
    service.durable.save(|state| state.alarm = None)
}

/// A release failed and is held, because no release before it runs on the data.
pub(crate) fn raise_held(service: &Rc<Service>, assignment: &Assignment, findings: &Findings) {
    let (name, release) = (&service.name, assignment.release);
    let first = findings.reason().unwrap_or("its bake gave no verdict");
    let alarm = Trouble {
        what: format!("{name}: release {release} failed and is held, operation {}", assignment.op),
        why: format!("{first}\n{}", findings.warnings.join("\n")),
        still: still(service),
        next: vec![
            format!("halley-sup promote {name}"),
            format!("halley-sup abort {name}"),
            format!("halley-sup restore {name} --dry-run"),
        ],
        exit: Exit::Holding.code(),
    };
    tracing::error!(service = %name, what = alarm.what, why = alarm.why, "HELD");
    if let Err(error) = service.durable.save(|state| state.alarm = Some(alarm)) {
        tracing::error!(service = %name, %error, "saving the alarm");
    }
}

/// A release did not go live, and what goes on serving does not run on the data that it has migrated.
pub(crate) fn raise_unproven(
    service: &Rc<Service>,
    assignment: &Assignment,
    unproven: &str,
    outcome: &mut Outcome,
) {
    let name = &service.name;
    let begun = migration::read(&service.paths, assignment.op).ok().flatten();
    let restore = match begun.and_then(|begun| begun.backup) {
        Some(id) => {
            let why = format!("operation {}: its release did not go live", assignment.op);
            if let Err(error) = receipt::pin(&service.paths, &id, &why) {
                outcome.warnings.push(format!("the backup {id} is not kept: {error}"));
            }
            format!("halley-sup restore {name} --backup {id} --dry-run")
        }
        None => format!("halley-sup restore {name} --dry-run"),
    };
    let release = format!("halley-sup release {name} SOURCE --no-way-back \"reason\"");
    outcome.next.retain(|next| !next.starts_with("halley-sup release"));
    outcome.next.extend([release, restore]);
    let Some(trouble) = &mut outcome.trouble else { return };
    trouble.why.push_str(&format!(
        "\nthe data is migrated, and what serves may not run on it: {unproven}"
    ));
    trouble.next.clone_from(&outcome.next);
    let alarm = trouble.clone();
    tracing::error!(service = %name, what = alarm.what, why = alarm.why, "UNPROVEN ON ITS DATA");
    if let Err(error) = service.durable.save(|state| state.alarm = Some(alarm)) {
        tracing::error!(service = %name, %error, "saving the alarm");
    }
}

/// The alarm's four lines.
pub(crate) fn alarm(service: &Service, op: OpId, findings: &Findings) -> Trouble {
    let name = &service.name;
    let mut why = findings.why.clone();
    for warning in &findings.warnings {
        why.push('\n');
        why.push_str(warning);
    }
    Trouble {
        what: format!("{name}: the rollback failed, operation {op}"),
        why,
        still: still(service),
        next: vec![
            format!("halley-sup status {name}"),
            format!("halley-sup logs {name}"),
            format!("halley-sup rollback {name} --to RELEASE"),
            format!("halley-sup release {name} SOURCE"),
        ],
        exit: Exit::RollbackFailed.code(),
    }
}
