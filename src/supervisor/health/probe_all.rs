//! One round of probes over every instance of a generation: the gate, the bake, the way back and
//! the health check at rest all ask in this way.

use std::rc::Rc;

use crate::supervisor::health::check;
use crate::supervisor::health::probe::Probe;
use crate::supervisor::service::Service;
use crate::supervisor::service::instances::{Generation, Instance};

/// How a round asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Round {
    /// The configured check, and whether connections are taken; to the first instance that is bad.
    Thorough,
    /// The configured check alone; to the first instance that is bad.
    Quick,
    /// The configured check alone, of every instance, whatever the others answer.
    Every,
}

/// Probes the instances one after another and shows each result. Returns the first bad one.
pub(crate) async fn probe_all(
    service: &Rc<Service>,
    generation: &Rc<Generation>,
    round: Round,
    mut seen: impl FnMut(&Rc<Instance>, &Probe),
) -> Probe {
    let mut first_bad = None;
    for instance in &generation.instances() {
        let probe = match round {
            Round::Thorough => check::thoroughly(service, generation, instance).await,
            Round::Quick | Round::Every => check::at(service, generation, instance).await,
        };
        seen(instance, &probe);
        if !probe.is_good() {
            first_bad.get_or_insert(probe);
            if round != Round::Every {
                break;
            }
        }
    }
    first_bad.unwrap_or_else(Probe::good)
}
