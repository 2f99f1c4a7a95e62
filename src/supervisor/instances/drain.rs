//! The one way in which processes are stopped: [`crate::core::drain`] decides, this file performs.
//!
//! A generation that was replaced, an instance too many, a candidate that failed, a service that is
//! taken down: they differ in where the machine begins and in which processes must be alive for the
//! signal.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::config::model;
use crate::core::drain::{Drain, Effect, Event, Phase, Times};
use crate::core::duty::Duty;
use crate::core::ids::SlotId;
use crate::keeper::protocol::{ChildId, Reach};
use crate::os::{clock, local};
use crate::supervisor::instances::connections;
use crate::supervisor::processes::keeper_client::Signalled;
use crate::supervisor::service::Service;
use crate::supervisor::service::child_spec;
use crate::supervisor::service::instances::{Generation, Instance, Leaving};
use crate::supervisor::sockets::backend_address::BackendAddress;
use crate::supervisor::sockets::listener;
use crate::supervisor::tasks::before_stop;
use crate::text;

/// How often connections are counted.
const COUNT_EVERY_MS: u64 = 500;

/// Processes on their way out.
pub(crate) struct Leaver {
    service: Rc<Service>,
    generation: Rc<Generation>,
    /// One instance of the generation; all of them when absent.
    one: Option<Rc<Instance>>,
    guard: Guard,
    /// How long the queues may take to run empty.
    settle: Duration,
    /// The generation's retirement that this is; a newer one takes over.
    epoch: u32,
    /// One of its processes was asked to stop: it cannot be taken back, whatever became of the
    /// others.
    was_asked: Cell<bool>,
}

/// Which processes must be alive at the instant of the signal: the keeper compares and acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guard {
    /// Every process of the live generation, which is another one.
    Live,
    /// The other instances of the same generation.
    Others,
    /// None: new connections wait or are refused, or these processes never had any.
    Nobody,
}

/// How a drain went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drained {
    /// The processes are gone, with what they had.
    Gone,
    /// The generation was taken back, or a newer retirement has it.
    TakenBack,
}

/// The times of a stop as the settings have them.
pub(crate) fn times(stop: &model::Stop) -> Times {
    let drain_ms = match stop.drain {
        model::Drain::For(duration) => Some(text::ms(duration)),
        model::Drain::Forever => None,
    };
    Times {
        linger_ms: text::ms(stop.linger),
        drain_ms,
        stop_ms: text::ms(stop.timeout),
        count_every_ms: COUNT_EVERY_MS,
    }
}

impl Leaver {
    /// A whole generation. Only a retirement in favour of the live one can be taken back.
    pub(crate) fn all(
        service: &Rc<Service>,
        generation: &Rc<Generation>,
        guard: Guard,
        settle: Duration,
    ) -> Self {
        generation.assign(if guard == Guard::Live { Duty::Standby } else { Duty::Draining });
        let (service, generation) = (Rc::clone(service), Rc::clone(generation));
        let epoch = generation.begin_leave();
        Self { service, generation, one: None, guard, settle, epoch, was_asked: Cell::new(false) }
    }

    /// One instance of the live generation.
    pub(crate) fn one(
        service: &Rc<Service>,
        generation: &Rc<Generation>,
        instance: &Rc<Instance>,
        settle: Duration,
    ) -> Self {
        let (service, generation, one) =
            (Rc::clone(service), Rc::clone(generation), Rc::clone(instance));
        let was_asked = Cell::new(false);
        Self {
            service,
            generation,
            one: Some(one),
            guard: Guard::Others,
            settle,
            epoch: 0,
            was_asked,
        }
    }

    /// Performs the machine's effects until the processes are gone.
    pub(crate) async fn run(self, mut machine: Drain, mut effect: Option<Effect>) -> Drained {
        send_forwarders_on(&self.service, &self.instances()).await;
        let mut ends = self.generation.ends();
        loop {
            let event = match effect.take() {
                Some(Effect::Settle) => {
                    self.settle().await;
                    Event::Done
                }
                Some(Effect::Count) => self.count(machine.phase()).await,
                Some(Effect::Term) => self.term().await,
                Some(Effect::Kill) => {
                    self.kill().await;
                    Event::Done
                }
                Some(Effect::Forget) => {
                    self.forget().await;
                    return Drained::Gone;
                }
                None => {
                    let due = machine.deadline().map(|at| at.since_ms(clock::tick()));
                    tokio::select! {
                        () = sleep(due) => Event::Tick,
                        _ = ends.changed() => Event::Tick,
                    }
                }
            };
            if self.is_taken_back() {
                return Drained::TakenBack;
            }
            let event = if self.is_gone() { Event::Ended } else { event };
            effect = machine.step(clock::tick(), event);
            if self.one.is_none() {
                show(&self.generation, machine.phase());
            }
            let is_whole = !self.was_asked.get();
            if event == Event::Refused && self.guard == Guard::Live && is_whole {
                self.generation.assign(Duty::Standby);
            }
        }
    }

    /// Whether a rollback or a newer retirement has the generation.
    fn is_taken_back(&self) -> bool {
        if self.guard != Guard::Live {
            return false;
        }
        if self.generation.last_leave() != self.epoch {
            return true;
        }
        let is_wanted = !matches!(self.generation.duty(), Duty::Standby | Duty::Draining);
        if is_wanted {
            self.generation.note_leaving(None);
        }
        is_wanted
    }

    fn instances(&self) -> Vec<Rc<Instance>> {
        match &self.one {
            Some(one) => vec![Rc::clone(one)],
            None => self.generation.instances(),
        }
    }

    fn is_gone(&self) -> bool {
        self.instances().iter().all(|instance| instance.is_gone())
    }

    async fn settle(&self) {
        if self.is_gone() {
            return;
        }
        let instances = self.instances();
        for (index, listener) in self.service.slots.listeners().iter().enumerate() {
            let left: Vec<SlotId> =
                instances.iter().filter_map(|i| i.slots.get(index).copied()).collect();
            let settled = listener::settle(listener, &left, self.settle).await;
            tracing::debug!(service = %self.service.name, ?settled, "settled");
        }
    }

    /// Counts the connections that the processes have, where users come in.
    async fn count(&self, phase: Phase) -> Event {
        let n_connections = connections::of_instances(&self.service, &self.instances()).await;
        if self.one.is_none() {
            let until = match phase {
                Phase::Drain { until, .. } => until,
                _ => None,
            };
            self.generation.note_leaving(Some(Leaving { n_connections, until }));
        }
        if n_connections == 0 { Event::Done } else { Event::Busy }
    }

    /// Asks the processes to stop, if those of the guard are alive at that instant.
    async fn term(&self) -> Event {
        if self.guard == Guard::Live {
            if self.alive().is_some() {
                before_stop::run(&self.service, &self.generation).await;
            }
            // The retirement may have been taken back meanwhile.
            let is_going = self.generation.duty() == Duty::Standby || self.was_asked.get();
            if self.is_taken_back() || !is_going {
                return Event::Refused;
            }
        }
        let Some(alive) = self.alive() else { return Event::Refused };
        if self.guard == Guard::Live {
            // From here on it cannot be taken back.
            self.generation.assign(Duty::Draining);
            // They were counted just before.
            let n_connections = self.generation.leaving().map_or(0, |left| left.n_connections);
            if n_connections > 0 {
                tracing::info!(service = %self.service.name, release = %self.generation.release,
                    n_connections, "stop signal sent with connections open: the program closes them");
            }
        }
        self.instances().iter().for_each(|instance| instance.ask_to_stop());
        for (child, number, reach) in self.farewells() {
            let link = self.service.link();
            match link.signal(child, number, reach, alive.clone()).await {
                Ok(Signalled::Done) => self.was_asked.set(true),
                Ok(Signalled::Refused(_)) => return Event::Refused,
                Err(error) => {
                    tracing::error!(service = %self.service.name, %error, "stopping a process");
                }
            }
        }
        Event::Done
    }

    /// The children that must be alive; `None` when one of them is known to be dead.
    fn alive(&self) -> Option<Vec<ChildId>> {
        match self.guard {
            Guard::Nobody => Some(Vec::new()),
            Guard::Live => {
                let live = self.service.live_generation()?;
                let serves = live.id != self.generation.id && live.is_whole();
                Some(live.children()).filter(|alive| serves && !alive.is_empty())
            }
            Guard::Others => {
                let own = self.one.as_ref().and_then(|one| one.child());
                let mut alive = self.generation.children();
                alive.retain(|child| Some(*child) != own);
                Some(alive).filter(|alive| !alive.is_empty())
            }
        }
    }

    /// Which processes are asked to stop, and how: forwarders take nothing more and leave with
    /// their last connection, programs do what their signal means.
    fn farewells(&self) -> Vec<(ChildId, i32, Reach)> {
        let stop = &self.generation.settings.stop;
        let number = signal_number(&stop.signal);
        let reach = match stop.signal_to {
            model::SignalTo::Main => Reach::Process,
            model::SignalTo::Group => Reach::Tree,
        };
        let (mut forwarders, mut programs) = (Vec::new(), Vec::new());
        for instance in self.instances() {
            let forwarder = instance.forwarder.run().map(|run| run.child);
            forwarders.extend(forwarder.map(|child| (child, libc::SIGTERM, Reach::Process)));
            programs.extend(instance.child().map(|child| (child, number, reach)));
        }
        forwarders.into_iter().chain(programs).collect()
    }

    async fn kill(&self) {
        for (child, ..) in self.farewells() {
            let link = self.service.link();
            let killed = link.signal(child, libc::SIGKILL, Reach::Tree, Vec::new()).await;
            if let Err(error) = killed {
                tracing::error!(service = %self.service.name, %error, "ending a process");
            }
        }
    }

    async fn forget(&self) {
        match &self.one {
            None => dismiss(&self.service, &self.generation).await,
            Some(one) => {
                self.generation.remove(one.index);
                let_go_of(&self.service, &self.generation, one).await;
                self.service.tend();
            }
        }
    }
}

/// Has the forwarders of instances that were steered away from lead their callers to where others go,
/// when there is no program behind them any more.
pub(crate) async fn send_forwarders_on(service: &Service, instances: &[Rc<Instance>]) {
    for instance in instances.iter().filter(|it| it.program.is_empty()) {
        let Some(run) = instance.forwarder.run() else { continue };
        let told = service.link().signal(run.child, libc::SIGTERM, Reach::Process, Vec::new());
        if let Err(error) = told.await {
            tracing::error!(service = %service.name, %error, "stopping a forwarder");
        }
    }
}

/// Sets the phase that `status` shows.
fn show(generation: &Generation, phase: Phase) {
    let n_connections = generation.leaving().map_or(0, |leaving| leaving.n_connections);
    generation.note_leaving(match phase {
        Phase::Warm(_) | Phase::Settle => None,
        Phase::Linger(_) => Some(Leaving { n_connections, until: None }),
        Phase::Drain { until, .. } => Some(Leaving { n_connections, until }),
        Phase::Stopping(until) => Some(Leaving { n_connections, until: Some(until) }),
        Phase::Term | Phase::Kill | Phase::Gone => generation.leaving(),
    });
}

async fn sleep(due_ms: Option<u64>) {
    match due_ms {
        Some(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
        None => std::future::pending().await,
    }
}

/// Lets go of what a generation without processes had: output, slots, place.
pub(crate) async fn dismiss(service: &Rc<Service>, generation: &Rc<Generation>) {
    if service.fleet.remove(generation.id).is_none() {
        return;
    }
    for instance in &generation.instances() {
        let_go_of(service, generation, instance).await;
    }
    service.tend();
}

async fn let_go_of(service: &Rc<Service>, generation: &Generation, instance: &Instance) {
    if let Some(BackendAddress::Socket(path)) = &instance.place {
        drop(local::remove(path));
    }
    if let Some(pump) = instance.take_pump() {
        pump.finish();
    }
    for name in [
        child_spec::output_name(&service.name, generation.id, instance.index),
        child_spec::spool_name(&service.name, generation.id, instance.index),
    ] {
        if let Err(error) = service.link().forget(name).await {
            tracing::warn!(service = %service.name, %error, "closing a process's output");
        }
    }
}

pub(super) fn signal_number(name: &str) -> i32 {
    format!("SIG{name}").parse::<Signal>().map_or(libc::SIGTERM, |signal| signal as i32)
}
