//! A service that degrades without an operation: one notification, and one when it has recovered.
//!
//! A file records the notification, so that the supervisor after a crash or a reboot neither sends
//! it again nor forgets the one for the recovery. A crash between the two sends it twice.

use std::fs;

use crate::api::Trouble;
use crate::core::notice::Notice;
use crate::os::clock;
use crate::os::fs as durable;
use crate::supervisor::notify::message::{self, Message};
use crate::supervisor::service::Service;
use crate::supervisor::service::operation::Operation;
use crate::supervisor::service::refusal::still;

/// It does not answer, or cannot be started.
pub(crate) fn degraded(service: &Service, why: &str) {
    if service.condition.tell_degraded(true) {
        return;
    }
    let name = &service.name;
    let next = vec![format!("halley-sup status {name}"), format!("halley-sup logs {name}")];
    let what = format!("{name}: degraded");
    tell(service, Notice::Degraded, at_rest(service, &what, why, next));
    if let Err(error) = durable::replace(&service.paths.degraded(), b"", 0o600) {
        tracing::warn!(service = %name, %error, "recording that the notification was sent");
    }
}

/// It answers.
pub(crate) fn recovered(service: &Service) {
    if !service.condition.tell_degraded(false) {
        return;
    }
    let what = format!("{}: recovered", service.name);
    tell(service, Notice::Recovered, at_rest(service, &what, "", Vec::new()));
    drop(fs::remove_file(service.paths.degraded()));
}

/// Posts a notification that no operation waits for.
pub(crate) fn tell(service: &Service, notice: Notice, message: Message) {
    for warning in service.shared.outbox.post(notice, message) {
        tracing::warn!(service = %service.name, warning, "a notification is lost");
    }
}

/// Something of a service at rest.
pub(crate) fn at_rest(service: &Service, what: &str, why: &str, next: Vec<String>) -> Message {
    Message {
        service: service.name.to_string(),
        key: format!("rest {} {}", service.shared.boot_id, clock::monotonic_ns()),
        op: None,
        release: service.durable.last_good().map(|release| release.0),
        serving: service.serving().map(|release| release.0),
        outcome: None,
        exit: None,
        what: what.to_owned(),
        why: why.to_owned(),
        still: still(service),
        next,
    }
}

/// The message for a running operation that needs attention.
pub(crate) fn of_operation(service: &Service, operation: &Operation, trouble: &Trouble) -> Message {
    let at = operation.at.borrow();
    let message = Message {
        key: message::key(operation.kind.name(), operation.id.0, &at),
        op: Some(operation.id.0),
        release: operation.release.get().map(|release| release.0),
        exit: Some(trouble.exit),
        ..at_rest(service, "", "", Vec::new())
    };
    message.with(Some(trouble))
}
