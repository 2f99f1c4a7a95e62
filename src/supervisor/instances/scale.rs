//! More or fewer instances of what is live, one at a time, without loss.

use std::rc::Rc;

use crate::core::duty::Duty;
use crate::core::ids::InstanceIndex;
use crate::core::ordered;
use crate::os::clock;
use crate::supervisor::health::check;
use crate::supervisor::instances::outside_proxy;
use crate::supervisor::instances::ownership;
use crate::supervisor::instances::retire;
use crate::supervisor::instances::start::{self, StartError};
use crate::supervisor::proxy::EntryError;
use crate::supervisor::service::Service;
use crate::supervisor::service::condition::Source;
use crate::supervisor::service::instances::{Generation, Instance};
use crate::supervisor::sockets::slots::SlotError;
use crate::supervisor::spawn;
use crate::text;

/// Brings the live release to the number of instances that the configuration asks for. An
/// operation that runs comes first: what it starts has the right number already. One that is left
/// open comes first as well; when it is closed, this begins again.
pub(crate) fn begin(service: &Rc<Service>) {
    if !service.activity.begin_scaling() {
        return;
    }
    let service = Rc::clone(service);
    spawn::local(async move {
        go_on(&service).await;
        service.activity.end_scaling();
        ownership::reconcile(&service).await;
    });
}

async fn go_on(service: &Rc<Service>) {
    while let Some(generation) = due(service) {
        if let Some(running) = service.activity.operation() {
            running.over().await;
            continue;
        }
        if service.activity.unresumed().is_some() {
            return;
        }
        let Err(error) = one_step(service, &generation).await else { continue };
        // Another number may be wanted by now.
        if due(service).is_some() {
            let why = error.to_string();
            tracing::error!(service = %service.name, why, "changing the number of instances");
            return service.condition.report(Source::Scale, why);
        }
    }
    service.condition.resolve(Source::Scale);
}

fn wanted(service: &Service) -> usize {
    usize::from(service.config().settings.instances)
}

/// The live generation, when it has another number of instances than it should.
fn due(service: &Service) -> Option<Rc<Generation>> {
    let generation =
        service.live_generation().filter(|generation| generation.duty() == Duty::Live)?;
    let is_due = generation.instances().len() != wanted(service) && !service.shared.stopping.get();
    is_due.then_some(generation)
}

/// Why there are not as many instances as the configuration asks for.
#[derive(Debug, thiserror::Error)]
enum ScaleError {
    /// Another one could not be started.
    #[error("instance {index}: {source}")]
    Start {
        /// Which.
        index: InstanceIndex,
        /// The reason.
        #[source]
        source: StartError,
    },
    /// It was started, and did not answer in time.
    #[error("instance {index} did not come up: {why}")]
    Silent {
        /// Which.
        index: InstanceIndex,
        /// What its last probe said.
        why: String,
    },
    /// Connections could not be steered.
    #[error(transparent)]
    Steer(#[from] SlotError),
    /// The outside proxy could not be pointed at them.
    #[error(transparent)]
    Proxy(#[from] EntryError),
}

async fn one_step(service: &Rc<Service>, generation: &Rc<Generation>) -> Result<(), ScaleError> {
    let mut instances = generation.instances();
    ordered::sort(&mut instances, |a, b| a.index < b.index);
    if instances.len() < wanted(service) {
        let index = instances.last().map_or(0, |last| last.index.0 + 1);
        more(service, generation, InstanceIndex(index)).await
    } else if let Some(last) = instances.last() {
        fewer(service, generation, last).await;
        Ok(())
    } else {
        Ok(())
    }
}

/// One more: it gets connections once it answers.
async fn more(
    service: &Rc<Service>,
    generation: &Rc<Generation>,
    index: InstanceIndex,
) -> Result<(), ScaleError> {
    let health = &generation.settings.health;
    let instance = match start::start_one(service, generation, index).await {
        Ok(instance) => instance,
        Err(source) => {
            // It has its slots already, and no process.
            let left = generation.instances().into_iter().find(|instance| instance.index == index);
            if let Some(left) = left {
                left.dismiss();
                retire::stop_one(service, generation, &left).await;
            }
            return Err(ScaleError::Start { index, source });
        }
    };
    let until = clock::tick().after_ms(text::ms(health.deadline));
    let mut n_good = 0;
    while n_good < health.rise {
        tokio::time::sleep(health.interval).await;
        if wanted(service) <= usize::from(index.0) {
            fewer(service, generation, &instance).await;
            return Ok(());
        }
        let probe = check::at(service, generation, &instance).await;
        n_good = if probe.is_good() { n_good + 1 } else { 0 };
        if clock::tick() >= until {
            let why = probe.why().unwrap_or("its probes").to_owned();
            fewer(service, generation, &instance).await;
            return Err(ScaleError::Silent { index, why });
        }
    }
    instance.note_ready(true);
    instance.join();
    lead(service, generation).await
}

/// One less: steered away from, drained, stopped.
async fn fewer(service: &Rc<Service>, generation: &Rc<Generation>, instance: &Rc<Instance>) {
    instance.withdraw();
    instance.dismiss();
    if let Err(error) = lead(service, generation).await {
        tracing::error!(service = %service.name, why = %error, "steering away from an instance");
    }
    retire::stop_one(service, generation, instance).await;
    // Its crashes are no trouble of those that are left.
    if generation.instances().iter().all(|instance| instance.is_ready()) {
        service.condition.serves();
    }
}

async fn lead(service: &Rc<Service>, generation: &Rc<Generation>) -> Result<(), ScaleError> {
    service.steer_again()?;
    // An operation that has begun meanwhile points the proxy where it steers.
    if service.routing.live() == Some(generation.id) {
        outside_proxy::point(service, generation).await?;
    }
    service.tend();
    Ok(())
}
