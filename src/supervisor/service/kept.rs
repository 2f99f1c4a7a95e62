//! Kept connections follow the steering: which processes have some that are to.
//!
//! It is asked after each steering, whatever that was: a release, a way back, a restart, a step of a canary, an
//! instance more or less.

use std::collections::BTreeSet;
use std::rc::Rc;

use crate::api::kept::KeptConnections;
use crate::config::model::Listen;
use crate::core::duty::Duty;
use crate::core::operation::rollout::Part;
use crate::core::ordered::Ordered as _;
use crate::os::tally::{Extent, Tally};
use crate::supervisor::service::Service;
use crate::supervisor::service::instances::Instance;
use crate::supervisor::sockets::kept_connections::Terms;

impl Service {
    /// A flip is near.
    pub(crate) fn watch_kept(&self) {
        let Some(live) = self.live_generation() else { return };
        let of = live.instances().iter().filter_map(holder_of).into_set();
        self.kept.watch(of, &self.terms_of_kept());
    }

    /// New connections were steered: kept ones follow.
    pub(crate) fn follow_flip(&self) {
        let mut left = Vec::new();
        let all = self.fleet.all().into_iter();
        for generation in all.filter(|generation| has_served(generation.duty())) {
            for instance in &generation.instances() {
                let Some(pid) = holder_of(instance) else { continue };
                if !self.is_steered_to(instance) {
                    left.push((pid, Extent::All));
                } else if self.gives_a_share() && self.routing.live() == Some(generation.id) {
                    left.push((pid, Extent::Present));
                }
            }
        }
        self.kept.follow(left, &self.terms_of_kept());
    }

    /// What became of them since the last flip; nothing when there were none.
    pub(crate) fn kept_status(&self) -> Option<KeptConnections> {
        let tally = self.kept.tally()?;
        let Tally { n_followed, n_closed, n_waiting, n_blocking, n_foreign, n_denied, denied } =
            tally;
        let reasons = [
            (n_blocking, "the program reads them in a blocking way".to_owned()),
            (n_foreign, "what they carry is no plain HTTP/1".to_owned()),
            (n_denied, why_denied(denied)),
        ];
        let why = reasons.into_iter().filter(|(n, _)| *n > 0).map(|(_, why)| why);
        let why: Vec<String> = why.collect();
        let stay = n_blocking + n_foreign + n_denied;
        let kept = KeptConnections {
            followed: n_followed,
            closed: n_closed,
            waiting: n_waiting,
            stay,
            release: self.left_release().filter(|_| stay + n_waiting > 0),
            why: (!why.is_empty()).then(|| why.join("; ")),
        };
        (!kept.is_empty()).then_some(kept)
    }

    /// The release that new connections were steered away from last.
    fn left_release(&self) -> Option<u64> {
        let live = self.routing.live();
        let left = self.fleet.all().into_iter().filter(|generation| Some(generation.id) != live);
        let left = left.filter(|generation| has_served(generation.duty()));
        left.last().map(|generation| generation.release.0)
    }

    /// A canary's step: those that are there are shared out as new ones are.
    fn gives_a_share(&self) -> bool {
        matches!(self.routing.beside(), Some((_, Part::Share(_))))
    }

    /// Whether an internet listener leads to it.
    fn is_steered_to(&self, instance: &Rc<Instance>) -> bool {
        let listeners = self.slots.listeners();
        let mut at = listeners.iter().zip(&instance.slots);
        at.any(|(listener, slot)| listener.stream_group().is_some() && listener.leads_to(*slot))
    }

    fn terms_of_kept(&self) -> Terms {
        let config = self.config();
        let ports = config.listen.iter().filter_map(|listen| match listen {
            Listen::Tcp(address) => Some(address.port()),
            Listen::Udp(_) | Listen::Unix(_) => None,
        });
        let ports: BTreeSet<u16> = ports.into_set();
        Terms { ports, kept: config.kept }
    }
}

/// One that is only probed has nobody's connections but the probes'.
fn has_served(duty: Duty) -> bool {
    !matches!(duty, Duty::Candidate | Duty::Rehearsal)
}

fn why_denied(errno: u32) -> String {
    match i32::try_from(errno) {
        Ok(libc::ENOSYS) => "this kernel has no pidfd_getfd, which came with Linux 5.6".to_owned(),
        Ok(libc::EPERM) => "Halley may not look into the program: it is not root, and \
            kernel.yama.ptrace_scope is above 0"
            .to_owned(),
        Ok(errno) => std::io::Error::from_raw_os_error(errno).to_string(),
        Err(_) => String::new(),
    }
}

/// The process that has an instance's connections.
fn holder_of(instance: &Rc<Instance>) -> Option<i32> {
    let run = instance.forwarder.run().or_else(|| instance.program.run());
    run.map(|run| run.identity.pid)
}
