//! One service as the supervisor holds it: its settings, its durable state, its listeners, its
//! processes, its operation. A noun; the verbs are in the files beside this one.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;

use tokio::task::JoinHandle;

use crate::config::model;
use crate::core::ids::{Generation, OpId, ReleaseId, ServiceName, SlotId};
use crate::core::time::Tick;
use crate::os::clock;
use crate::store::layout::{Layout, ServiceLayout};
use crate::store::state::{State, StateError};
use crate::store::trial;
use crate::supervisor::fleet::{Crew, Duty, Fleet};
use crate::supervisor::link::Link;
use crate::supervisor::logs::LogFiles;
use crate::supervisor::operation::Operation;
use crate::supervisor::slots::{SlotError, Slots};

/// What all services share.
#[derive(Debug)]
pub struct Shared {
    /// The way to the keeper.
    pub link: Rc<Link>,
    /// Every path.
    pub layout: Layout,
    /// This boot, as the kernel names it.
    pub boot_id: String,
    /// The configuration's path, for messages and reloads.
    pub config_path: PathBuf,
    /// The stack is being taken down: nothing is started any more.
    pub stopping: Cell<bool>,
}

/// One service.
#[derive(Debug)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// What all services share.
    pub shared: Rc<Shared>,
    /// Its configuration as last read.
    pub config: RefCell<Rc<model::Service>>,
    /// Its paths.
    pub paths: ServiceLayout,
    /// Its durable state as last saved.
    pub state: RefCell<State>,
    /// Its listeners.
    pub slots: Slots,
    /// Its processes.
    pub fleet: Fleet,
    /// Its log files.
    pub logs: LogFiles,
    /// The generation that new connections go to.
    pub live: Cell<Option<Generation>>,
    /// The operation that runs.
    pub operation: RefCell<Option<Rc<Operation>>>,
    /// The task that runs it.
    pub task: RefCell<Option<JoinHandle<()>>>,
    /// Operations that ended, for late watchers.
    pub past: RefCell<VecDeque<Rc<Operation>>>,
    /// Why it does not serve, when it does not.
    pub trouble: RefCell<Option<String>>,
    /// The live release's probes at rest are bad since this tick.
    pub unwell: Cell<Option<Tick>>,
}

impl Service {
    /// A service with its durable state.
    ///
    /// # Errors
    /// When the state file cannot be read: it is never replaced by an empty one.
    pub fn load(shared: Rc<Shared>, config: model::Service) -> Result<Rc<Self>, StateError> {
        let paths = shared.layout.service(&config.name);
        let state = State::load(&paths.state())?;
        Ok(Rc::new(Self {
            name: config.name.clone(),
            slots: Slots::new(config.name.clone()),
            logs: LogFiles::new(paths.logs()),
            config: RefCell::new(Rc::new(config)),
            shared,
            paths,
            state: RefCell::new(state),
            fleet: Fleet::default(),
            live: Cell::new(None),
            operation: RefCell::default(),
            task: RefCell::default(),
            past: RefCell::default(),
            trouble: RefCell::default(),
            unwell: Cell::new(None),
        }))
    }

    /// Its configuration as last read.
    pub fn config(&self) -> Rc<model::Service> {
        Rc::clone(&self.config.borrow())
    }

    /// The way to the keeper.
    pub fn link(&self) -> &Link {
        &self.shared.link
    }

    /// The generation that serves.
    pub fn live_crew(&self) -> Option<Rc<Crew>> {
        self.fleet.get(self.live.get()?)
    }

    /// The release that new connections go to.
    pub fn serving(&self) -> Option<ReleaseId> {
        self.live_crew().filter(|crew| crew.is_alive()).map(|crew| crew.release)
    }

    /// The release that a reboot starts.
    pub fn last_good(&self) -> Option<ReleaseId> {
        self.state.borrow().last_good.as_ref().map(|served| ReleaseId(served.release))
    }

    /// The release that is live but not committed.
    pub fn trial(&self) -> Option<ReleaseId> {
        trial::read(&self.paths).ok().flatten().map(|trial| ReleaseId(trial.release))
    }

    /// Changes the state in memory and saves it in one durable step; on failure the memory is as
    /// the disk.
    ///
    /// # Errors
    /// When it cannot be saved.
    pub fn save(&self, change: impl FnOnce(&mut State)) -> Result<(), StateError> {
        let mut next = self.state.borrow().clone();
        change(&mut next);
        next.save(&self.paths.state())?;
        self.state.replace(next);
        Ok(())
    }

    /// Slots of one listener that belong to a process.
    pub fn owned_slots(&self, listener: usize) -> BTreeSet<SlotId> {
        self.fleet.slots_of(listener)
    }

    /// Steers every listener to this generation: to those of its processes that run, to all of
    /// them when none does (their callers are held in the queues).
    ///
    /// # Errors
    /// When a program cannot be attached.
    pub fn steer_to(&self, crew: &Rc<Crew>, duty: Duty) -> Result<(), SlotError> {
        let running: Vec<_> =
            crew.instances.iter().filter(|instance| instance.run.borrow().is_some()).collect();
        let chosen = if running.is_empty() { crew.instances.iter().collect() } else { running };
        let n_listeners = self.slots.listeners().len();
        let shares: Vec<Vec<(SlotId, u32)>> = (0..n_listeners)
            .map(|index| {
                let slots = chosen.iter().filter_map(|instance| instance.slots.get(index));
                slots.map(|slot| (*slot, 1)).collect()
            })
            .collect();
        self.slots.steer(&shares)?;
        if let Some(left) = self.live_crew().filter(|left| left.generation != crew.generation) {
            left.duty.set(Duty::Standby);
        }
        crew.duty.set(duty);
        self.live.set(Some(crew.generation));
        Ok(())
    }

    /// Sees to the slots that nobody has.
    pub fn tend(&self) {
        self.slots.tend(|listener| self.owned_slots(listener));
    }

    /// The running or a past operation of this number.
    pub fn operation_of(&self, op: OpId) -> Option<Rc<Operation>> {
        let running = self.operation.borrow().clone().filter(|running| running.id == op);
        running.or_else(|| self.past.borrow().iter().find(|past| past.id == op).cloned())
    }

    /// The present moment.
    pub fn now(&self) -> Tick {
        clock::tick()
    }
}
