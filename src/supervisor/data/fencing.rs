//! What programs may connect to while they are tried out on a copy of the data: the copy, what every
//! program needs to live, and what the configuration allows.
//!
//! A database server is reached through a relay ([`crate::supervisor::data::relay`]). A connection that is
//! refused must never fail a rehearsal by itself: the program decides what it does without; what it
//! was refused is reported with the line that allows it.

use std::collections::BTreeSet;
use std::rc::Rc;

use crate::api::status::RehearsalStatus;
use crate::config::model::RehearseConnect;
use crate::core::ordered::Ordered as _;
use crate::keeper::protocol::{Door, Fence};
use crate::os::fence::{Destination, Passage};
use crate::os::{isolate, proc};
use crate::supervisor::data::backup::{self, Copied, Hand};
use crate::supervisor::data::doors;
use crate::supervisor::data::error::DataError;
use crate::supervisor::data::live_ports;
use crate::supervisor::data::outposts;
use crate::supervisor::data::relay::Relay;
use crate::supervisor::data::site::Means;
use crate::supervisor::processes::fenced::Fenced;
use crate::supervisor::service::Service;
use crate::supervisor::service::confinement::Confinement;

/// What no fence can tell from another server.
const POOLERS: &str = "rehearse_connect = \"any\": the server of the live database is guarded, with \
                       what stands in front of it on this host; a pooler or a forwarder in front of \
                       it on another host is not: a rehearsal that connects there works on live data";

/// Programs are kept from everything that is live as long as this lives.
pub(crate) struct Fencing {
    fenced: Fenced,
    relay: Option<Relay>,
    allowed: RehearseConnect,
    warnings: Vec<String>,
}

/// What a program is kept to here that is tried on a copy of the data, for `status`; nothing where no
/// backup is configured. It is tried out once: the kernel and the user stay.
pub(crate) async fn rehearsals(service: &Rc<Service>) -> Option<RehearsalStatus> {
    if let Some(known) = service.rehearsals.get() {
        return service.config().backup.as_ref().map(|_| known.clone());
    }
    let (isolation, why) = match backup::means(service).await? {
        Means::Mounts if isolate::needs_user_namespace() => ("user_namespace", None),
        Means::Mounts => ("mounts", None),
        Means::Landlock { why } => ("landlock", Some(why)),
        Means::None { why } => ("none", Some(why)),
    };
    let fence = doors::fence_is_possible(service).is_ok();
    let found = RehearsalStatus { isolation: isolation.to_owned(), why, fence };
    Some(service.rehearsals.get_or_init(|| found).clone())
}

impl Fencing {
    /// Puts the relay and the fence in place for programs on this copy.
    ///
    /// # Errors
    /// When the live data could be reached past it.
    pub(crate) async fn open(
        service: &Rc<Service>,
        hand: &Hand<'_>,
        copied: &Copied,
    ) -> Result<Self, DataError> {
        let allowed = service.config().rehearse_connect.clone();
        let mut warnings = Vec::new();
        let dir = service.paths.relay();
        let guard = hand.guard(copied, &dir).await?;
        let (mut doors, mut anywhere) = (Vec::new(), Vec::new());
        // Before all others: what the configuration allows may be an address of the server.
        let mut relay = guard.map(|guard| {
            (doors, anywhere) = (guard.doors, guard.anywhere);
            guard.relay
        });
        doors.extend(doors::common(service));
        let mut listed = doors::listed(&allowed, &mut warnings).await;
        let mut here = None;
        if let Some(relay) = &mut relay {
            let user = service.config().settings.user.as_deref().and_then(proc::user);
            let own = dir.join("allowed");
            let occupied = outposts::occupy(relay, &mut listed, user, &own).await;
            here = occupied.map_err(DataError::at(&dir))?;
        }
        doors.append(&mut listed);
        if allowed == RehearseConnect::Any {
            doors.append(&mut anywhere);
            warnings.extend(relay.is_some().then(|| POOLERS.to_owned()));
        }
        let mut fence = doors::fence(service, doors, doors::otherwise(&allowed));
        fence.here = here;
        let fenced = Fenced::new(fence);
        Ok(Self { fenced, relay, allowed, warnings })
    }

    /// Puts what is kept to a copy behind the fence.
    pub(crate) fn around(&self, confinement: Confinement) -> Confinement {
        doors::around(&self.fenced, confinement)
    }

    /// Live data that a program has opened all the same.
    pub(crate) fn breach(&self) -> Option<String> {
        let seen = self.relay.as_ref().map(Relay::seen).unwrap_or_default();
        (!seen.opened.is_empty()).then(|| seen.opened.join("\n"))
    }

    /// What programs were kept from, each line a sentence, and the line that allows it.
    pub(crate) fn report(&self) -> Vec<String> {
        let mut lines = self.warnings.clone();
        lines.extend(doors::report(&self.fenced, &self.allowed));
        let seen = self.relay.as_ref().map(Relay::seen).unwrap_or_default();
        lines
            .extend(seen.refused.into_iter().map(|text| format!("{text}: refused in a rehearsal")));
        lines
    }
}

/// What the serving release is connected to, and a rehearsal on a copy would be kept from.
pub(crate) async fn foreseen(service: &Rc<Service>) -> Option<String> {
    let allowed = service.config().rehearse_connect.clone();
    let hand = Hand::of(service, service.paths.logs().join("backup.log"))?;
    if let Err(why) = doors::fence_is_possible(service) {
        return Some(format!("programs will not be tried on a copy of the data: {why}"));
    }
    if allowed == RehearseConnect::Any {
        return None;
    }
    service.live_generation()?;
    let mut doors = doors::common(service);
    // What cannot be looked up now is reported by the rehearsal.
    let own = hand.addresses().await.unwrap_or_default();
    doors.extend(own.into_iter().map(|to| Door { to, via: None }));
    doors.extend(doors::listed(&allowed, &mut Vec::new()).await);
    let fence = Fence { doors, ..Fence::default() };
    let inodes = live_ports::sockets(service);
    let reached = live_ports::outgoing(&inodes).into_iter().map(Destination::Inet);
    let shut = reached.filter(|to| fence.passage(to) == Passage::Shut);
    let shut: BTreeSet<String> = shut.map(|to| to.to_string()).into_set();
    let named: Vec<&str> = shut.iter().map(String::as_str).collect();
    let named = named.join(", ");
    let line = doors::line(&allowed, shut.into_iter().collect())?;
    Some(format!(
        "the serving release is connected to {named}, which programs on a copy of the data cannot \
         reach; if they may, write {line} in the service's section"
    ))
}
