//! Where an answer ends, and that its connection ends with it. Pure: bytes in, bytes out.
//!
//! The head says that the connection is closed; every byte of the body goes on as it came.

use httparse::{EMPTY_HEADER, Response, Status};

use super::head::{find, number, with_close};

/// A longer head is passed on as it is, until the other side ends.
const HEAD_BYTES_MAX: usize = 256 * 1024;
const N_HEADERS_MAX: usize = 200;

/// An answer on its way.
#[derive(Debug)]
pub struct Answer {
    is_for_head: bool,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Head(Vec<u8>),
    Length(u64),
    Chunks(Chunk),
    UntilEnd,
    Over,
}

/// What comes next in a body of chunks (RFC 9112, 7.1).
#[derive(Debug, Clone, Copy)]
enum Chunk {
    /// A line with a size, so far.
    Size(u64),
    /// The rest of that line.
    Extension(u64),
    /// Bytes of a chunk, and the line end behind it.
    Data(u64),
    /// A line behind the last chunk: whether it is empty so far.
    Trailer(bool),
}

impl Answer {
    /// An answer to a request; to a `HEAD` it has no body.
    #[must_use]
    pub fn new(is_for_head: bool) -> Self {
        Self { is_for_head, stage: Stage::Head(Vec::new()) }
    }

    /// Whether all of it has come.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// What is to be passed on of what came. Behind the end nothing is.
    pub fn take(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        while !bytes.is_empty() {
            let n = match &mut self.stage {
                Stage::Over => return out,
                Stage::UntilEnd => bytes.len(),
                Stage::Length(left) => {
                    let n = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= n as u64;
                    if *left == 0 {
                        self.stage = Stage::Over;
                    }
                    n
                }
                Stage::Chunks(chunk) => {
                    let n = chunk.take(bytes);
                    if let Some(next) = n.1 {
                        self.stage = next;
                    }
                    n.0
                }
                Stage::Head(head) => {
                    head.extend(bytes);
                    let head = std::mem::take(head);
                    let (passed, rest) = self.head(&head);
                    out.extend(passed);
                    let n_rest = rest.min(bytes.len());
                    bytes = bytes.get(bytes.len() - n_rest..).unwrap_or_default();
                    continue;
                }
            };
            let (now, later) = bytes.split_at_checked(n).unwrap_or((bytes, &[]));
            out.extend(now);
            bytes = later;
        }
        out
    }

    /// What of a head is passed on, and how many bytes have come behind it.
    fn head(&mut self, head: &[u8]) -> (Vec<u8>, usize) {
        let mut headers = [EMPTY_HEADER; N_HEADERS_MAX];
        let mut response = Response::new(&mut headers);
        let length = match response.parse(head) {
            Ok(Status::Complete(length)) => length,
            Ok(Status::Partial) if head.len() < HEAD_BYTES_MAX => {
                self.stage = Stage::Head(head.to_owned());
                return (Vec::new(), 0);
            }
            Ok(Status::Partial) | Err(_) => {
                self.stage = Stage::UntilEnd;
                return (head.to_owned(), 0);
            }
        };
        let (own, rest) = head.split_at_checked(length).unwrap_or((head, &[]));
        let code = response.code.unwrap_or(0);
        if (100..200).contains(&code) && code != 101 {
            // The final one follows.
            self.stage = Stage::Head(Vec::new());
            return (own.to_owned(), rest.len());
        }
        let headers = &*response.headers;
        let is_chunked = find(headers, "transfer-encoding").next().is_some();
        let length = find(headers, "content-length").next().and_then(number);
        self.stage = match (is_chunked, length) {
            _ if code == 101 => Stage::UntilEnd,
            _ if self.is_for_head || code == 204 || code == 304 => Stage::Over,
            (true, _) => Stage::Chunks(Chunk::Size(0)),
            (false, Some(0)) => Stage::Over,
            (false, Some(length)) => Stage::Length(length),
            (false, None) => Stage::UntilEnd,
        };
        (with_close(own), rest.len())
    }
}

impl Chunk {
    /// How many of these bytes belong together, and what follows when it is no chunk's.
    fn take(&mut self, bytes: &[u8]) -> (usize, Option<Stage>) {
        if let Self::Data(left) = self {
            let n = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= n as u64;
            if *left == 0 {
                *self = Self::Size(0);
            }
            return (n, None);
        }
        let Some(byte) = bytes.first() else { return (0, None) };
        let next = match (*self, byte) {
            // Two bytes of a line end are behind each chunk. The last one has no bytes.
            (Self::Size(size) | Self::Extension(size), b'\n') if size > 0 => {
                Self::Data(size.saturating_add(2))
            }
            (Self::Size(_) | Self::Extension(_), b'\n') => Self::Trailer(true),
            (Self::Size(size), byte) => match char::from(*byte).to_digit(16) {
                Some(digit) => Self::Size(size.saturating_mul(16).saturating_add(digit.into())),
                None => Self::Extension(size),
            },
            (Self::Extension(size), _) => Self::Extension(size),
            (Self::Trailer(true), b'\n') => return (1, Some(Stage::Over)),
            (Self::Trailer(false), b'\n') => Self::Trailer(true),
            (Self::Trailer(is_empty), b'\r') => Self::Trailer(is_empty),
            (Self::Trailer(_) | Self::Data(_), _) => Self::Trailer(false),
        };
        *self = next;
        (1, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All at once, and byte by byte, comes to the same.
    #[track_caller]
    fn check(is_for_head: bool, came: &str, expected: &str, is_over: bool) {
        for step in [came.len(), 1, 3] {
            let mut answer = Answer::new(is_for_head);
            let passed: Vec<u8> =
                came.as_bytes().chunks(step).flat_map(|bytes| answer.take(bytes)).collect();
            assert_eq!(String::from_utf8_lossy(&passed), expected, "by {step}");
            assert_eq!(answer.is_over(), is_over, "{came:?} by {step}");
        }
    }

    #[test]
    fn an_answer_is_whole_when_its_head_says_so() {
        let ok = "HTTP/1.1 200 OK\r\n";
        let close = "Connection: close\r\n\r\n";
        let length = "Content-Length: 5\r\n";
        check(
            false,
            &format!("{ok}{length}\r\nhellomore"),
            &format!("{ok}{length}{close}hello"),
            true,
        );
        check(false, &format!("{ok}{length}\r\nhell"), &format!("{ok}{length}{close}hell"), false);
        check(true, &format!("{ok}{length}\r\n"), &format!("{ok}{length}{close}"), true);
        check(
            false,
            "HTTP/1.1 304 Not Modified\r\nConnection: keep-alive\r\n\r\n",
            &format!("HTTP/1.1 304 Not Modified\r\n{close}"),
            true,
        );
        check(
            false,
            &format!("{ok}\r\nuntil the end"),
            &format!("{ok}{close}until the end"),
            false,
        );
        let early = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n";
        check(
            false,
            &format!("{early}{ok}Content-Length: 0\r\n\r\n"),
            &format!("{early}{ok}Content-Length: 0\r\n{close}"),
            true,
        );
    }

    #[test]
    fn chunks_are_passed_on_as_they_came() {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n";
        let close = "Connection: close\r\n\r\n";
        for body in [
            "5\r\nhello\r\n0\r\n\r\n",
            "5;a=b\r\nhello\r\nA\r\n0123456789\r\n00\r\n\r\n",
            "0\r\nTrailer: x\r\nAnother: y\r\n\r\n",
        ] {
            check(false, &format!("{head}\r\n{body}"), &format!("{head}{close}{body}"), true);
            let cut = &body[..body.len() - 1];
            check(false, &format!("{head}\r\n{cut}"), &format!("{head}{close}{cut}"), false);
        }
    }
}
