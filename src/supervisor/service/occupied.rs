//! Whether a service is free for something new, and how it is kept for something by hand.

use std::rc::Rc;

use crate::api::Trouble;
use crate::core::exit::Exit;
use crate::supervisor::service::Service;
use crate::supervisor::service::refusal::{self, busy, busy_with_set, refusal};
use crate::supervisor::service::terms::Force;

/// Why nothing can be `done` to the service now, sets aside. Asks and changes nothing.
pub(crate) fn obstacle(service: &Service, done: &str) -> Option<Trouble> {
    if service.durable.state().stopped && !service.shared.stopping.get() {
        return Some(refusal(service, done, "it is stopped", Exit::PreflightRefused, &["start"]));
    }
    occupation(service, done)
}

/// Why nothing can be `done` to the service now, stopped or not.
pub(crate) fn occupation(service: &Service, done: &str) -> Option<Trouble> {
    let refused = |why: &str, exit, next: &[&str]| Some(refusal(service, done, why, exit, next));
    if service.shared.stopping.get() {
        return refused("halley-sup is being stopped", Exit::Busy, &["status"]);
    }
    if let Some(work) = service.activity.data_work() {
        return refused(&format!("{work} is using its data"), Exit::Busy, &["status"]);
    }
    if let Some(unresumed) = service.activity.unresumed() {
        return Some(refusal::unresumed(service, &unresumed));
    }
    // One whose rollback has failed gives way, also while it is tried again.
    let running = service.activity.operation().filter(|running| !running.has_stranded());
    running.map(|running| busy(service, &running))
}

/// Whether the last good release may be started when it does not run: with an operation that is not
/// resumed, only where nothing else runs and its data is as it was.
#[must_use]
pub(crate) fn may_start(service: &Service) -> bool {
    service.activity.unresumed().is_none_or(|unresumed| {
        !unresumed.may_have_migrated
            && !service.fleet.all().iter().any(|generation| generation.is_alive())
    })
}

/// Why no release begins: the service is frozen.
pub(crate) fn frozen(service: &Service, force: Force) -> Option<String> {
    let state = service.durable.state();
    let freeze = state.freeze.as_ref().filter(|_| force == Force::No)?;
    Some(format!("frozen since {} by {}: {}", freeze.at, freeze.actor, freeze.why))
}

/// Keeps operations out while something is done with the data by hand. A failed rollback goes on being
/// tried: the work is perhaps what it needs, and has it give way before it takes its processes away.
///
/// # Errors
/// What prevents the work, such as an operation or a set that already runs.
pub(crate) fn occupy(
    service: &Rc<Service>,
    done: &str,
    work: &'static str,
) -> Result<Occupied, Trouble> {
    if let Some(obstacle) = obstacle(service, done).or_else(|| busy_with_set(service)) {
        return Err(obstacle);
    }
    service.activity.begin_data_work(work);
    Ok(Occupied(Rc::clone(service)))
}

/// Operations are kept out as long as it lives.
#[derive(Debug)]
pub(crate) struct Occupied(Rc<Service>);

impl Drop for Occupied {
    fn drop(&mut self) {
        self.0.activity.end_data_work();
    }
}
