//! One HTTP/1.1 request on a connection of its own: health checks, metrics, admin APIs, webhooks.
//!
//! The calling code supplies the connection: to an address, to a unix socket, or a probe's to
//! exactly one process. A request is never repeated, a redirect never followed, a connection never
//! kept.

use std::future::Future;
use std::io;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::http::request::Builder;
use hyper::{Method, Request, Response, StatusCode, body::Incoming, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// Of an answer; by itself hyper reads 100.
const N_HEADERS_MAX: usize = 4_000;

/// How long a request may take, and how much of its answer is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// For all of it, from the connection to the end of the body.
    pub(crate) deadline: Duration,
    /// For the body.
    pub(crate) body: BodyLimit,
}

/// How much of a body is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyLimit {
    /// All of it; more than so many bytes are an error.
    Whole(usize),
    /// What lies beyond so many bytes is not read.
    First(usize),
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: StatusCode,
    /// Where a redirect leads.
    pub(crate) location: Option<String>,
    /// The body, as far as it was read.
    pub(crate) body: Vec<u8>,
}

/// Why there is no answer. `E` is the error of the code that made the connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError<E> {
    /// There is no connection.
    #[error("{0}")]
    Connect(E),
    /// It took longer than the deadline.
    #[error("no answer in time")]
    Late,
    /// The connection broke, or what came is not HTTP.
    #[error("{0}")]
    Exchange(hyper::Error),
    /// The body is longer than its limit.
    #[error("length limit exceeded")]
    TooLong,
}

impl From<HttpError<io::Error>> for io::Error {
    fn from(error: HttpError<Self>) -> Self {
        match error {
            HttpError::Connect(error) => error,
            HttpError::Late => Self::from(io::ErrorKind::TimedOut),
            HttpError::Exchange(error) => Self::other(error),
            HttpError::TooLong => Self::other("length limit exceeded"),
        }
    }
}

/// A request with the headers that all have.
pub(crate) fn request(method: Method, path: &str, host: &str) -> Builder {
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, host)
        .header(header::USER_AGENT, concat!("halley-sup/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
}

/// Connects, sends the request and reads the answer, all within the deadline.
///
/// # Errors
/// [`HttpError`].
pub(crate) async fn exchange<S: AsyncRead + AsyncWrite + Unpin, E>(
    connect: impl Future<Output = Result<S, E>>,
    request: Request<Full<Bytes>>,
    limits: Limits,
) -> Result<Answer, HttpError<E>> {
    let whole = async {
        let stream = connect.await.map_err(HttpError::Connect)?;
        exchange_on(stream, request, limits.body).await
    };
    tokio::time::timeout(limits.deadline, whole).await.unwrap_or(Err(HttpError::Late))
}

async fn exchange_on<S: AsyncRead + AsyncWrite + Unpin, E>(
    stream: S,
    request: Request<Full<Bytes>>,
    limit: BodyLimit,
) -> Result<Answer, HttpError<E>> {
    // A program may send as many headers as it likes.
    let mut builder = hyper::client::conn::http1::Builder::new();
    let handshake = builder.max_headers(N_HEADERS_MAX).handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(HttpError::Exchange)?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(HttpError::Exchange)?;
        read(response, limit).await
    };
    let mut connection = std::pin::pin!(connection);
    let mut exchange = std::pin::pin!(exchange);
    let mut is_open = true;
    loop {
        tokio::select! {
            biased;
            answer = &mut exchange => return answer,
            _ended = &mut connection, if is_open => is_open = false,
        }
    }
}

async fn read<E>(
    mut response: Response<Incoming>,
    limit: BodyLimit,
) -> Result<Answer, HttpError<E>> {
    let status = response.status();
    let location = response.headers().get(header::LOCATION);
    let location = location.and_then(|value| Some(value.to_str().ok()?.to_owned()));
    let mut body = Vec::new();
    while let Some(frame) = response.body_mut().frame().await {
        let frame = frame.map_err(HttpError::Exchange)?;
        body.extend_from_slice(frame.data_ref().map_or(&[], |data| data.as_ref()));
        match limit {
            BodyLimit::Whole(n_max) if body.len() > n_max => return Err(HttpError::TooLong),
            BodyLimit::First(n_max) if body.len() > n_max => break,
            BodyLimit::Whole(_) | BodyLimit::First(_) => {}
        }
    }
    Ok(Answer { status, location, body })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    /// For what comes at once, on a machine that is busy as well.
    const BUDGET: Duration = Duration::from_secs(30);

    /// The answer to a request, and the request as it arrived.
    async fn exchanged(
        answer: impl AsRef<[u8]>,
        body: BodyLimit,
    ) -> (Result<Answer, HttpError<io::Error>>, String) {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        let request = request(Method::POST, "/hook", "example.org");
        let request = request.body(Full::new(Bytes::from_static(b"news"))).unwrap();
        let serve = async {
            let mut bytes = vec![0; 1024];
            let mut n = 0;
            while !bytes[..n].ends_with(b"news") {
                n += theirs.read(&mut bytes[n..]).await.unwrap();
            }
            // What is too long is not read to its end.
            drop(theirs.write_all(answer.as_ref()).await);
            drop(theirs);
            String::from_utf8_lossy(&bytes[..n]).into_owned()
        };
        let connect = async { Ok(ours) };
        let limits = Limits { deadline: BUDGET, body };
        tokio::join!(exchange(connect, request, limits), serve)
    }

    #[tokio::test]
    async fn a_request_has_its_headers_and_its_answer_is_read() {
        let answer = "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone";
        let (answer, asked) = exchanged(answer, BodyLimit::Whole(4)).await;
        let answer = answer.unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (StatusCode::NOT_FOUND, &b"gone"[..]));
        assert!(asked.starts_with("POST /hook HTTP/1.1\r\n"), "{asked}");
        for header in ["host: example.org", "connection: close", "user-agent: halley-sup/"] {
            assert!(asked.contains(&format!("\r\n{header}")), "{asked}");
        }
    }

    #[tokio::test]
    async fn a_body_beyond_its_limit_fails_or_is_left() {
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngone";
        let (whole, _) = exchanged(answer, BodyLimit::Whole(3)).await;
        assert_eq!(io::Error::from(whole.unwrap_err()).to_string(), "length limit exceeded");
        let (first, _) = exchanged(answer, BodyLimit::First(3)).await;
        assert_eq!(first.unwrap().status, StatusCode::OK);
    }

    #[tokio::test]
    async fn an_answer_cut_short_is_an_error() {
        for answer in ["", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"] {
            let (cut, _) = exchanged(answer, BodyLimit::First(100)).await;
            assert!(matches!(cut, Err(HttpError::Exchange(_))), "{cut:?}");
        }
    }

    #[tokio::test]
    async fn the_deadline_holds_for_the_connection_too() {
        let never = std::future::pending::<io::Result<DuplexStream>>();
        let request = request(Method::GET, "/", "h").body(Full::default()).unwrap();
        let limits = Limits { deadline: Duration::from_millis(20), body: BodyLimit::First(1) };
        assert!(matches!(exchange(never, request, limits).await, Err(HttpError::Late)));
    }

    #[tokio::test]
    async fn an_error_of_the_connection_is_handed_on() {
        let refused = async { Err::<DuplexStream, _>("refused") };
        let request = request(Method::GET, "/", "h").body(Full::default()).unwrap();
        let limits = Limits { deadline: BUDGET, body: BodyLimit::First(1) };
        let error = exchange(refused, request, limits).await.unwrap_err();
        assert!(matches!(error, HttpError::Connect("refused")), "{error:?}");
    }

    /// What an answer is made of, in no order that anybody asked for.
    const PARTS: [&str; 18] = [
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.0 503 \r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n",
        "HTTP/1.1 204 No Content\r\n",
        "HTTP/1.1 999999 OK\r\n",
        "Content-Length: 4\r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Location: /\r\n",
        ": \r\n",
        "\r\n",
        "4\r\ngone\r\n",
        "ffffffffffffffff\r\n",
        "0\r\n\r\n",
        "gone",
        "\0",
        "é",
    ];

    fn answers() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            8 => prop::sample::select(&PARTS[..]).prop_map(|part| part.as_bytes().to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..6000),
        ];
        let starts = ["", PARTS[0], "HTTP/1.1 200 OK\r\n\r\n"];
        let rest = prop::collection::vec(part, 0..12);
        (prop::sample::select(starts.to_vec()), rest)
            .prop_map(|(start, rest)| [start.as_bytes().to_vec(), rest.concat()].concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        /// Whatever a program answers: an answer within its limit or an error, and no wait for more.
        #[test]
        fn any_answer_is_read_within_its_limit_or_is_an_error(answer in answers(), n_max in 0..9_usize) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let read = |limit| runtime.block_on(exchanged(&answer, limit)).0;
            let first = read(BodyLimit::First(n_max));
            match (read(BodyLimit::Whole(n_max)), &first) {
                (Ok(whole), Ok(first)) => {
                    prop_assert!(whole.body.len() <= n_max);
                    prop_assert_eq!((whole.status, &whole.body), (first.status, &first.body));
                }
                (Err(HttpError::TooLong), Ok(first)) => prop_assert!(first.body.len() > n_max),
                (Err(HttpError::Exchange(_)), Ok(_) | Err(HttpError::Exchange(_))) => {}
                (whole, first) => prop_assert!(false, "{whole:?}, {first:?}"),
            }
        }
    }
}
