//! A service joins the stack: when the supervisor comes up, when the configuration names it, and
//! once what kept it from being managed is mended.

use std::rc::Rc;

use crate::config::model;
use crate::core::ids::ServiceName;
use crate::supervisor::instances::liveness;
use crate::supervisor::operation::stop::take_down;
use crate::supervisor::operation::{reaction, strangers, take_over};
use crate::supervisor::processes::keeper_client::Inventory;
use crate::supervisor::rollback_readiness::drill;
use crate::supervisor::service::Service;
use crate::supervisor::service::stack::{Broken, Stack};
use crate::supervisor::spawn;

/// Takes a service over, or notes why it cannot be: what it runs goes on running then.
pub(crate) async fn take_in(stack: &Stack, config: model::Service, inventory: &mut Inventory) {
    let name = config.name.clone();
    let why = match Service::load(Rc::clone(&stack.shared), config.clone()) {
        Ok(service) => {
            stack.mark(&service);
            match take_over::take_over(&service, inventory).await {
                Ok(()) => return joined(stack, service),
                Err(error) => {
                    service.attendants.dismiss();
                    // Those who are left alone are read by others.
                    for instance in
                        service.fleet.all().iter().flat_map(|generation| generation.instances())
                    {
                        drop(instance.take_pump());
                    }
                    error.to_string()
                }
            }
        }
        Err(error) => error.to_string(),
    };
    tracing::error!(service = %name, why, "not taken over; its processes keep running");
    let why = format!(
        "{why}; halley-sup repair {name} shows what can be rebuilt; once it is mended by hand: \
         halley-sup start {name}"
    );
    stack.broken.borrow_mut().insert(name, Broken { why, config });
}

fn joined(stack: &Stack, service: Rc<Service>) {
    liveness::watch(&service);
    drill::schedule(&service);
    reaction::attend(&service);
    // A stop that a supervisor before this one did not come to finish. A listener that is open still
    // lets callers wait for nobody.
    let passers = service.slots.passers();
    let is_down = service.fleet.all().is_empty()
        && passers.is_empty()
        && service.slots.listeners().is_empty();
    // An operation that is gone on with starts a stopped service.
    if service.durable.state().stopped && !is_down && service.activity.is_at_rest() {
        let service = Rc::clone(&service);
        spawn::local(async move { take_down(&service).await });
    }
    stack.broken.borrow_mut().remove(&service.name);
    stack.services.borrow_mut().insert(service.name.clone(), service);
}

/// Takes a service in while the stack runs, with what the keeper holds of it.
pub(crate) async fn take_in_now(stack: &Stack, config: model::Service) {
    let _turn = stack.taking_in.lock().await;
    if stack.services.borrow().contains_key(&config.name) {
        return;
    }
    match stack.shared.link.inventory().await {
        Ok(mut inventory) => {
            strangers::leave(stack);
            take_in(stack, config, &mut inventory).await;
        }
        Err(error) => tracing::error!(service = %config.name, %error, "taking it over"),
    }
    strangers::attend(stack).await;
}

/// Tries again to take over a service that could not be.
pub(crate) async fn try_again(stack: &Stack, name: &str) {
    let config = name
        .parse::<ServiceName>()
        .ok()
        .and_then(|name| stack.broken.borrow().get(&name).map(|broken| broken.config.clone()));
    if let Some(config) = config {
        take_in_now(stack, config).await;
    }
}
