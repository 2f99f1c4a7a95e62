//! Whether a service is free for something new, and how it is kept for something by hand.

use std::rc::Rc;

use crate::api::Trouble;
use crate::supervisor::service::Service;
use crate::supervisor::service::refusal::{busy, busy_with_set, refusal};
use crate::supervisor::service::terms::Force;

/// Why no operation can begin now, sets aside. Asks and changes nothing.
pub fn obstacle(service: &Service) -> Option<Trouble> {
    if service.shared.stopping.get() {
        return Some(refusal(service, "changed", "halley-sup is being stopped", 9, &["status"]));
    }
    if service.state.borrow().stopped {
        return Some(refusal(service, "changed", "it is stopped", 10, &["start"]));
    }
    if let Some(work) = service.data_work.get() {
        let why = format!("{work} is at its data");
        return Some(refusal(service, "changed", &why, 9, &["status"]));
    }
    let running = service.operation.borrow().clone().filter(|running| !running.is_stranded());
    running.map(|running| busy(service, &running))
}

/// Why no release begins: the service is frozen.
pub fn frozen(service: &Service, force: Force) -> Option<String> {
    let state = service.state.borrow();
    let freeze = state.freeze.as_ref().filter(|_| force == Force::No)?;
    Some(format!("it is frozen since {} by {}: {}", freeze.at, freeze.actor, freeze.why))
}

/// Keeps operations out while something is done with the data by hand.
///
/// # Errors
/// Who is at it already.
pub fn occupy(service: &Rc<Service>, work: &'static str) -> Result<Occupied, Trouble> {
    if let Some(obstacle) = obstacle(service).or_else(|| busy_with_set(service)) {
        return Err(obstacle);
    }
    if service.operation.borrow().is_some() {
        let why = "an operation waits for better times";
        return Err(refusal(service, "changed", why, 9, &["status"]));
    }
    service.data_work.set(Some(work));
    service.busy.notify_waiters();
    Ok(Occupied(Rc::clone(service)))
}

/// Operations are kept out as long as it lives.
#[derive(Debug)]
pub struct Occupied(Rc<Service>);

impl Drop for Occupied {
    fn drop(&mut self) {
        self.0.data_work.set(None);
    }
}
