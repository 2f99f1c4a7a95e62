//! Probes: their results, and how they ask.

use std::collections::VecDeque;
use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use http_body_util::Full;
use hyper::Method;

use crate::config::duration;
use crate::config::health::Terms;
use crate::core::backoff::Pauses;
use crate::core::ids::{InstanceIndex, ReleaseId};
use crate::os::clock;
use crate::supervisor::sockets::http_client::{self, Answer, BodyLimit, HttpError, Limits};
use crate::supervisor::sockets::stream::Stream;

/// Probes that a transcript remembers.
const N_REMEMBERED: usize = 20;
/// Most of a body that is read.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Between looks at whether a connection was taken.
const LOOKS: Pauses = Pauses::doubling(1, 100);

/// The result of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Probe(Option<String>);

impl Probe {
    /// It was answered successfully.
    #[must_use]
    pub(crate) fn good() -> Self {
        Self(None)
    }

    /// It was not, because.
    #[must_use]
    pub(crate) fn bad(why: impl Into<String>) -> Self {
        Self(Some(why.into()))
    }

    /// Whether it was answered successfully.
    #[must_use]
    pub(crate) fn is_good(&self) -> bool {
        self.0.is_none()
    }

    /// Why it was bad.
    #[must_use]
    pub(crate) fn why(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

/// The last probes of an operation, for its report.
#[derive(Debug, Default)]
pub(crate) struct Transcript(VecDeque<String>);

impl Transcript {
    /// Remembers a probe.
    pub(crate) fn push(&mut self, release: ReleaseId, index: InstanceIndex, probe: &Probe) {
        if self.0.len() == N_REMEMBERED {
            self.0.pop_front();
        }
        let said = probe.why().unwrap_or("good");
        let at = clock::now_rfc3339_ms();
        self.0.push_back(format!("{at} release {release} instance {index}: {said}"));
    }

    /// What is remembered, oldest first.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

/// A probe that takes longer than this is bad.
pub(crate) async fn within(limit: Duration, probe: impl Future<Output = Probe>) -> Probe {
    match tokio::time::timeout(limit, probe).await {
        Ok(probe) => probe,
        Err(_) => Probe::bad(too_late(limit)),
    }
}

/// The text for a probe that took longer.
#[must_use]
pub(crate) fn too_late(limit: Duration) -> String {
    format!("no answer within {}", duration::print(limit))
}

/// What came of a request.
pub(crate) enum Asked {
    /// It is judged.
    Judged(Probe),
    /// Another path is to be asked for.
    Moved(String),
}

/// A request on these terms over the connection that `connect` makes.
pub(crate) async fn http(
    connect: impl Future<Output = Result<Stream, impl Display>>,
    path: &str,
    terms: &Terms,
    limit: Duration,
) -> Asked {
    let limits = Limits { deadline: limit, body: BodyLimit::First(BODY_BYTES_MAX) };
    Asked::Judged(match ask(connect, path, terms, limits).await {
        Ok(Answer { status, location: Some(to), .. })
            if status.is_redirection() && terms.redirects > 0 =>
        {
            return Asked::Moved(path_of(&to));
        }
        Ok(answer) if !terms.is_good(answer.status.as_u16()) => {
            Probe::bad(format!("{} {path} answered {}", method(terms), answer.status))
        }
        Ok(answer) => match &terms.body {
            Some(wanted) if !wanted.is_match(&String::from_utf8_lossy(&answer.body)) => {
                let text = wanted.text();
                Probe::bad(format!("{} {path}: the body does not match {text:?}", method(terms)))
            }
            _ => Probe::good(),
        },
        Err(FetchError::Late) => Probe::bad(too_late(limit)),
        Err(FetchError::Failed(why)) => Probe::bad(why),
    })
}

fn method(terms: &Terms) -> &str {
    terms.method.as_deref().unwrap_or("GET")
}

/// The path in a redirect's target, which is asked for at the same service.
fn path_of(to: &str) -> String {
    let after = to.split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..]));
    let path = after.unwrap_or(if to.starts_with('/') { to } else { "/" });
    path.split('#').next().unwrap_or("/").to_owned()
}

/// Why there is no good answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FetchError {
    /// It took longer than the deadline.
    Late,
    /// For people.
    Failed(String),
}

/// The body of a good answer.
///
/// # Errors
/// [`FetchError`].
pub(crate) async fn fetch(
    connect: impl Future<Output = Result<Stream, impl Display>>,
    path: &str,
    terms: &Terms,
    limits: Limits,
) -> Result<Vec<u8>, FetchError> {
    let answer = ask(connect, path, terms, limits).await?;
    let is_good = (200..400).contains(&answer.status.as_u16());
    let failed = || FetchError::Failed(format!("GET {path} answered {}", answer.status));
    if is_good { Ok(answer.body) } else { Err(failed()) }
}

async fn ask(
    connect: impl Future<Output = Result<Stream, impl Display>>,
    path: &str,
    terms: &Terms,
    limits: Limits,
) -> Result<Answer, FetchError> {
    let name = method(terms);
    let failed = |why: String| FetchError::Failed(format!("{name} {path}{why}"));
    let host = terms.host.as_deref().unwrap_or("localhost");
    let method = Method::from_bytes(name.as_bytes()).unwrap_or(Method::GET);
    let mut request = http_client::request(method, path, host);
    for (name, value) in &terms.headers {
        request = request.header(name, value);
    }
    let request = request.body(Full::default());
    let request = request.map_err(|error| failed(format!(": {error}")))?;
    let answer = http_client::exchange(connect, request, limits).await;
    answer.map_err(|error| match error {
        HttpError::Late => FetchError::Late,
        HttpError::Connect(error) => FetchError::Failed(error.to_string()),
        HttpError::Exchange(error) => failed(format!(": {}", http_text(&error))),
        HttpError::TooLong => failed(format!(": {error}")),
    })
}

fn http_text(error: &hyper::Error) -> String {
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        "the connection was closed before the end of the answer".to_owned()
    } else if error.is_parse() {
        format!("the answer is not HTTP ({error})")
    } else {
        error.to_string()
    }
}

/// Good when the program takes the connection out of its accept queue, as the kernel reports it: a
/// queue that does not move is a program that hangs, and the program need not be asked.
pub(crate) async fn taken(wire: &Stream) -> Probe {
    let mut looks = LOOKS.begin();
    while !wire.is_taken() {
        tokio::time::sleep(looks.pause()).await;
    }
    Probe::good()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn probe(answer: &'static [u8]) -> Probe {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connect = Stream::tcp(vec![address]);
        let serve = async {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 1024];
            let n = client.read(&mut buffer).await.unwrap();
            assert!(buffer[..n].starts_with(b"GET /healthz HTTP/1.1\r\n"));
            client.write_all(answer).await.unwrap();
        };
        let terms = Terms::default();
        let asked = http(connect, "/healthz", &terms, Duration::from_secs(5));
        match tokio::join!(asked, serve).0 {
            Asked::Judged(probe) => probe,
            Asked::Moved(to) => Probe::bad(to),
        }
    }

    #[tokio::test]
    async fn whole_answers_from_200_to_399_are_good() {
        for good in [
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".as_slice(),
            b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
            b"HTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 301 Moved\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        ] {
            let text = String::from_utf8_lossy(good);
            assert_eq!(probe(good).await, Probe::good(), "{text}");
        }
    }

    #[tokio::test]
    async fn everything_else_says_what_came() {
        let table: [(&[u8], &str); 4] = [
            (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", "answered 503"),
            (b"", "closed before the end of the answer"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", ""),
            (b"SSH-2.0-OpenSSH\r\n\r\n", "not HTTP"),
        ];
        for (answer, why) in table {
            let probe = probe(answer).await;
            assert!(probe.why().is_some_and(|text| text.contains(why)), "{probe:?} {why}");
        }
    }

    #[tokio::test]
    async fn no_answer_is_bad_after_the_timeout() {
        let probe = within(Duration::from_millis(20), std::future::pending()).await;
        assert_eq!(probe.why(), Some("no answer within 20ms"));
    }
}
