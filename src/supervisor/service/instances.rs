//! The processes of a service: generations, and the instances of each.
//!
//! These are nouns with their data; the code that starts, watches and stops them is in
//! [`crate::supervisor::instances::start`], [`crate::supervisor::instances::restarter`] and
//! [`crate::supervisor::instances::retire`].

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use tokio::sync::watch;

use crate::config::model::Settings;
use crate::core::crashes::{Crashes, Life};
use crate::core::duty::Duty;
use crate::core::ids::{GenerationId, InstanceIndex, ReleaseId, SlotId};
use crate::core::ordered::{Few, Ordered as _};
use crate::core::restart::Process;
use crate::core::status::Health;
use crate::core::time::Tick;
use crate::keeper::protocol::{ChildId, End};
use crate::supervisor::processes::log_pipe::Pump;
use crate::supervisor::service::confinement::Confinement;
use crate::supervisor::service::heard::Heard;
use crate::supervisor::service::seat::Seat;
use crate::supervisor::service::settings::mark;
use crate::supervisor::sockets::backend_address::BackendAddress;

/// All generations of a service that have processes, by number.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    generations: RefCell<Few<GenerationId, Rc<Generation>>>,
    highest: Cell<u64>,
}

/// The processes of one generation.
#[derive(Debug)]
pub(crate) struct Generation {
    /// Which generation.
    pub id: GenerationId,
    /// Of which release.
    pub release: ReleaseId,
    /// The settings it runs with.
    pub settings: Settings,
    /// A number for what its processes were started with; 0 when it is unknown.
    pub started_with: Cell<u64>,
    /// What its processes are kept to.
    pub confinement: Confinement,
    /// When it was started.
    pub started: Tick,
    /// Its processes.
    instances: RefCell<Vec<Rc<Instance>>>,
    /// Counts ends of its processes: the gate and the bake look at it.
    n_ends: watch::Sender<u32>,
    /// What became of it, for status and the guard.
    duty: Cell<Duty>,
    /// It is on its way out: how far.
    leaving: Cell<Option<Leaving>>,
    /// Its hooks before its stop were run.
    was_told_to_stop: Cell<bool>,
    /// How often it was sent on its way: the last time counts.
    n_leaves: Cell<u32>,
}

/// How far a generation is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leaving {
    /// Connections it still has.
    pub n_connections: usize,
    /// When it is asked to stop whatever it still has; never when absent.
    pub until: Option<Tick>,
}

/// One process, over its restarts.
#[derive(Debug)]
pub(crate) struct Instance {
    /// Its place.
    pub index: InstanceIndex,
    /// Its slot in each of the service's listeners, in their order.
    pub slots: Vec<SlotId>,
    /// The address it listens on, when it is given one.
    pub place: Option<BackendAddress>,
    /// Where the process is that passes connections on to that place.
    pub forwarder: Seat,
    /// Where its program is.
    pub program: Seat,
    /// How its process, or the forwarder's, ended last, as the keeper reported it to this supervisor.
    last_end: Cell<Option<LastEnd>>,
    /// When it is started again.
    crashes: Cell<Crashes>,
    /// Starts after the first.
    restarts: Cell<u32>,
    /// It gets its part of the connections.
    joined: Cell<bool>,
    /// It is to run: the guard keeps it up.
    wanted: Cell<bool>,
    /// The last probe was good.
    health: Cell<Health>,
    /// It sent `READY=1`.
    said_ready: Cell<bool>,
    /// What it says of itself.
    pub heard: Heard,
    /// Its process was asked to stop.
    asked: Cell<bool>,
    /// Reads its output.
    pump: RefCell<Option<Pump>>,
}

/// The end of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LastEnd {
    /// Its process id.
    pub(crate) pid: i32,
    /// How.
    pub(crate) end: End,
    /// When the keeper reported it.
    pub(crate) at: Tick,
}

impl Fleet {
    /// A number for a new generation: higher than any seen.
    pub(crate) fn next_generation(&self) -> GenerationId {
        self.highest.set(self.highest.get() + 1);
        GenerationId(self.highest.get())
    }

    /// Numbers up to this one are taken.
    pub(crate) fn seen(&self, id: GenerationId) {
        self.highest.set(self.highest.get().max(id.0));
    }

    /// Takes a generation in.
    pub(crate) fn insert(&self, generation: Rc<Generation>) {
        self.seen(generation.id);
        self.generations.borrow_mut().insert(generation.id, generation);
    }

    /// Lets a generation go.
    pub(crate) fn remove(&self, id: GenerationId) -> Option<Rc<Generation>> {
        self.generations.borrow_mut().remove(&id)
    }

    /// The generation of this number.
    pub(crate) fn get(&self, id: GenerationId) -> Option<Rc<Generation>> {
        self.generations.borrow().get(&id).cloned()
    }

    /// All generations, oldest first.
    pub(crate) fn all(&self) -> Vec<Rc<Generation>> {
        self.generations.borrow().values().cloned().collect()
    }

    /// Slots of one listener that belong to a process.
    pub(crate) fn slots_of(&self, listener: usize) -> BTreeSet<SlotId> {
        let generations = self.generations.borrow();
        let instances = generations.values().flat_map(|generation| generation.instances());
        instances.filter_map(|instance| instance.slots.get(listener).copied()).into_set()
    }

    /// Slots of one listener that a process has, or is about to have.
    pub(crate) fn slots_in_use(&self, listener: usize) -> BTreeSet<SlotId> {
        let generations = self.generations.borrow();
        let instances = generations.values().flat_map(|generation| generation.instances());
        let present = instances.filter(|instance| !instance.is_gone());
        present.filter_map(|instance| instance.slots.get(listener).copied()).into_set()
    }

    /// Releases that have a process.
    pub(crate) fn releases(&self) -> BTreeSet<ReleaseId> {
        self.generations.borrow().values().map(|generation| generation.release).into_set()
    }
}

impl Generation {
    /// A generation that begins, or was found.
    pub(crate) fn new(
        id: GenerationId,
        release: ReleaseId,
        settings: Settings,
        started: Tick,
        duty: Duty,
    ) -> Rc<Self> {
        Self::confined(id, release, settings, started, duty, Confinement::default())
    }

    /// One that begins, and is kept to this.
    pub(crate) fn confined(
        id: GenerationId,
        release: ReleaseId,
        settings: Settings,
        started: Tick,
        duty: Duty,
        confinement: Confinement,
    ) -> Rc<Self> {
        Rc::new(Self {
            id,
            release,
            started_with: Cell::new(mark(&settings)),
            settings,
            confinement,
            started,
            instances: RefCell::default(),
            n_ends: watch::channel(0).0,
            duty: Cell::new(duty),
            leaving: Cell::new(None),
            was_told_to_stop: Cell::new(false),
            n_leaves: Cell::new(0),
        })
    }

    /// Its processes, by their places.
    pub(crate) fn instances(&self) -> Vec<Rc<Instance>> {
        self.instances.borrow().clone()
    }

    /// One more.
    pub(crate) fn add(&self, instance: Rc<Instance>) {
        self.instances.borrow_mut().push(instance);
    }

    /// One less.
    pub(crate) fn remove(&self, index: InstanceIndex) {
        self.instances.borrow_mut().retain(|instance| instance.index != index);
    }

    /// Slots in one listener of its processes that run and have joined, each once; of all of them
    /// when there is none such: connections wait there.
    pub(crate) fn slots(&self, listener: usize) -> Vec<SlotId> {
        let all = self.instances();
        let joined = |instance: &&Rc<Instance>| instance.has_joined() && instance.child().is_some();
        let running: Vec<_> = all.iter().filter(joined).cloned().collect();
        let chosen = if running.is_empty() { all } else { running };
        let slots: BTreeSet<SlotId> =
            chosen.iter().filter_map(|instance| instance.slots.get(listener).copied()).into_set();
        slots.into_iter().collect()
    }

    /// Whether every one of its processes runs.
    pub(crate) fn is_whole(&self) -> bool {
        self.instances().iter().all(|instance| instance.program.is_running())
    }

    /// Whether none of its processes is left, not even one that passes connections on, and none is
    /// being started.
    pub(crate) fn is_gone(&self) -> bool {
        self.instances().iter().all(|instance| instance.is_gone())
    }

    /// Whether it has all the processes its settings ask for, and they run: one that was cut off in
    /// the middle of its start has fewer.
    pub(crate) fn is_complete(&self) -> bool {
        self.instances().len() == usize::from(self.settings.instances) && self.is_whole()
    }

    /// Whether at least one of its processes runs.
    pub(crate) fn is_alive(&self) -> bool {
        self.instances().iter().any(|instance| instance.program.is_running())
    }

    /// The newest end of any of its processes.
    pub(crate) fn last_end(&self) -> Option<LastEnd> {
        let instances = self.instances();
        let ends = instances.iter().filter_map(|instance| instance.last_end.get());
        ends.max_by_key(|last| last.at)
    }

    /// Hears of the ends of its processes, and of places that become free.
    pub(crate) fn ends(&self) -> watch::Receiver<u32> {
        self.n_ends.subscribe()
    }

    /// One of its processes has ended.
    pub(crate) fn note_end(&self) {
        self.n_ends.send_modify(|n| *n += 1);
    }

    /// A place that was held for a process is free again.
    pub(crate) fn note_free(&self) {
        self.n_ends.send_modify(|_| ());
    }

    /// What became of it.
    pub(crate) fn duty(&self) -> Duty {
        self.duty.get()
    }

    /// It is this from here on.
    pub(crate) fn assign(&self, duty: Duty) {
        self.duty.set(duty);
    }

    /// How far it is on its way out, when it is.
    pub(crate) fn leaving(&self) -> Option<Leaving> {
        self.leaving.get()
    }

    /// It is so far on its way out; not at all when absent.
    pub(crate) fn note_leaving(&self, leaving: Option<Leaving>) {
        self.leaving.set(leaving);
    }

    /// Its hooks before its stop are to be run. Returns whether they were before.
    pub(crate) fn tell_to_stop(&self) -> bool {
        self.was_told_to_stop.replace(true)
    }

    /// It is sent on its way, again or for the first time. Returns the time's number: only the last
    /// one counts.
    pub(crate) fn begin_leave(&self) -> u32 {
        self.n_leaves.set(self.n_leaves.get() + 1);
        self.n_leaves.get()
    }

    /// The number of the last time that it was sent on its way.
    pub(crate) fn last_leave(&self) -> u32 {
        self.n_leaves.get()
    }

    /// Its programs at the keeper.
    pub(crate) fn children(&self) -> Vec<ChildId> {
        self.instances().iter().filter_map(|instance| instance.child()).collect()
    }
}

impl Instance {
    /// An instance that does not run yet.
    pub(crate) fn new(
        index: InstanceIndex,
        slots: Vec<SlotId>,
        place: Option<BackendAddress>,
    ) -> Self {
        Self {
            index,
            slots,
            place,
            forwarder: Seat::default(),
            program: Seat::default(),
            last_end: Cell::new(None),
            crashes: Cell::default(),
            restarts: Cell::new(0),
            joined: Cell::new(false),
            wanted: Cell::new(true),
            health: Cell::default(),
            said_ready: Cell::new(false),
            heard: Heard::default(),
            asked: Cell::new(false),
            pump: RefCell::new(None),
        }
    }

    /// The place of its program, or of the forwarder.
    pub(crate) fn seat(&self, process: Process) -> &Seat {
        match process {
            Process::Forwarder => &self.forwarder,
            Process::Program => &self.program,
        }
    }

    /// Whether it has no process, and none is being started.
    pub(crate) fn is_gone(&self) -> bool {
        self.program.is_empty() && self.forwarder.is_empty()
    }

    /// Its program is about to be started: nothing is known of it.
    pub(crate) fn begin_start(&self) {
        self.health.set(Health::Unknown);
        self.said_ready.set(false);
        self.heard.status.replace(None);
        self.asked.set(false);
    }

    /// Its process is asked to stop.
    pub(crate) fn ask_to_stop(&self) {
        self.asked.set(true);
    }

    /// Whether its process was asked to stop.
    pub(crate) fn was_asked_to_stop(&self) -> bool {
        self.asked.get()
    }

    /// Its last probe was good, or was not.
    pub(crate) fn note_ready(&self, is_ready: bool) {
        self.health.set(self.health.get().after(is_ready));
    }

    /// Whether its last probe was good.
    pub(crate) fn is_ready(&self) -> bool {
        self.health.get() == Health::Good
    }

    /// What its health checks have said since its start.
    pub(crate) fn health(&self) -> Health {
        self.health.get()
    }

    /// It gets its part of the connections.
    pub(crate) fn join(&self) {
        self.joined.set(true);
    }

    /// It gets no connections.
    pub(crate) fn withdraw(&self) {
        self.joined.set(false);
    }

    /// Whether it gets its part of the connections.
    pub(crate) fn has_joined(&self) -> bool {
        self.joined.get()
    }

    /// It has sent `READY=1`.
    pub(crate) fn say_ready(&self) {
        self.said_ready.set(true);
    }

    /// Whether it has sent `READY=1`.
    pub(crate) fn has_said_ready(&self) -> bool {
        self.said_ready.get()
    }

    /// When it is started again after this life. `chance` spreads the starts of several.
    pub(crate) fn next_start(&self, now: Tick, life: Life, chance: u64) -> Tick {
        let mut crashes = self.crashes.get();
        let at = crashes.next_start(now, life, chance);
        self.crashes.set(crashes);
        at
    }

    /// The crashes in a row so far.
    pub(crate) fn crashes(&self) -> Crashes {
        self.crashes.get()
    }

    /// It is started once more.
    pub(crate) fn note_restart(&self) {
        self.restarts.set(self.restarts.get() + 1);
    }

    /// Starts after the first.
    pub(crate) fn restarts(&self) -> u32 {
        self.restarts.get()
    }

    /// It was found running, after so many starts, with its part of the connections.
    pub(crate) fn found(&self, restarts: u32) {
        self.restarts.set(restarts);
        self.joined.set(true);
    }

    /// It is to run no more.
    pub(crate) fn dismiss(&self) {
        self.wanted.set(false);
    }

    /// Whether it is to run.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.get()
    }

    /// Its process, or the forwarder's, has ended so.
    pub(crate) fn note_end(&self, last: LastEnd) {
        self.last_end.set(Some(last));
    }

    /// How its process, or the forwarder's, ended last.
    pub(crate) fn last_end(&self) -> Option<LastEnd> {
        self.last_end.get()
    }

    /// Its output is read from here on.
    pub(crate) fn pump(&self, pump: Pump) {
        self.pump.replace(Some(pump));
    }

    /// Whether its output is read.
    pub(crate) fn is_pumped(&self) -> bool {
        self.pump.borrow().is_some()
    }

    /// Takes what reads its output, to end it.
    pub(crate) fn take_pump(&self) -> Option<Pump> {
        self.pump.take()
    }

    /// Its program at the keeper.
    pub(crate) fn child(&self) -> Option<ChildId> {
        self.program.run().map(|run| run.child)
    }

    /// Its program's process id.
    pub(crate) fn pid(&self) -> Option<i32> {
        self.program.run().map(|run| run.identity.pid)
    }
}
