//! One service as the supervisor holds it: its settings, its durable state, its listeners, its
//! processes, its operation. A noun; the verbs are in the files beside this one.
//!
//! This room holds state. It must never start or stop a process.

pub(crate) mod activity;
pub(crate) mod attendants;
pub(crate) mod candidate;
pub(crate) mod child_spec;
pub(crate) mod condition;
pub(crate) mod confinement;
pub(crate) mod durable;
pub(crate) mod event_log;
pub(crate) mod followable;
pub(crate) mod heard;
pub(crate) mod history_book;
pub(crate) mod instances;
pub(crate) mod kept;
pub(crate) mod last_config;
pub(crate) mod notices;
pub(crate) mod occupied;
pub(crate) mod operation;
pub(crate) mod outcome;
pub(crate) mod phase_result;
pub(crate) mod refusal;
pub(crate) mod release_set;
pub(crate) mod routing;
pub(crate) mod seat;
pub(crate) mod settings;
pub(crate) mod stack;
pub(crate) mod terms;
#[cfg(test)]
pub(crate) mod test_service;
pub(crate) mod unresumed;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::rc::Rc;

use crate::api::status::RehearsalStatus;
use crate::config::model;
use crate::core::duty::Duty;
use crate::core::ids::{ReleaseId, ServiceName, SlotId};
use crate::core::operation::machine::Succession;
use crate::core::operation::rollout::{self, Part};
use crate::core::time::Tick;
use crate::os::clock;
use crate::store::layout::{Layout, ServiceLayout};
use crate::store::state::StateError;
use crate::supervisor::notify::queue::Outbox;
use crate::supervisor::processes::keeper_client::Link;
use crate::supervisor::processes::log_files::LogFiles;
use crate::supervisor::service::activity::Activity;
use crate::supervisor::service::attendants::Attendants;
use crate::supervisor::service::condition::{Condition, Source};
use crate::supervisor::service::durable::Durable;
use crate::supervisor::service::history_book::HistoryBook;
use crate::supervisor::service::instances::{Fleet, Generation};
use crate::supervisor::service::last_config::LastConfig;
use crate::supervisor::service::routing::Routing;
use crate::supervisor::sockets::kept_connections::KeptConnections;
use crate::supervisor::sockets::relay::Relays;
use crate::supervisor::sockets::slots::{SlotError, Slots};

/// What all services share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The way to the keeper.
    pub link: Rc<Link>,
    /// Every path.
    pub layout: Layout,
    /// This boot, as the kernel names it.
    pub boot_id: String,
    /// The configuration's path, for messages and reloads.
    pub config_path: PathBuf,
    /// The configuration as it was last good.
    pub last_config: LastConfig,
    /// The history.
    pub history: Rc<HistoryBook>,
    /// The next port to try for an instance that is given its port.
    pub next_port: Cell<u16>,
    /// The outbox of notifications.
    pub outbox: Rc<Outbox>,
    /// The stack is being taken down: nothing is started any more.
    pub stopping: Cell<bool>,
}

/// One service.
#[derive(Debug)]
pub(crate) struct Service {
    /// Its name.
    pub name: ServiceName,
    /// What all services share.
    pub shared: Rc<Shared>,
    /// Its configuration as last read.
    pub config: RefCell<Rc<model::Service>>,
    /// Its paths.
    pub paths: ServiceLayout,
    /// Its durable state.
    pub durable: Durable,
    /// Its listeners.
    pub slots: Slots,
    /// Connections that clients keep open.
    pub kept: Rc<KeptConnections>,
    /// Its processes.
    pub fleet: Fleet,
    /// Its log files.
    pub logs: LogFiles,
    /// Where new connections go.
    pub routing: Routing,
    /// What it is busy with.
    pub activity: Activity,
    /// What is wrong with it.
    pub condition: Condition,
    /// Who looks after it.
    pub attendants: Attendants,
    /// What a program is kept to here that is tried on a copy of the data; tried out once.
    pub rehearsals: OnceCell<RehearsalStatus>,
}

impl Service {
    /// A service with its durable state.
    ///
    /// # Errors
    /// When the state file cannot be read: it is never replaced by an empty one.
    pub(crate) fn load(shared: Rc<Shared>, config: model::Service) -> Result<Rc<Self>, StateError> {
        let paths = shared.layout.service(&config.name);
        let durable = Durable::load(paths.clone())?;
        let config = match config.no_env {
            Some(_) => settings::with_last_env(config, &paths, durable.last_good()),
            None => config,
        };
        let condition = Condition::new(paths.degraded().exists());
        let user = config.settings.user.as_deref();
        let passers = Relays::new(Rc::clone(&shared.link), config.name.clone(), user);
        Ok(Rc::new(Self {
            name: config.name.clone(),
            kept: KeptConnections::new(Rc::clone(&shared.link), config.name.clone()),
            slots: Slots::new(config.name.clone(), passers),
            logs: LogFiles::new(paths.logs(), config.log_full),
            config: RefCell::new(Rc::new(config)),
            shared,
            paths,
            durable,
            fleet: Fleet::default(),
            routing: Routing::default(),
            activity: Activity::default(),
            condition,
            attendants: Attendants::default(),
            rehearsals: OnceCell::new(),
        }))
    }

    /// Its configuration as last read.
    pub(crate) fn config(&self) -> Rc<model::Service> {
        Rc::clone(&self.config.borrow())
    }

    /// Its configuration as it is read now. Nobody looks any more at what it does not have.
    pub(crate) fn configure(&self, mut config: model::Service) {
        if config.no_env.is_some() {
            config.settings.env.clone_from(&self.config().settings.env);
        }
        if config.proxy.is_none() {
            self.condition.resolve(Source::Proxy);
        }
        self.config.replace(Rc::new(config));
    }

    /// What the keeper calls the socket that its programs send `READY=1` to.
    pub(crate) fn notify_socket(&self) -> String {
        format!("notify/{}", self.name)
    }

    /// The way to the keeper.
    pub(crate) fn link(&self) -> &Link {
        &self.shared.link
    }

    /// The generation that serves.
    pub(crate) fn live_generation(&self) -> Option<Rc<Generation>> {
        self.fleet.get(self.routing.live()?)
    }

    /// The release that new connections go to.
    pub(crate) fn serving(&self) -> Option<ReleaseId> {
        self.live_generation()
            .filter(|generation| generation.is_alive())
            .map(|generation| generation.release)
    }

    /// Slots of one listener that belong to a process.
    pub(crate) fn owned_slots(&self, listener: usize) -> BTreeSet<SlotId> {
        self.fleet.slots_of(listener)
    }

    /// Steers every listener to this generation: to those of its processes that run, to all of
    /// them when none does (their connections are held in the queues).
    ///
    /// # Errors
    /// When it cannot be done.
    pub(crate) fn steer_to(
        &self,
        generation: &Rc<Generation>,
        duty: Duty,
    ) -> Result<(), SlotError> {
        let n_listeners = self.slots.listeners().len();
        let shares: Vec<Vec<(SlotId, u32)>> = (0..n_listeners)
            .map(|index| generation.slots(index).into_iter().map(|slot| (slot, 1)).collect())
            .collect();
        self.slots.steer(&shares)?;
        if let Some(left) = self.live_generation().filter(|left| left.id != generation.id) {
            left.assign(Duty::Standby);
        }
        generation.assign(duty);
        self.routing.point_at(generation.id);
        self.follow_flip();
        self.condition.note_change();
        Ok(())
    }

    /// Gives a generation a part of the live one's connections.
    ///
    /// # Errors
    /// When it cannot be done.
    pub(crate) fn steer_part(
        &self,
        generation: &Rc<Generation>,
        part: Part,
    ) -> Result<(), SlotError> {
        self.routing.share_with(generation.id, part);
        self.steer_again()?;
        generation.assign(Duty::Trial);
        Ok(())
    }

    /// Steers to those of the live processes that run now.
    ///
    /// # Errors
    /// When it cannot be done.
    pub(crate) fn steer_again(&self) -> Result<(), SlotError> {
        let Some(live) = self.live_generation() else { return Ok(()) };
        let beside = self.routing.beside().and_then(|(id, part)| Some((self.fleet.get(id)?, part)));
        let n_listeners = self.slots.listeners().len();
        let shares: Vec<Vec<(SlotId, u32)>> = (0..n_listeners)
            .map(|index| match &beside {
                Some((new, part)) => rollout::shares(&live.slots(index), &new.slots(index), *part),
                None => live.slots(index).into_iter().map(|slot| (slot, 1)).collect(),
            })
            .collect();
        self.slots.steer(&shares)?;
        self.follow_flip();
        Ok(())
    }

    /// Takes care of the slots that no process accepts from.
    pub(crate) fn tend(&self) {
        self.slots.tend(|listener| self.fleet.slots_in_use(listener));
    }

    /// How old and new meet.
    pub(crate) fn succession(&self) -> Succession {
        self.config().strategy.succession()
    }

    /// The present moment.
    pub(crate) fn now(&self) -> Tick {
        clock::tick()
    }
}
