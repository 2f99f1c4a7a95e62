//! A place that is held for a process while it is being started.
//!
//! Whoever asked for the start may be called off at any moment; the place is then free again, and
//! those who wait for it to be empty hear of it.

use std::rc::Rc;

use crate::core::duty::Duty;
use crate::core::restart::Process;
use crate::core::time::Tick;
use crate::keeper::protocol::{ChildId, Identity};
use crate::supervisor::service::Service;
use crate::supervisor::service::instances::{Generation, Instance};
use crate::supervisor::service::seat::Run;

/// A place that is held for a process. Dropped before the process runs, it frees the place.
#[derive(Debug)]
pub(crate) struct Claim {
    /// The child that is to be there.
    pub(crate) child: ChildId,
    /// What it is to be.
    pub(crate) process: Process,
    /// The generation that it belongs to.
    pub(crate) generation: Rc<Generation>,
    /// The instance that it belongs to.
    pub(crate) instance: Rc<Instance>,
}

impl Claim {
    /// Holds a place; nothing when it is not free.
    pub(crate) fn hold(
        child: ChildId,
        process: Process,
        generation: &Rc<Generation>,
        instance: &Rc<Instance>,
    ) -> Option<Self> {
        let is_held = instance.seat(process).claim(child);
        is_held.then(|| Self {
            child,
            process,
            generation: Rc::clone(generation),
            instance: Rc::clone(instance),
        })
    }

    /// The process runs: it has the place from here on.
    pub(crate) fn fill(&self, identity: Identity, started: Tick) {
        self.instance.seat(self.process).fill(Run { child: self.child, identity, started });
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.instance.seat(self.process).give_up(self.child) {
            self.generation.note_free();
        }
    }
}

/// Whether an instance is to have no process any more: it is on its way out with its generation or
/// alone, or nobody has it any more.
pub(crate) fn is_leaving(
    service: &Service,
    generation: &Rc<Generation>,
    instance: &Rc<Instance>,
) -> bool {
    let is_there = generation.instances().iter().any(|known| Rc::ptr_eq(known, instance));
    is_dismissed(service, generation) || !is_there || !instance.is_wanted()
}

/// Whether a generation is to have no process any more.
pub(crate) fn is_dismissed(service: &Service, generation: &Rc<Generation>) -> bool {
    let known = service.fleet.get(generation.id);
    let is_there = known.is_some_and(|known| Rc::ptr_eq(&known, generation));
    !is_there || generation.duty() == Duty::Draining
}
