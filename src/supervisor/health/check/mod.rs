//! One look at one process: the configured check, through the process's own slot.

mod alive;
mod exec;
mod http;
mod notify;
mod tcp;

use std::future::Future;
use std::rc::Rc;

use crate::config::health::checks;
use crate::config::model::{Check, Settings};
use crate::supervisor::health::checker::{Checker, Target};
use crate::supervisor::health::connection;
use crate::supervisor::health::probe::Probe;
use crate::supervisor::service::Service;
use crate::supervisor::service::instances::{Generation, Instance};

/// From the list of health checks: one arm a kind.
macro_rules! checker_of {
    (
        ($check:expr)
        $($(#[$doc:meta])* $variant:ident $(($settings:ident: $type:ty))? = $file:ident,)+
    ) => {
        match $check {
            $(Check::$variant $(($settings))? => Box::new($file::checker($($settings)?)),)+
            Check::Alive => Box::new(alive::Alive),
        }
    };
}

/// The checker of each kind.
fn checker(check: &Check) -> Box<dyn Checker + '_> {
    checks!(checker_of!(check))
}

/// Probes one instance in its own slot, within the timeout of its settings. What answers is that
/// process and no other.
pub(crate) async fn at(
    service: &Rc<Service>,
    generation: &Rc<Generation>,
    instance: &Rc<Instance>,
) -> Probe {
    let target = Target { service, generation, instance };
    by_itself(instance, checker(&generation.settings.health.check).probe(target)).await
}

/// What waits in the slot of a process that has ended is passed on, and another one answers: that is no
/// answer of this one.
async fn by_itself(instance: &Instance, probe: impl Future<Output = Probe>) -> Probe {
    let Some(asked) = instance.program.run() else {
        return Probe::bad("its process has ended");
    };
    let probe = probe.await;
    if probe.is_good() && instance.program.owner() != Some(asked.child) {
        return Probe::bad("its process has ended meanwhile");
    }
    probe
}

/// The configured check, and whether connections are taken at all.
pub(crate) async fn thoroughly(
    service: &Rc<Service>,
    generation: &Rc<Generation>,
    instance: &Rc<Instance>,
) -> Probe {
    match at(service, generation, instance).await {
        good if good.is_good() => takes(service, generation, instance).await,
        bad => bad,
    }
}

/// Whether an instance takes connections out of its queue, for checks that do not go through it.
pub(crate) async fn takes(
    service: &Rc<Service>,
    generation: &Rc<Generation>,
    instance: &Rc<Instance>,
) -> Probe {
    let connects = checker(&generation.settings.health.check).connects();
    if connects || !service.config().is_called_by_streams() {
        return Probe::good();
    }
    match by_itself(instance, connection::taken(service, generation, instance)).await {
        good if good.is_good() => good,
        _ => Probe::bad("it accepts no connection from its accept queue"),
    }
}

/// Probes the service where its users reach it: the kernel chooses among the live slots.
pub(crate) async fn in_public(service: &Rc<Service>, settings: &Settings) -> Probe {
    let health = &settings.health;
    checker(&health.check).probe_public(service, health).await
}
