//! In turn: what cannot run twice. Callers wait in the queue while the old one stops and the new
//! one starts.

use std::rc::Rc;
use std::time::Duration;

use crate::config::model::Strategy;
use crate::core::operation::machine::Event as Step;
use crate::os::clock;
use crate::supervisor::instances::connections;
use crate::supervisor::instances::retire;
use crate::supervisor::operation::context::{Job, Performed};
use crate::supervisor::service::Service;
use crate::supervisor::service::instances::{Crew, Duty};
use crate::supervisor::sockets::listener;
use crate::supervisor::sockets::slots::Queue;
use crate::text;
use crate::text::seconds;

/// How long what has come in before may take to be taken by the old one.
const SETTLE: Duration = Duration::from_secs(1);

/// Callers wait meanwhile, so what has been taken has only this long of the configured `linger`.
const LINGER_MS_MAX: u64 = 500;

/// Callers wait from here on. The old one goes on with what it has.
pub async fn park(service: &Rc<Service>, job: &mut Job) -> Performed {
    job.parked = Some(clock::tick());
    if service.slots.listeners().is_empty() {
        return Performed::skip("nobody calls it");
    }
    if let Some(why) = too_many(service) {
        job.exit.get_or_insert(10);
        job.blame(why.clone());
        return Performed::not(Step::Failed, why);
    }
    let owned = |listener| service.owned_slots(listener);
    match service.slots.hold(service.link(), Queue::Leaves, owned).await {
        Ok(()) => Performed::ok("callers wait in the queue"),
        Err(error) => {
            job.blame(error.to_string());
            Performed::not(Step::Failed, error.to_string())
        }
    }
}

/// Why callers cannot be held: all that are connected now may come again at once.
pub fn too_many(service: &Service) -> Option<String> {
    let config = service.config();
    let n_room = usize::try_from(config.backlog).unwrap_or(usize::MAX);
    let most = service.live_crew().map_or(0, |live| connections::of(service, &live));
    (most > n_room).then(|| {
        format!(
            "{most} connections are open and the queue holds {n_room}: all of them may come again \
             while callers are held; raise backlog (and net.core.somaxconn)"
        )
    })
}

/// Stops the old one, to its end: what was begun here has no other way than through.
pub async fn stop_old(service: &Rc<Service>, job: &mut Job) -> Performed {
    job.parked.get_or_insert_with(clock::tick);
    let begun = clock::tick();
    let stopped = stop_all(service).await;
    if stopped.is_empty() {
        return Performed::skip("nothing ran");
    }
    let n_held = service.slots.n_held(|listener| service.owned_slots(listener));
    let took = seconds(begun, clock::tick());
    Performed::ok(format!("{} in {took}; {n_held} callers wait", stopped.join(", ")))
}

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

async fn stop_all(service: &Rc<Service>) -> Vec<String> {
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

/// How long the gate of a candidate may take: no caller waits longer than `max_gap` for it.
pub fn gate_limit(service: &Service, job: &Job, deadline: Duration) -> Duration {
    let config = service.config();
    match (job.parked, &config.strategy) {
        (Some(parked), Strategy::Hold) => {
            let waited = Duration::from_millis(clock::tick().since_ms(parked));
            deadline.min(config.max_gap.saturating_sub(waited))
        }
        _ => deadline,
    }
}

/// What the gap was, for people.
pub fn gap_text(service: &Service, job: &Job) -> String {
    let Some(parked) = job.parked.filter(|_| !service.slots.listeners().is_empty()) else {
        return String::new();
    };
    format!("; gap {} ms", clock::tick().since_ms(parked))
}
