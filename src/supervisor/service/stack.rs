//! The stack: all services together.
//!
//! A noun; what brings it up and takes it down is [`crate::supervisor::run`].

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use tokio::task::JoinHandle;

use crate::api::Trouble;
use crate::config::model;
use crate::core::exit::Exit;
use crate::core::ids::ServiceName;
use crate::core::order;
use crate::os::proc::Identity;
use crate::supervisor::processes::child_tag::{Label, Role};
use crate::supervisor::processes::log_pipe::Pump;
use crate::supervisor::service::refusal;
use crate::supervisor::service::release_set::ReleaseSet;
use crate::supervisor::service::{Service, Shared};
use crate::supervisor::spawn;

/// All services.
#[derive(Debug)]
pub(crate) struct Stack {
    /// What they share.
    pub shared: Rc<Shared>,
    /// By name.
    pub services: RefCell<BTreeMap<ServiceName, Rc<Service>>>,
    /// In start order.
    pub order: RefCell<Vec<ServiceName>>,
    /// Services that cannot be taken over, and why: what they run goes on running.
    pub broken: RefCell<BTreeMap<ServiceName, Broken>>,
    /// What runs of services that are not managed.
    pub strangers: RefCell<Vec<Stranger>>,
    /// One service joins at a time.
    pub taking_in: tokio::sync::Mutex<()>,
    /// The running set.
    pub set: RefCell<Option<Rc<ReleaseSet>>>,
}

/// A service that could not be taken over.
#[derive(Debug)]
pub(crate) struct Broken {
    /// Why, and what to do.
    pub why: String,
    /// Its configuration, for when it is tried again.
    pub config: model::Service,
}

/// A process of a service that is not managed.
#[derive(Debug)]
pub(crate) struct Stranger {
    /// Whose it is, and what it does there, when that is known.
    pub label: Option<Label>,
    /// The process.
    pub identity: Identity,
    /// Waits for its end.
    pub follow: JoinHandle<()>,
    /// Reads its output.
    #[expect(dead_code, reason = "it is read until it is dropped")]
    pub pump: Option<Pump>,
}

impl Stack {
    /// Every service: those of the configuration in its order, then those that it had before and
    /// that go on running.
    pub(crate) fn names(&self) -> Vec<ServiceName> {
        let (order, services) = (self.order.borrow(), self.services.borrow());
        let others = services.keys().filter(|name| !order.contains(name));
        order.iter().chain(others).cloned().collect()
    }

    /// Whether the configuration has it.
    pub(crate) fn is_configured(&self, name: &ServiceName) -> bool {
        self.order.borrow().contains(name)
    }

    /// Why a service cannot have its addresses: one that is not configured any more serves there, most
    /// often the same under its old name.
    ///
    /// # Errors
    /// That.
    pub(crate) fn addresses_are_free(&self, service: &Service, done: &str) -> Result<(), Trouble> {
        let wanted = service.config().listen.clone();
        let services = self.services.borrow();
        let serves_there = |(name, other): &(&ServiceName, &Rc<Service>)| {
            let has = |listen| other.config().listen.contains(listen);
            !self.is_configured(name) && !other.fleet.all().is_empty() && wanted.iter().any(has)
        };
        let Some((old, _)) = services.iter().find(serves_there) else { return Ok(()) };
        let why = format!(
            "{old}, which is not configured any more, serves at the same address; if it is the same \
             service under its old name, stop it first"
        );
        let mut refused = refusal::refusal(service, done, &why, Exit::PreflightRefused, &[]);
        refused.next = vec![format!("halley-sup stop {old}")];
        Err(refused)
    }

    /// Services that the configuration does not have any more are forgotten once nothing of them runs;
    /// their files stay.
    pub(crate) fn forget_removed(&self) {
        let is_wanted = |service: &Service| {
            self.is_configured(&service.name)
                || !service.fleet.all().is_empty()
                || !service.activity.is_at_rest()
        };
        self.services.borrow_mut().retain(|_, service| {
            let stays = is_wanted(service);
            if !stays {
                service.attendants.dismiss();
                let gone = Rc::clone(service);
                spawn::local(async move { gone.link().forget(gone.notify_socket()).await });
            }
            stays
        });
    }

    /// Whether there is a service of this name.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn known(&self, name: &str) -> Result<(), Trouble> {
        let order = self.names();
        if order.iter().any(|known| known.as_str() == name) {
            return Ok(());
        }
        let hint = crate::config::nearest(name, order.iter().map(ServiceName::as_str));
        let hint = hint.map_or(String::new(), |hint| format!("; did you mean {hint}?"));
        let all: Vec<&str> =
            order.iter().filter(|name| self.is_configured(name)).map(ServiceName::as_str).collect();
        Err(Trouble {
            what: format!("there is no service {name}{hint}"),
            why: format!("the configuration has: {}", all.join(", ")),
            still: "nothing was changed".to_owned(),
            next: vec!["halley-sup status".to_owned()],
            exit: Exit::Usage.code(),
        })
    }

    /// The service of this name.
    ///
    /// # Errors
    /// When there is none, or it cannot be managed.
    pub(crate) fn find(&self, name: &str) -> Result<Rc<Service>, Trouble> {
        self.known(name)?;
        let services = self.services.borrow();
        let found = services.iter().find(|(known, _)| known.as_str() == name);
        let broken = || {
            let broken = self.broken.borrow();
            broken.iter().find(|(known, _)| known.as_str() == name).map(|(_, it)| it.why.clone())
        };
        found.map(|(_, service)| Rc::clone(service)).ok_or_else(|| Trouble {
            what: format!("{name} cannot be managed"),
            why: broken().unwrap_or_default(),
            still: "its processes keep running".to_owned(),
            next: ["repair", "start"].map(|verb| format!("halley-sup {verb} {name}")).to_vec(),
            exit: Exit::Internal.code(),
        })
    }

    /// Instances of a service that cannot be managed: they go on as they were.
    pub(crate) fn left_alone(&self, name: &ServiceName) -> Vec<(Label, i32)> {
        let strangers = self.strangers.borrow();
        let alive = strangers.iter().filter(|stranger| stranger.identity.is_alive());
        let labelled = alive.filter_map(|stranger| {
            let label = stranger.label.as_ref()?;
            let is_meant = label.service == name.as_str() && label.role == Role::Instance;
            is_meant.then(|| (label.clone(), stranger.identity.pid))
        });
        labelled.collect()
    }

    /// Warnings of processes whose service the configuration does not name.
    pub(crate) fn unknown(&self) -> Vec<String> {
        let mut unknown: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for stranger in self.strangers.borrow().iter().filter(|one| one.identity.is_alive()) {
            let name = stranger.label.as_ref().map_or("?", |label| label.service.as_str());
            if !self.broken.borrow().keys().any(|broken| broken.as_str() == name) {
                let pid = stranger.identity.pid.to_string();
                unknown.entry(name.to_owned()).or_default().push(pid);
            }
        }
        let text = |(name, pids): (String, Vec<String>)| {
            let pids = pids.join(" ");
            format!(
                "{name} is not in the configuration and its processes run: put it back and reload, \
                 or end them: kill {pids}"
            )
        };
        unknown.into_iter().map(text).collect()
    }

    /// A set begins: its members are reserved for it.
    pub(crate) fn hold_for(&self, set: &Rc<ReleaseSet>) {
        self.set.replace(Some(Rc::clone(set)));
        for service in self.services.borrow().values() {
            self.mark(service);
        }
    }

    /// The set is over.
    pub(crate) fn let_go_of_set(&self) {
        self.set.replace(None);
        for service in self.services.borrow().values() {
            service.activity.join(None);
        }
    }

    /// A member of the running set knows it.
    pub(crate) fn mark(&self, service: &Service) {
        let set = self.set.borrow().clone();
        service.activity.join(set.filter(|set| set.has(&service.name)));
    }

    /// Every service, those of the configuration first, in its order; and the services that
    /// each one waits for at its start.
    pub(crate) fn in_order(&self) -> (Vec<Rc<Service>>, Vec<Vec<usize>>) {
        let services = self.services.borrow();
        let mut names: Vec<ServiceName> = self.order.borrow().clone();
        names.retain(|name| services.contains_key(name));
        let known = names.clone();
        names.extend(services.keys().filter(|name| !known.contains(name)).cloned());
        let all: Vec<_> = names.iter().filter_map(|name| services.get(name).cloned()).collect();
        let after: Vec<_> = all.iter().map(|service| service.config().after.clone()).collect();
        let waits = order::starts(&names, &after);
        (all, waits)
    }
}
