//! The processes of a service: generations, and the instances of each.
//!
//! These are nouns with their data; who starts, watches and stops them is in [`super::start`],
//! [`super::guard`] and [`super::leave`].

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::model::Settings;
use crate::core::ids::{Generation, InstanceIndex, ReleaseId, SlotId};
use crate::core::service::Backoff;
use crate::core::time::Tick;
use crate::keeper::protocol::{ChildId, Identity};

/// All generations of a service that have processes, by number.
#[derive(Debug, Default)]
pub struct Fleet {
    crews: RefCell<BTreeMap<Generation, Rc<Crew>>>,
    highest: Cell<u64>,
}

/// The processes of one generation.
#[derive(Debug)]
pub struct Crew {
    /// Which generation.
    pub generation: Generation,
    /// Of which release.
    pub release: ReleaseId,
    /// The settings it runs with.
    pub settings: Settings,
    /// When it was started.
    pub started: Tick,
    /// Its processes.
    pub instances: Vec<Rc<Instance>>,
    /// Counts ends of its processes: the gate and the bake look at it.
    pub n_ends: watch::Sender<u32>,
    /// What became of it, for status and the guard.
    pub duty: Cell<Duty>,
}

/// What a generation is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// It was started and is being probed; an end is the operation's business.
    Candidate,
    /// New connections go to it, but it is not committed; an end is the operation's business.
    Trial,
    /// New connections go to it; the guard starts its processes again.
    Live,
    /// Steered away, warm for a rollback.
    Standby,
    /// Steered away for good.
    Draining,
}

/// One process, over its restarts.
#[derive(Debug)]
pub struct Instance {
    /// Its place.
    pub index: InstanceIndex,
    /// Its slot in each of the service's listeners, in their order.
    pub slots: Vec<SlotId>,
    /// The process it is now.
    pub run: RefCell<Option<Run>>,
    /// When it is started again.
    pub backoff: RefCell<Backoff>,
    /// Starts after the first.
    pub restarts: Cell<u32>,
    /// The last probe was good.
    pub ready: Cell<bool>,
    /// It said `READY=1`.
    pub said_ready: Cell<bool>,
    /// Reads its output.
    pub pump: RefCell<Option<JoinHandle<()>>>,
}

/// A running process.
#[derive(Debug, Clone)]
pub struct Run {
    /// Its number at the keeper.
    pub child: ChildId,
    /// Who it is.
    pub identity: Identity,
    /// When it was started.
    pub started: Tick,
}

impl Fleet {
    /// A number for a new generation: higher than any seen.
    pub fn next_generation(&self) -> Generation {
        self.highest.set(self.highest.get() + 1);
        Generation(self.highest.get())
    }

    /// Numbers up to this one are taken.
    pub fn seen(&self, generation: Generation) {
        self.highest.set(self.highest.get().max(generation.0));
    }

    /// Takes a generation in.
    pub fn insert(&self, crew: Rc<Crew>) {
        self.seen(crew.generation);
        self.crews.borrow_mut().insert(crew.generation, crew);
    }

    /// Lets a generation go.
    pub fn remove(&self, generation: Generation) -> Option<Rc<Crew>> {
        self.crews.borrow_mut().remove(&generation)
    }

    /// The generation of this number.
    pub fn get(&self, generation: Generation) -> Option<Rc<Crew>> {
        self.crews.borrow().get(&generation).cloned()
    }

    /// All generations, oldest first.
    pub fn all(&self) -> Vec<Rc<Crew>> {
        self.crews.borrow().values().cloned().collect()
    }

    /// Slots of one listener that belong to a process.
    pub fn slots_of(&self, listener: usize) -> BTreeSet<SlotId> {
        let crews = self.crews.borrow();
        let instances = crews.values().flat_map(|crew| crew.instances.iter());
        instances.filter_map(|instance| instance.slots.get(listener).copied()).collect()
    }

    /// Releases that have a process.
    pub fn releases(&self) -> BTreeSet<ReleaseId> {
        self.crews.borrow().values().map(|crew| crew.release).collect()
    }
}

impl Crew {
    /// Whether every one of its processes runs.
    pub fn is_whole(&self) -> bool {
        self.instances.iter().all(|instance| instance.run.borrow().is_some())
    }

    /// Whether it has all the processes its settings ask for, and they run: one that was cut off in
    /// the middle of its start has fewer.
    pub fn is_complete(&self) -> bool {
        self.instances.len() == usize::from(self.settings.instances) && self.is_whole()
    }

    /// Whether at least one of its processes runs.
    pub fn is_alive(&self) -> bool {
        self.instances.iter().any(|instance| instance.run.borrow().is_some())
    }

    /// Its children at the keeper.
    pub fn children(&self) -> Vec<ChildId> {
        self.instances.iter().filter_map(|instance| instance.child()).collect()
    }
}

impl Instance {
    /// An instance that does not run yet.
    pub fn new(index: InstanceIndex, slots: Vec<SlotId>) -> Self {
        Self {
            index,
            slots,
            run: RefCell::new(None),
            backoff: RefCell::new(Backoff::default()),
            restarts: Cell::new(0),
            ready: Cell::new(false),
            said_ready: Cell::new(false),
            pump: RefCell::new(None),
        }
    }

    /// Its child at the keeper.
    pub fn child(&self) -> Option<ChildId> {
        self.run.borrow().as_ref().map(|run| run.child)
    }

    /// Its process id.
    pub fn pid(&self) -> Option<i32> {
        self.run.borrow().as_ref().map(|run| run.identity.pid)
    }
}
