//! Generations that were steered away from, on their way out; and candidates that never were
//! steered to, which need no manners.

use std::rc::Rc;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::core::ids::SlotId;
use crate::core::retire::{Effect, Event, Retire, Times};
use crate::core::time::Tick;
use crate::keeper::protocol::Reach;
use crate::os::clock;
use crate::supervisor::fleet::{Crew, Duty};
use crate::supervisor::link::Signalled;
use crate::supervisor::listener;
use crate::supervisor::logs;
use crate::supervisor::service::Service;
use crate::supervisor::start;

/// How long queues may take to run empty; who comes later is a straggler.
const SETTLE: Duration = Duration::from_secs(5);

/// Lets a generation go: warm until then, drained, stopped. It may be taken back at any moment by
/// giving it another duty.
pub fn begin(service: &Rc<Service>, crew: &Rc<Crew>, warm_until: Tick) {
    let (service, crew) = (Rc::clone(service), Rc::clone(crew));
    if !crew.is_alive() {
        tokio::task::spawn_local(async move { dismiss(&service, &crew).await });
        return;
    }
    crew.duty.set(Duty::Standby);
    tokio::task::spawn_local(async move { retire(&service, &crew, warm_until).await });
}

async fn retire(service: &Rc<Service>, crew: &Rc<Crew>, warm_until: Tick) {
    let stop = &crew.settings.stop;
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let times = Times { linger_ms: ms(stop.linger), stop_ms: ms(stop.timeout) };
    let mut machine = Retire::new(times, warm_until);
    let mut ends = crew.n_ends.subscribe();
    let mut effect = None;
    loop {
        let event = match effect.take() {
            Some(Effect::Settle) => {
                settle(service, crew).await;
                Event::Done
            }
            Some(Effect::Term) => term(service, crew).await,
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
        if !matches!(crew.duty.get(), Duty::Standby | Duty::Draining) {
            return;
        }
        let event = if crew.is_alive() { event } else { Event::Ended };
        effect = machine.step(clock::tick(), event);
        if event == Event::Done && effect.is_none() {
            crew.duty.set(Duty::Draining);
        }
        if event == Event::Refused {
            crew.duty.set(Duty::Standby);
        }
    }
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
            crew.instances.iter().filter_map(|i| i.slots.get(index).copied()).collect();
        let settled = listener::settle(listener, &left, SETTLE).await;
        tracing::debug!(service = %service.name, ?settled, "settled");
    }
}

/// Asks all processes of the generation to stop, if those of the live one are alive at that
/// instant: the keeper compares and acts.
async fn term(service: &Rc<Service>, crew: &Rc<Crew>) -> Event {
    let Some(live) = service.live_crew().filter(|live| live.generation != crew.generation) else {
        return Event::Refused;
    };
    let alive = live.children();
    if alive.is_empty() || !live.is_whole() {
        return Event::Refused;
    }
    // From here on it cannot be taken back.
    crew.duty.set(Duty::Draining);
    let number = signal_number(&crew.settings.stop.signal);
    for child in crew.children() {
        match service.link().signal(child, number, Reach::Process, alive.clone()).await {
            Ok(Signalled::Done) => {}
            Ok(Signalled::Refused(_)) => return Event::Refused,
            Err(error) => tracing::error!(service = %service.name, %error, "stopping"),
        }
    }
    Event::Done
}

async fn kill(service: &Rc<Service>, crew: &Rc<Crew>) {
    for child in crew.children() {
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
    let number = signal_number(&crew.settings.stop.signal);
    for child in crew.children() {
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
    while crew.is_alive() {
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
    for instance in &crew.instances {
        if let Some(pump) = instance.pump.take() {
            pump.abort();
            let path = service.paths.fifo(crew.generation, instance.index);
            logs::drain(&path, instance.index.0, &service.logs.writer(crew.release));
            drop(std::fs::remove_file(path));
        }
        let name = start::output_name(service, crew.generation, instance.index);
        if let Err(error) = service.link().forget(name).await {
            tracing::warn!(service = %service.name, %error, "closing a process's output");
        }
    }
    service.tend();
}

fn signal_number(name: &str) -> i32 {
    format!("SIG{name}").parse::<Signal>().map_or(libc::SIGTERM, |signal| signal as i32)
}
