//! In-turn rollout, for programs that allow only one instance. Connections wait in the queue while
//! the old generation stops and the new one starts.

use std::rc::Rc;
use std::time::Duration;

use crate::config::model::Strategy;
use crate::core::exit::Exit;
use crate::core::operation::machine::Event as Step;
use crate::core::time::Tick;
use crate::os::clock;
use crate::supervisor::instances::connections;
use crate::supervisor::instances::stop_all;
use crate::supervisor::operation::assignment::Assignment;
use crate::supervisor::service::Service;
use crate::supervisor::service::phase_result::PhaseResult;
use crate::supervisor::sockets::slots::Queue;
use crate::text::{count, seconds};

/// New connections wait from here on. The old generation goes on with the connections it has.
pub(crate) async fn park(service: &Rc<Service>, parked: &mut Option<Tick>) -> PhaseResult {
    *parked = Some(clock::tick());
    if service.slots.listeners().is_empty() {
        return PhaseResult::skip("the service has no listener");
    }
    if let Some(why) = too_many(service).await {
        return PhaseResult::refused(Exit::PreflightRefused, why);
    }
    let owned = |listener| service.owned_slots(listener);
    match service.slots.hold(service.link(), Queue::Leaves, owned).await {
        Ok(()) => PhaseResult::ok("connections wait in the queue"),
        Err(error) => {
            let why = error.to_string();
            PhaseResult::not(Step::Failed, why.clone()).with_reason(why)
        }
    }
}

/// Why connections cannot be held: all clients connected now may reconnect at once.
pub(crate) async fn too_many(service: &Service) -> Option<String> {
    let config = service.config();
    let n_room = usize::try_from(config.backlog).unwrap_or(usize::MAX);
    let most = match service.live_generation() {
        Some(live) => connections::of(service, &live).await,
        None => 0,
    };
    (most > n_room).then(|| {
        format!(
            "the queue holds {n_room}, and the clients of {} may all connect again while \
             connections wait; raise backlog (and net.core.somaxconn)",
            count(most, "open connection")
        )
    })
}

/// Stops the old one, to its end: what was begun here has no other way than through.
pub(crate) async fn stop_old(service: &Rc<Service>, parked: &mut Option<Tick>) -> PhaseResult {
    parked.get_or_insert_with(clock::tick);
    let begun = clock::tick();
    let stopped = stop_all::stop_all(service).await;
    if stopped.is_empty() {
        return PhaseResult::skip("nothing ran");
    }
    let n_held = service.slots.n_held(|listener| service.owned_slots(listener));
    let took = seconds(begun, clock::tick());
    PhaseResult::ok(format!(
        "{} in {took}; {} waiting",
        stopped.join(", "),
        count(n_held, "connection")
    ))
}

/// How long the gate of a candidate may take: no connection waits longer than `max_gap` for it.
pub(crate) fn gate_limit(
    assignment: &Assignment,
    parked: Option<Tick>,
    deadline: Duration,
) -> Duration {
    match (parked, &assignment.strategy) {
        (Some(parked), Strategy::Hold) => {
            let waited = Duration::from_millis(clock::tick().since_ms(parked));
            deadline.min(assignment.max_gap.saturating_sub(waited))
        }
        _ => deadline,
    }
}

/// What the gap was, for people.
pub(crate) fn gap_text(service: &Service, parked: Option<Tick>) -> String {
    let Some(parked) = parked.filter(|_| !service.slots.listeners().is_empty()) else {
        return String::new();
    };
    format!("; gap {} ms", clock::tick().since_ms(parked))
}
