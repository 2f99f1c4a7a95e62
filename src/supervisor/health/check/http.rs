//! The program answers a path.

use std::rc::Rc;
use std::time::Duration;

use crate::supervisor::health::checker::{Answer, Checker, Target};
use crate::supervisor::health::connection;
use crate::supervisor::health::probe::{self, Probe};
use crate::supervisor::service::Service;
use crate::supervisor::sockets::listener;

/// The path.
struct Http<'c>(&'c str);

pub(super) fn checker(path: &str) -> impl Checker {
    Http(path)
}

impl Checker for Http<'_> {
    fn probe<'a>(&'a self, target: Target<'a>) -> Answer<'a> {
        let Target { service, generation, instance } = target;
        Box::pin(connection::path_at(service, generation, instance, self.0))
    }

    fn probe_public<'a>(&'a self, service: &'a Rc<Service>, timeout: Duration) -> Answer<'a> {
        Box::pin(public(service, self.0, timeout))
    }

    fn connects(&self) -> bool {
        true
    }
}

async fn public(service: &Rc<Service>, path: &str, timeout: Duration) -> Probe {
    let listeners = service.slots.listeners();
    let Some(listener) = listeners.iter().find(|listener| listener.is_stream()) else {
        return Probe::good();
    };
    probe::http(listener::connect(listener), &connection::authority(service), path, timeout).await
}
