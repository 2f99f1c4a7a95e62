//! How what serves is at this moment, before something is to replace it.

use std::rc::Rc;
use std::time::Duration;

use crate::core::operation::way_back::Before;
use crate::supervisor::health::probe_all::{Round, probe_all};
use crate::supervisor::service::Service;
use crate::supervisor::service::instances::Generation;

/// However slow its health check is, the looks are over by then.
const LIMIT: Duration = Duration::from_secs(10);

/// How the release is that is to be replaced. One that answers is known after one look; one that does
/// not is looked at as often as its `fall` says.
pub(crate) async fn of(service: &Rc<Service>) -> Before {
    if service.durable.state().stopped {
        return Before::Stopped;
    }
    let Some(generation) = service.live_generation() else {
        // Before the first release nothing is down.
        return if service.durable.last_good().is_some() { Before::Down } else { Before::Answers };
    };
    let answers = tokio::time::timeout(LIMIT, answers(service, &generation)).await;
    if answers.unwrap_or(false) { Before::Answers } else { Before::Down }
}

/// Between two crashes of a loop it may answer.
async fn answers(service: &Rc<Service>, generation: &Rc<Generation>) -> bool {
    let health = &generation.settings.health;
    for _ in 0..health.fall.max(1) {
        let is_looping = generation.instances().iter().any(|it| it.crashes().in_loop().is_some());
        if is_looping {
            return false;
        }
        if generation.is_alive()
            && probe_all(service, generation, Round::Quick, |_, _| {}).await.is_good()
        {
            return true;
        }
        tokio::time::sleep(health.interval).await;
    }
    false
}
