//! Connections to exactly one process, through its own slot, and what is asked over them.

use std::rc::Rc;

use crate::config::model::Listen;
use crate::supervisor::health::probe::{self, FetchError, Probe};
use crate::supervisor::service::Service;
use crate::supervisor::service::instances::{Crew, Instance};
use crate::supervisor::sockets::backend_address::BackendAddress;
use crate::supervisor::sockets::http_client::{BodyLimit, Limits};
use crate::supervisor::sockets::listener;
use crate::supervisor::sockets::stream::Stream;

/// Most that is read of a text.
const TEXT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Whether an instance answers this path successfully, in its own slot.
pub(crate) async fn path_at(
    service: &Rc<Service>,
    crew: &Rc<Crew>,
    instance: &Rc<Instance>,
    path: &str,
) -> Probe {
    let limit = crew.settings.health.timeout;
    probe::http(connect(service, instance), &authority(service), path, limit).await
}

/// What an instance answers at this path, in its own slot.
///
/// # Errors
/// Why there is no answer, for people.
pub(crate) async fn text_at(
    service: &Rc<Service>,
    crew: &Rc<Crew>,
    instance: &Rc<Instance>,
    path: &str,
) -> Result<String, String> {
    let limit = crew.settings.health.timeout;
    let limits = Limits { deadline: limit, body: BodyLimit::First(TEXT_BYTES_MAX) };
    let body = probe::fetch(connect(service, instance), &authority(service), path, limits).await;
    let body = body.map_err(|error| match error {
        FetchError::Late => format!("GET {path}: {}", probe::too_late(limit)),
        FetchError::Failed(why) => why,
    })?;
    if body.len() > TEXT_BYTES_MAX {
        return Err(format!("GET {path}: the answer is longer than {TEXT_BYTES_MAX} bytes"));
    }
    String::from_utf8(body).map_err(|_| format!("GET {path}: the answer is not UTF-8"))
}

/// Whether the instance takes a connection out of its own slot's queue.
pub(super) async fn taken(
    service: &Rc<Service>,
    crew: &Rc<Crew>,
    instance: &Rc<Instance>,
) -> Probe {
    let look = async {
        match connect(service, instance).await {
            Ok(wire) => probe::taken(&wire).await,
            Err(why) => Probe::bad(why),
        }
    };
    probe::within(crew.settings.health.timeout, look).await
}

/// Through the instance's slot in the first listener that takes connections, or, behind a proxy, at
/// its own place.
pub(crate) async fn connect(service: &Service, instance: &Instance) -> Result<Stream, String> {
    let listeners = service.slots.listeners();
    let mut slots = listeners.iter().zip(&instance.slots);
    if let Some((listener, slot)) = slots.find(|(listener, _)| listener.is_stream()) {
        let connected = listener::probe_connect(listener, *slot).await;
        return connected.map_err(|error| error.to_string());
    }
    match &instance.place {
        Some(BackendAddress::Port(port)) => {
            let address = BackendAddress::address(*port);
            let connected = Stream::tcp(address).await;
            connected.map_err(|error| format!("{address}: {error}"))
        }
        Some(BackendAddress::Socket(path)) => {
            let connected = Stream::unix(path).await;
            connected.map_err(|error| format!("{}: {error}", path.display()))
        }
        None => Err("the service has no listener to probe".to_owned()),
    }
}

/// What an HTTP request names as its host.
pub(super) fn authority(service: &Service) -> String {
    let config = service.config();
    let address = config.listen.iter().find_map(|listen| match listen {
        Listen::Tcp(address) => Some(address.to_string()),
        Listen::Udp(_) | Listen::Unix(_) => None,
    });
    address.unwrap_or_else(|| "localhost".to_owned())
}
