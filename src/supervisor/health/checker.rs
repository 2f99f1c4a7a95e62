//! What a health check can do.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use crate::config::model::Health;
use crate::supervisor::health::probe::Probe;
use crate::supervisor::service::Service;
use crate::supervisor::service::instances::{Generation, Instance};

/// What comes of a probe.
pub(crate) type Answer<'a> = Pin<Box<dyn Future<Output = Probe> + 'a>>;

/// The instance that is probed.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) service: &'a Rc<Service>,
    pub(crate) generation: &'a Rc<Generation>,
    pub(crate) instance: &'a Rc<Instance>,
}

impl Target<'_> {
    /// A probe that takes longer is bad.
    pub(crate) fn timeout(&self) -> Duration {
        self.generation.settings.health.timeout
    }
}

/// A kind of health check, with the settings of its key.
pub(crate) trait Checker {
    /// Probes an instance whose process runs, in its own slot, within its timeout.
    fn probe<'a>(&'a self, target: Target<'a>) -> Answer<'a>;

    /// Probes the service where its users reach it; good where that cannot be asked.
    fn probe_public<'a>(&'a self, _service: &'a Rc<Service>, _health: &'a Health) -> Answer<'a> {
        Box::pin(async { Probe::good() })
    }

    /// Whether its probes are connections that the program takes out of its accept queue.
    fn connects(&self) -> bool {
        false
    }
}
