//! The stack: all services together.
//!
//! A noun; what brings it up and takes it down is [`crate::supervisor::run`].

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::api::Trouble;
use crate::core::exit::Exit;
use crate::core::ids::ServiceName;
use crate::core::order;
use crate::supervisor::service::release_set::ReleaseSet;
use crate::supervisor::service::{Service, Shared};

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
    pub broken: RefCell<BTreeMap<ServiceName, String>>,
    /// The running set.
    pub set: RefCell<Option<Rc<ReleaseSet>>>,
}

impl Stack {
    /// Whether there is a service of this name.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn known(&self, name: &str) -> Result<(), Trouble> {
        let order = self.order.borrow();
        if order.iter().any(|known| known.as_str() == name) {
            return Ok(());
        }
        let hint = crate::config::nearest(name, order.iter().map(ServiceName::as_str));
        let hint = hint.map_or(String::new(), |hint| format!("; did you mean {hint}?"));
        let all: Vec<&str> = order.iter().map(ServiceName::as_str).collect();
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
            broken.iter().find(|(known, _)| known.as_str() == name).map(|(_, why)| why.clone())
        };
        found.map(|(_, service)| Rc::clone(service)).ok_or_else(|| Trouble {
            what: format!("{name} cannot be managed"),
            why: broken().unwrap_or_default(),
            still: "its processes keep running".to_owned(),
            next: vec![format!("halley-sup status {name}")],
            exit: Exit::Internal.code(),
        })
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
