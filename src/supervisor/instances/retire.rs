//! Which processes are retired, and how gracefully.

use std::rc::Rc;
use std::time::Duration;

use crate::core::drain::{Drain, Times};
use crate::core::time::Tick;
use crate::supervisor::instances::drain::{self, Guard, Leaver};
use crate::supervisor::service::Service;
use crate::supervisor::service::instances::{Generation, Instance};
use crate::supervisor::spawn;
use crate::text;

/// How long queues may take to run empty; a connection that comes later is relayed.
const SETTLE: Duration = Duration::from_secs(5);

/// The same while connections are held: every one of them waits for it.
const SETTLE_HELD: Duration = Duration::from_secs(1);

/// While connections are held, those that were accepted have only this long of the `linger`.
const LINGER_HELD_MS_MAX: u64 = 500;

/// For processes that are killed at the end of their time.
const KILLED_MS: u64 = 5_000;

/// How often they are counted meanwhile.
const COUNT_HELD_EVERY_MS: u64 = 10;

/// Lets a generation go that was replaced: warm until then, drained, stopped. It may be taken back
/// at any moment by giving it another duty.
pub(crate) fn begin(service: &Rc<Service>, generation: &Rc<Generation>, warm_until: Tick) {
    let (service, generation) = (Rc::clone(service), Rc::clone(generation));
    if generation.is_gone() {
        spawn::local(async move { drain::dismiss(&service, &generation).await });
        return;
    }
    let leaver = Leaver::all(&service, &generation, Guard::Live, SETTLE);
    let machine = Drain::new(drain::times(&generation.settings.stop), warm_until);
    spawn::local(async move { leaver.run(machine, None).await });
}

/// How long it takes at most to take a service down: what a wrapper leaves has the time of its program once
/// more, and killed processes need a moment.
pub(crate) fn longest_ms(service: &Service) -> u64 {
    let generations = service.fleet.all();
    let times = generations.iter().map(|generation| generation.settings.stop.timeout);
    times.max().map_or(0, |timeout| text::ms(timeout).saturating_mul(2).saturating_add(KILLED_MS))
}

/// Stops a generation that new connections do not go to, or a service that is to be down.
pub(crate) async fn stop_now(service: &Rc<Service>, generation: &Rc<Generation>) {
    let leaver = Leaver::all(service, generation, Guard::Nobody, SETTLE);
    let (machine, first) = Drain::now(drain::times(&generation.settings.stop));
    leaver.run(machine, Some(first)).await;
}

/// Stops a generation while its connections are held: what it has accepted gets a moment, what
/// stays connected for good is not waited for.
pub(crate) async fn stop_held(service: &Rc<Service>, generation: &Rc<Generation>) {
    let usual = drain::times(&generation.settings.stop);
    let linger_ms = usual.linger_ms.min(LINGER_HELD_MS_MAX);
    let times = Times {
        linger_ms: 0,
        drain_ms: Some(linger_ms),
        count_every_ms: COUNT_HELD_EVERY_MS,
        ..usual
    };
    let leaver = Leaver::all(service, generation, Guard::Nobody, SETTLE_HELD);
    let (machine, first) = Drain::leave(times);
    leaver.run(machine, Some(first)).await;
}

/// Stops one instance of the live generation that is steered away from, if the others serve.
pub(crate) async fn stop_one(
    service: &Rc<Service>,
    generation: &Rc<Generation>,
    instance: &Rc<Instance>,
) {
    let leaver = Leaver::one(service, generation, instance, SETTLE);
    let (machine, first) = Drain::leave(drain::times(&generation.settings.stop));
    leaver.run(machine, Some(first)).await;
}
