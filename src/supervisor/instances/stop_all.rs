//! Everything of a service is stopped while its connections wait: the way to a start of what
//! allows only one instance.

use std::rc::Rc;
use std::time::Duration;

use crate::os::clock;
use crate::supervisor::instances::connections;
use crate::supervisor::instances::retire;
use crate::supervisor::service::Service;
use crate::supervisor::service::instances::{Crew, Duty};
use crate::supervisor::sockets::listener;
use crate::supervisor::sockets::slots::Queue;
use crate::text;

/// How long what has come in before may take to be taken by the old one.
const SETTLE: Duration = Duration::from_secs(1);

/// Callers wait meanwhile, so what has been taken has only this long of the configured `linger`.
const LINGER_MS_MAX: u64 = 500;

/// Holds the callers and stops whatever runs: the way to a cold start of what cannot run twice.
///
/// # Errors
/// When the callers could not be held.
pub async fn clear(service: &Rc<Service>) -> Result<(), String> {
    let owned = |listener| service.owned_slots(listener);
    let held = service.slots.hold(service.link(), Queue::Stays, owned).await;
    held.map_err(|error| error.to_string())?;
    stop_all(service).await;
    Ok(())
}

/// Stops every generation, each after its queues have run empty. Returns what was stopped.
pub async fn stop_all(service: &Rc<Service>) -> Vec<String> {
    let mut stopped = Vec::new();
    for crew in service.fleet.all() {
        // From here on nobody starts it again.
        crew.duty.set(Duty::Draining);
        settle(service, &crew).await;
        stopped.push(format!("release {}", crew.release));
        retire::stop_now(service, &crew).await;
    }
    stopped
}

async fn settle(service: &Rc<Service>, crew: &Crew) {
    if !crew.is_alive() {
        return;
    }
    for (index, listener) in service.slots.listeners().iter().enumerate() {
        let left: Vec<_> =
            crew.instances().iter().filter_map(|i| i.slots.get(index).copied()).collect();
        listener::settle(listener, &left, SETTLE).await;
    }
    // Who was taken a moment ago may finish; who stays connected for good is not waited for.
    let until = clock::tick().after_ms(LINGER_MS_MAX.min(text::ms(crew.settings.stop.linger)));
    while clock::tick() < until && connections::of(service, crew) > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
