//! Probes: what one says, and how it asks.

use std::collections::VecDeque;
use std::future::Future;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::config::duration;
use crate::core::ids::{InstanceIndex, ReleaseId};
use crate::os::clock;
use crate::supervisor::sockets::stream::Wire;

/// Probes that a transcript remembers.
const N_REMEMBERED: usize = 20;
/// Most of a body that is read.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// What a probe said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe(Option<String>);

impl Probe {
    /// It was answered well.
    #[must_use]
    pub fn good() -> Self {
        Self(None)
    }

    /// It was not, because.
    #[must_use]
    pub fn bad(why: impl Into<String>) -> Self {
        Self(Some(why.into()))
    }

    /// Whether it was answered well.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.0.is_none()
    }

    /// Why it was bad.
    #[must_use]
    pub fn why(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

/// The last probes of an operation, for its report.
#[derive(Debug, Default)]
pub struct Transcript(VecDeque<String>);

impl Transcript {
    /// Remembers a probe.
    pub fn push(&mut self, release: ReleaseId, index: InstanceIndex, probe: &Probe) {
        if self.0.len() == N_REMEMBERED {
            self.0.pop_front();
        }
        let said = probe.why().unwrap_or("good");
        let at = clock::now_rfc3339_ms();
        self.0.push_back(format!("{at} release {release} instance {index}: {said}"));
    }

    /// What is remembered, oldest first.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

/// A probe that takes longer than this is bad.
pub async fn within(limit: Duration, probe: impl Future<Output = Probe>) -> Probe {
    match tokio::time::timeout(limit, probe).await {
        Ok(probe) => probe,
        Err(_) => Probe::bad(too_late(limit)),
    }
}

/// What is said of one that took longer.
#[must_use]
pub fn too_late(limit: Duration) -> String {
    format!("no answer within {}", duration::print(limit))
}

/// `GET` over a connection that is there already; 200 to 399 is good.
pub async fn http(
    wire: impl AsyncRead + AsyncWrite + Unpin + 'static,
    authority: &str,
    path: &str,
) -> Probe {
    match fetch(wire, authority, path, BODY_BYTES_MAX).await {
        Ok(_) => Probe::good(),
        Err(why) => Probe::bad(why),
    }
}

/// The body of a good answer. What lies beyond so many bytes is not read.
///
/// # Errors
/// Why there is none, for people.
pub async fn fetch(
    wire: impl AsyncRead + AsyncWrite + Unpin + 'static,
    authority: &str,
    path: &str,
    n_bytes_max: usize,
) -> Result<Vec<u8>, String> {
    let asked = format!("GET {path}");
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(wire)).await;
    let (mut sender, connection) = handshake.map_err(|error| format!("{asked}: {error}"))?;
    let request = Request::get(path)
        .header(header::HOST, authority)
        .header(header::USER_AGENT, concat!("halley-sup/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new());
    let request = request.map_err(|error| format!("{asked}: {error}"))?;
    let exchange = async {
        let told = |error: hyper::Error| format!("{asked}: {}", http_text(&error));
        let mut response = sender.send_request(request).await.map_err(told)?;
        let status = response.status();
        let mut body = Vec::new();
        // A good answer is a whole one.
        while let Some(frame) = response.body_mut().frame().await {
            let frame = frame.map_err(told)?;
            body.extend_from_slice(frame.data_ref().map_or(&[], |data| data.as_ref()));
            if body.len() > n_bytes_max {
                break;
            }
        }
        let is_good = (200..400).contains(&status.as_u16());
        if is_good { Ok(body) } else { Err(format!("{asked} answered {status}")) }
    };
    let mut connection = std::pin::pin!(connection);
    let mut exchange = std::pin::pin!(exchange);
    let mut open = true;
    loop {
        tokio::select! {
            biased;
            answer = &mut exchange => return answer,
            _ended = &mut connection, if open => open = false,
        }
    }
}

fn http_text(error: &hyper::Error) -> String {
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        "the connection was closed without a whole answer".to_owned()
    } else if error.is_parse() {
        format!("the answer is not HTTP ({error})")
    } else {
        error.to_string()
    }
}

/// Good when the program takes the connection out of its accept queue, as the kernel tells it:
/// a queue that does not move is a program that hangs, and nobody has to ask the program.
pub async fn taken(wire: &Wire) -> Probe {
    let mut pause = Duration::from_millis(1);
    while !wire.is_taken() {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
    Probe::good()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn probe(answer: &'static [u8]) -> Probe {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let serve = async {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 1024];
            let n = client.read(&mut buffer).await.unwrap();
            assert!(buffer[..n].starts_with(b"GET /healthz HTTP/1.1\r\n"));
            client.write_all(answer).await.unwrap();
        };
        tokio::join!(http(stream, "h", "/healthz"), serve).0
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
            (b"", "closed without a whole answer"),
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
