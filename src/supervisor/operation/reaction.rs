//! What is done by itself when the live release crashes again and again, or fails its health check at rest:
//! the operation that a human would begin.

use std::rc::Rc;

use crate::config::model::Reaction;
use crate::supervisor::operation::admission::{self, Wish};
use crate::supervisor::service::Service;
use crate::supervisor::spawn;

/// Does what is wanted, from here on.
pub(super) fn attend(service: &Rc<Service>) {
    let attended = Rc::clone(service);
    let task = spawn::local(async move {
        let service = attended;
        loop {
            let (wish, key) = match service.condition.wanted().await {
                Reaction::Alarm => continue,
                Reaction::Restart => (Wish::Restart, "on_unhealthy"),
                Reaction::FallBack => {
                    (Wish::Rollback { to: None }, "the last good release cannot be started")
                }
                Reaction::Rollback => (Wish::Rollback { to: None }, "on_crash_loop, on_unhealthy"),
            };
            // What somebody else has begun meanwhile is better.
            if !service.activity.is_at_rest() || service.shared.stopping.get() {
                continue;
            }
            let begun = admission::begin(&service, &format!("halley-sup ({key})"), wish).await;
            if let Err(trouble) = begun {
                tracing::error!(service = %service.name, what = trouble.what, why = trouble.why,
                    "what is configured for a broken release cannot be done");
            }
        }
    });
    service.attendants.add(task);
}
