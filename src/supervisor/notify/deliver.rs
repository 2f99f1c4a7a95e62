//! One delivery to one target.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode};

use crate::config::duration;
use crate::config::model::{Target, Way, Webhook};
use crate::json;
use crate::store::outbox::Notification;
use crate::supervisor::processes::host_command::{self, CommandError, HostCommand};
use crate::supervisor::processes::keeper_client::Link;
use crate::supervisor::sockets::http_client::{self, BodyLimit, HttpError, Limits};
use crate::supervisor::sockets::stream::Stream;

/// Longest answer.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Why a delivery failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeliverError {
    /// The command did not end successfully.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// It could not be reached, or broke off.
    #[error("{place}: {source}")]
    Stream {
        /// Where.
        place: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// It took too long.
    #[error("{place}: no answer within {limit}")]
    Late {
        /// Where.
        place: String,
        /// How long it had.
        limit: String,
    },
    /// It answered with a status that is not a success.
    #[error("{place}: answered {status}")]
    Refused {
        /// Where.
        place: String,
        /// What it answered.
        status: StatusCode,
    },
    /// A header's value could not be read. The value itself is never shown.
    #[error("header {name} from {}: {why}", path.display())]
    Header {
        /// Which.
        name: String,
        /// Where its value is.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// It cannot be written as JSON or as a request.
    #[error("it cannot be written: {0}")]
    Format(String),
}

impl DeliverError {
    /// Whether the same notification will never be taken.
    pub(crate) fn is_final(&self) -> bool {
        let never = [400, 405, 410, 411, 413, 414, 415, 422];
        matches!(self, Self::Refused { status, .. } if never.contains(&status.as_u16()))
    }
}

/// Delivers a notification.
///
/// # Errors
/// [`DeliverError`].
pub(crate) async fn deliver(
    link: &Rc<Link>,
    target: &Target,
    notification: &Notification,
) -> Result<(), DeliverError> {
    let body = json::to_vec(notification);
    let body = body.map_err(|error| DeliverError::Format(error.to_string()))?;
    match &target.way {
        Way::Command(words) => {
            let env = [
                ("HALLEY_EVENT", notification.event.clone()),
                ("HALLEY_SERVICE", notification.service.clone()),
                ("HALLEY_ID", notification.id.clone()),
            ];
            let command = HostCommand::of_host("", words, &env, target.deadline);
            Ok(host_command::succeed(link, HostCommand { input: Some(body), ..command }).await?)
        }
        Way::Http(hook) => post(hook, &notification.id, body, target.deadline).await,
    }
}

async fn post(
    hook: &Webhook,
    id: &str,
    body: Vec<u8>,
    deadline: Duration,
) -> Result<(), DeliverError> {
    let place = || hook.place.clone();
    let request = request(hook, id, body)?;
    let limits = Limits { deadline, body: BodyLimit::Whole(ANSWER_BYTES_MAX) };
    let answer = http_client::exchange(Stream::to(hook.place.clone()), request, limits).await;
    let answer = answer.map_err(|error| match error {
        HttpError::Late => DeliverError::Late { place: place(), limit: duration::print(deadline) },
        error => DeliverError::Stream { place: place(), source: error.into() },
    })?;
    if answer.status.is_success() {
        return Ok(());
    }
    Err(DeliverError::Refused { place: place(), status: answer.status })
}

fn request(hook: &Webhook, id: &str, body: Vec<u8>) -> Result<Request<Full<Bytes>>, DeliverError> {
    let format = |error: hyper::http::Error| DeliverError::Format(error.to_string());
    let mut request = http_client::request(Method::POST, &hook.path, &hook.host)
        .header(header::CONTENT_TYPE, "application/json")
        .header("idempotency-key", id)
        .body(Full::new(Bytes::from(body)))
        .map_err(format)?;
    for (name, value) in &hook.headers {
        let value = HeaderValue::from_str(value);
        let value = value.map_err(|error| DeliverError::Format(error.to_string()))?;
        set(&mut request, name, value)?;
    }
    for (name, path) in &hook.header_files {
        let bad =
            |why: String| DeliverError::Header { name: name.clone(), path: path.clone(), why };
        let text = fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
        let value = HeaderValue::from_str(text.trim());
        let mut value = value.map_err(|_| bad("it is no value of a header".to_owned()))?;
        value.set_sensitive(true);
        set(&mut request, name, value)?;
    }
    Ok(request)
}

fn set(
    request: &mut Request<Full<Bytes>>,
    name: &str,
    value: HeaderValue,
) -> Result<(), DeliverError> {
    let name = HeaderName::from_bytes(name.as_bytes());
    let name = name.map_err(|error| DeliverError::Format(error.to_string()))?;
    request.headers_mut().insert(name, value);
    Ok(())
}
