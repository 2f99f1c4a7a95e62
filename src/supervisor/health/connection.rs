//! Connections to exactly one process, through its own slot, and what is asked over them.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::config::model::Health;
use crate::supervisor::health::probe::{self, Asked, FetchError, Probe};
use crate::supervisor::service::Service;
use crate::supervisor::service::instances::{Generation, Instance};
use crate::supervisor::sockets::backend_address::BackendAddress;
use crate::supervisor::sockets::http_client::{BodyLimit, Limits};
use crate::supervisor::sockets::listener::{self, ListenerError};
use crate::supervisor::sockets::stream::Stream;

/// Most that is read of a text.
const TEXT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Why there is no connection to a process.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// Through a slot.
    #[error(transparent)]
    Listener(#[from] ListenerError),
    /// At the process's own place.
    #[error("{place}: {source}")]
    Place {
        /// Where.
        place: String,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// It has neither.
    #[error("the service has no listener to probe")]
    NoListener,
}

/// Why a process's answer cannot be read as a text.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TextError {
    /// There was no answer in time.
    #[error("GET {path}: {}", probe::too_late(*limit))]
    Late {
        /// What was asked for.
        path: String,
        /// How long it had.
        limit: Duration,
    },
    /// There was none, or not a good one.
    #[error("{0}")]
    Failed(String),
    /// More than is read.
    #[error("GET {path}: the answer is longer than {TEXT_BYTES_MAX} bytes")]
    TooLong {
        /// What was asked for.
        path: String,
    },
    /// Something else than text.
    #[error("GET {path}: the answer is not UTF-8")]
    NotText {
        /// What was asked for.
        path: String,
    },
}

/// Whether an instance answers this path successfully, in its own slot.
pub(crate) async fn path_at(
    service: &Rc<Service>,
    generation: &Rc<Generation>,
    instance: &Rc<Instance>,
    path: &str,
) -> Probe {
    let Health { timeout, terms, .. } = &generation.settings.health;
    let mut path = path.to_owned();
    for _ in 0..=terms.redirects {
        match probe::http(connect(service, instance), &path, terms, *timeout).await {
            Asked::Judged(probe) => return probe,
            Asked::Moved(to) => path = to,
        }
    }
    Probe::bad(format!("more than {} redirects, the last one to {path}", terms.redirects))
}

/// What an instance answers at this path, in its own slot.
///
/// # Errors
/// [`TextError`].
pub(crate) async fn text_at(
    service: &Rc<Service>,
    generation: &Rc<Generation>,
    instance: &Rc<Instance>,
    path: &str,
) -> Result<String, TextError> {
    let limit = generation.settings.health.timeout;
    let limits = Limits { deadline: limit, body: BodyLimit::First(TEXT_BYTES_MAX) };
    let terms = &generation.settings.health.terms;
    let body = probe::fetch(connect(service, instance), path, terms, limits).await;
    let path = path.to_owned();
    match body {
        Ok(body) if body.len() > TEXT_BYTES_MAX => Err(TextError::TooLong { path }),
        Ok(body) => String::from_utf8(body).map_err(|_| TextError::NotText { path }),
        Err(FetchError::Late) => Err(TextError::Late { path, limit }),
        Err(FetchError::Failed(why)) => Err(TextError::Failed(why)),
    }
}

/// Whether the instance takes a connection out of its own slot's queue.
pub(super) async fn taken(
    service: &Rc<Service>,
    generation: &Rc<Generation>,
    instance: &Rc<Instance>,
) -> Probe {
    let look = async {
        match connect(service, instance).await {
            Ok(wire) => probe::taken(&wire).await,
            Err(error) => Probe::bad(error.to_string()),
        }
    };
    probe::within(generation.settings.health.timeout, look).await
}

/// Through the instance's slot in the first listener that takes connections, or, behind a proxy, at
/// its own place.
///
/// # Errors
/// [`ConnectError`].
pub(crate) async fn connect(
    service: &Service,
    instance: &Instance,
) -> Result<Stream, ConnectError> {
    let listeners = service.slots.listeners();
    let mut slots = listeners.iter().zip(&instance.slots);
    if let Some((listener, slot)) = slots.find(|(listener, _)| listener.is_stream()) {
        return Ok(listener::probe_connect(listener, *slot).await?);
    }
    let at = |place: String| move |source| ConnectError::Place { place, source };
    match &instance.place {
        Some(BackendAddress::Port(port)) => {
            let address = BackendAddress::address(*port);
            Stream::tcp(vec![address]).await.map_err(at(address.to_string()))
        }
        Some(BackendAddress::Socket(path)) => {
            Stream::unix(path).await.map_err(at(path.display().to_string()))
        }
        None => Err(ConnectError::NoListener),
    }
}
