//! Everything of a service is stopped while its connections wait: the way to a start of what
//! allows only one instance.

use std::rc::Rc;

use crate::supervisor::instances::retire;
use crate::supervisor::service::Service;
use crate::supervisor::sockets::slots::{Queue, SlotError};

/// Holds new connections and stops all instances, for a cold start of a single-instance program.
///
/// # Errors
/// When the connections could not be held.
pub(crate) async fn clear(service: &Rc<Service>) -> Result<(), SlotError> {
    let owned = |listener| service.owned_slots(listener);
    service.slots.hold(service.link(), Queue::Stays, owned).await?;
    stop_all(service).await;
    Ok(())
}

/// Stops every generation, each after its queues have run empty. Returns what was stopped.
pub(crate) async fn stop_all(service: &Rc<Service>) -> Vec<String> {
    let mut stopped = Vec::new();
    for generation in service.fleet.all() {
        stopped.push(format!("release {}", generation.release));
        retire::stop_held(service, &generation).await;
    }
    stopped
}
