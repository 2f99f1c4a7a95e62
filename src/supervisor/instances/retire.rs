//! Generations that were steered away from, on their way out; and candidates that never were
//! steered to, which need no manners.

use std::rc::Rc;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::config::model::Drain;
use crate::core::drain::{Effect, Event, Phase, Retire, Times};
use crate::core::ids::SlotId;
use crate::core::time::Tick;
use crate::keeper::protocol::{ChildId, Reach};
use crate::os::clock;
use crate::supervisor::instances::connections;
use crate::supervisor::processes::keeper_client::Signalled;
use crate::supervisor::processes::log_files;
use crate::supervisor::service::Service;
use crate::supervisor::service::child_spec;
use crate::supervisor::service::instances::{Crew, Duty, Instance, Leaving};
use crate::supervisor::sockets::backend_address::Place;
use crate::supervisor::sockets::listener;
use crate::supervisor::tasks::before_stop;
use crate::text;

/// How long queues may take to run empty; who comes later is a straggler.
const SETTLE: Duration = Duration::from_secs(5);

/// Lets a generation go: warm until then, drained, stopped. It may be taken back at any moment by
/// giving it another duty.
pub fn begin(service: &Rc<Service>, crew: &Rc<Crew>, warm_until: Tick) {
    let (service, crew) = (Rc::clone(service), Rc::clone(crew));
    if crew.is_gone() {
        tokio::task::spawn_local(async move { dismiss(&service, &crew).await });
        return;
    }
    crew.duty.set(Duty::Standby);
    crew.n_leaves.set(crew.n_leaves.get() + 1);
    tokio::task::spawn_local(async move { retire(&service, &crew, warm_until).await });
}

async fn retire(service: &Rc<Service>, crew: &Rc<Crew>, warm_until: Tick) {
    let stop = &crew.settings.stop;
    let n_leaves = crew.n_leaves.get();
    let drain_ms = match stop.drain {
        Drain::For(duration) => Some(text::ms(duration)),
        Drain::Forever => None,
    };
    let times =
        Times { linger_ms: text::ms(stop.linger), drain_ms, stop_ms: text::ms(stop.timeout) };
    let mut machine = Retire::new(times, warm_until);
    let mut ends = crew.n_ends.subscribe();
    let mut effect = None;
    loop {
        let event = match effect.take() {
            Some(Effect::Settle) => {
                settle(service, crew).await;
                Event::Done
            }
            Some(Effect::Count) => count(service, crew, machine.phase()),
            Some(Effect::Term) => term(service, crew, n_leaves).await,
            Some(Effect::Kill) => {
                kill(service, crew).await;
                Event::Done
            }
            Some(Effect::Forget) => return dismiss(service, crew).await,
            None => {
                let due = machine.deadline().map(|at| at.since_ms(clock::tick()));
                tokio::select! {
                    () = sleep(due) => Event::Tick,
                    _ = ends.changed() => Event::Tick,
                }
            }
        };
        // Somebody took it back, or another retirement has it.
        if crew.n_leaves.get() != n_leaves {
            return;
        }
        if !matches!(crew.duty.get(), Duty::Standby | Duty::Draining) {
            crew.leaving.set(None);
            return;
        }
        let event = if crew.is_gone() { Event::Ended } else { event };
        effect = machine.step(clock::tick(), event);
        show(crew, machine.phase());
        if event == Event::Refused {
            crew.duty.set(Duty::Standby);
        }
    }
}

/// What `status` says of it.
fn show(crew: &Crew, phase: Phase) {
    let n_connections = crew.leaving.get().map_or(0, |leaving| leaving.n_connections);
    crew.leaving.set(match phase {
        Phase::Warm(_) | Phase::Settle => None,
        Phase::Linger(_) => Some(Leaving { n_connections, until: None }),
        Phase::Drain { until, .. } => Some(Leaving { n_connections, until }),
        Phase::Stopping(until) => Some(Leaving { n_connections, until: Some(until) }),
        Phase::Term | Phase::Kill | Phase::Gone => crew.leaving.get(),
    });
}

/// Counts the connections that its processes have, where users come in.
fn count(service: &Rc<Service>, crew: &Crew, phase: Phase) -> Event {
    let n_connections = connections::of(service, crew);
    let until = match phase {
        Phase::Drain { until, .. } => until,
        _ => None,
    };
    crew.leaving.set(Some(Leaving { n_connections, until }));
    if n_connections == 0 { Event::Done } else { Event::Busy }
}

async fn sleep(due_ms: Option<u64>) {
    match due_ms {
        Some(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
        None => std::future::pending().await,
    }
}

async fn settle(service: &Rc<Service>, crew: &Rc<Crew>) {
    for (index, listener) in service.slots.listeners().iter().enumerate() {
        let left: Vec<SlotId> =
            crew.instances().iter().filter_map(|i| i.slots.get(index).copied()).collect();
        let settled = listener::settle(listener, &left, SETTLE).await;
        tracing::debug!(service = %service.name, ?settled, "settled");
    }
}

/// Asks all processes of the generation to stop, if those of the live one are alive at that
/// instant: the keeper compares and acts.
async fn term(service: &Rc<Service>, crew: &Rc<Crew>, n_leaves: u32) -> Event {
    let may_go = |live: &Rc<Crew>| live.generation != crew.generation && live.is_whole();
    if service.live_crew().is_some_and(|live| may_go(&live)) {
        before_stop::run(service, crew).await;
        // Somebody may have taken it back meanwhile.
        if crew.n_leaves.get() != n_leaves || crew.duty.get() != Duty::Standby {
            return Event::Refused;
        }
    }
    let Some(live) = service.live_crew().filter(|live| live.generation != crew.generation) else {
        return Event::Refused;
    };
    let alive = live.children();
    if alive.is_empty() || !live.is_whole() {
        return Event::Refused;
    }
    // From here on it cannot be taken back.
    crew.duty.set(Duty::Draining);
    let n_connections = connections::of(service, crew);
    if n_connections > 0 {
        tracing::info!(service = %service.name, release = %crew.release, n_connections,
            "asked to stop with connections left: the program ends them");
    }
    for (child, number) in farewells(crew) {
        match service.link().signal(child, number, Reach::Process, alive.clone()).await {
            Ok(Signalled::Done) => {}
            Ok(Signalled::Refused(_)) => return Event::Refused,
            Err(error) => tracing::error!(service = %service.name, %error, "stopping"),
        }
    }
    Event::Done
}

/// Stops one process of a generation, with its forwarder, and lets go of what it had.
pub async fn stop_one(service: &Rc<Service>, crew: &Rc<Crew>, instance: &Rc<Instance>) {
    let is_gone = || instance.run.borrow().is_none() && instance.forwarder.borrow().is_none();
    let forwarder = instance.forwarder.borrow().as_ref().map(|run| (run.child, libc::SIGTERM));
    let number = signal_number(&crew.settings.stop.signal);
    let program = instance.child().map(|child| (child, number));
    let both: Vec<(ChildId, i32)> = forwarder.into_iter().chain(program).collect();
    let mut ends = crew.n_ends.subscribe();
    for kill in [false, true] {
        for (child, number) in &both {
            let (number, reach) =
                if kill { (libc::SIGKILL, Reach::Tree) } else { (*number, Reach::Process) };
            if let Err(error) = service.link().signal(*child, number, reach, Vec::new()).await {
                tracing::error!(service = %service.name, %error, "stopping an instance");
            }
        }
        let ended = async { while !is_gone() && ends.changed().await.is_ok() {} };
        if tokio::time::timeout(crew.settings.stop.timeout, ended).await.is_ok() {
            break;
        }
    }
    crew.remove(instance.index);
    let_go_of(service, crew, instance).await;
    service.tend();
}

/// Who is asked to stop, and how: forwarders take nothing more and leave with their last
/// connection, programs do what theirs signal means.
fn farewells(crew: &Crew) -> Vec<(ChildId, i32)> {
    let number = signal_number(&crew.settings.stop.signal);
    let forwarders = crew.forwarders().into_iter().map(|child| (child, libc::SIGTERM));
    let programs = crew.children().into_iter().map(|child| (child, number));
    forwarders.chain(programs).collect()
}

async fn kill(service: &Rc<Service>, crew: &Rc<Crew>) {
    for child in crew.children().into_iter().chain(crew.forwarders()) {
        let killed = service.link().signal(child, libc::SIGKILL, Reach::Tree, Vec::new()).await;
        if let Err(error) = killed {
            tracing::error!(service = %service.name, %error, "ending a process");
        }
    }
}

/// Stops a generation that nobody is steered to, or a service that is to be down: asks, waits,
/// ends.
pub async fn stop_now(service: &Rc<Service>, crew: &Rc<Crew>) {
    crew.duty.set(Duty::Draining);
    for (child, number) in farewells(crew) {
        let asked = service.link().signal(child, number, Reach::Process, Vec::new()).await;
        if let Err(error) = asked {
            tracing::error!(service = %service.name, %error, "stopping");
        }
    }
    if tokio::time::timeout(crew.settings.stop.timeout, ended(crew)).await.is_err() {
        kill(service, crew).await;
        ended(crew).await;
    }
    dismiss(service, crew).await;
}

/// Waits until no process of the generation runs.
async fn ended(crew: &Crew) {
    let mut ends = crew.n_ends.subscribe();
    while !crew.is_gone() {
        if ends.changed().await.is_err() {
            return;
        }
    }
}

/// Lets go of what a generation without processes had: output, slots, place.
pub async fn dismiss(service: &Rc<Service>, crew: &Rc<Crew>) {
    if service.fleet.remove(crew.generation).is_none() {
        return;
    }
    for instance in &crew.instances() {
        let_go_of(service, crew, instance).await;
    }
    service.tend();
}

async fn let_go_of(service: &Rc<Service>, crew: &Crew, instance: &Instance) {
    if let Some(Place::Socket(path)) = &instance.place {
        drop(std::fs::remove_file(path));
    }
    if let Some(pump) = instance.pump.take() {
        pump.abort();
        let path = service.paths.fifo(crew.generation, instance.index);
        log_files::drain(&path, instance.index.0, &service.logs.writer(crew.release));
        drop(std::fs::remove_file(path));
    }
    let name = child_spec::output_name(service, crew.generation, instance.index);
    if let Err(error) = service.link().forget(name).await {
        tracing::warn!(service = %service.name, %error, "closing a process's output");
    }
}

fn signal_number(name: &str) -> i32 {
    format!("SIG{name}").parse::<Signal>().map_or(libc::SIGTERM, |signal| signal as i32)
}
