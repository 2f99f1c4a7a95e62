//! The program answers a path.

use std::rc::Rc;

use crate::config::model::Health;
use crate::supervisor::health::checker::{Answer, Checker, Target};
use crate::supervisor::health::connection;
use crate::supervisor::health::probe::{self, Asked, Probe};
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

    fn probe_public<'a>(&'a self, service: &'a Rc<Service>, health: &'a Health) -> Answer<'a> {
        Box::pin(public(service, self.0, health))
    }

    fn connects(&self) -> bool {
        true
    }
}

async fn public(service: &Rc<Service>, path: &str, health: &Health) -> Probe {
    let listeners = service.slots.listeners();
    let Some(listener) = listeners.iter().find(|listener| listener.is_stream()) else {
        return Probe::good();
    };
    let mut path = path.to_owned();
    for _ in 0..=health.terms.redirects {
        let connect = listener::connect(listener);
        match probe::http(connect, &path, &health.terms, health.timeout).await {
            Asked::Judged(probe) => return probe,
            Asked::Moved(to) => path = to,
        }
    }
    Probe::bad("too many redirects")
}
