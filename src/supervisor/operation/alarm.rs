//! Messages for people: what happened, why, what is true now, what to do next.

use std::rc::Rc;

use crate::api::Trouble;
use crate::core::exit::Exit;
use crate::core::ids::OpId;
use crate::core::notice::Notice;
use crate::store::state::StateError;
use crate::supervisor::operation::findings::Findings;
use crate::supervisor::service::Service;
use crate::supervisor::service::notices;
use crate::supervisor::service::refusal::still;

/// A rollback failed: raises an alarm that lasts until the next commit.
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
