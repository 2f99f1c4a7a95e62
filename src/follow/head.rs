//! What waits in a connection's queue: a whole head of an HTTP/1 request, a part of one, or anything else.
//!
//! Nothing here is guessed: what the parser does not take as a request is none.

use httparse::{EMPTY_HEADER, Header, Request, Status};

/// More headers than this make no request that is taken.
const N_HEADERS_MAX: usize = 100;

/// What a queue begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    /// A whole head.
    Head(Head),
    /// The beginning of a head.
    Part,
    /// A request behind which comes what is no HTTP/1 any more.
    Tunnel,
    /// A request with a body whose end cannot be told from its head.
    Unclear,
    /// No HTTP/1 request.
    Foreign,
}

/// A whole head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// How many bytes it has.
    pub length: u64,
    /// How many bytes come behind it that belong to it.
    pub body: u64,
    /// It changes nothing: sent twice it would do no harm (RFC 9110, 9.2.1).
    pub is_safe: bool,
    /// The answer has no body, whatever it says (RFC 9110, 9.3.2).
    pub is_for_head: bool,
}

impl Head {
    /// The bytes of the whole request.
    #[must_use]
    pub fn whole(self) -> u64 {
        self.length.saturating_add(self.body)
    }
}

/// Reads what a queue begins with.
#[must_use]
pub fn read(queue: &[u8]) -> Queue {
    let mut headers = [EMPTY_HEADER; N_HEADERS_MAX];
    let mut request = Request::new(&mut headers);
    let length = match request.parse(queue) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Queue::Part,
        Err(_) => return Queue::Foreign,
    };
    let method = request.method.unwrap_or_default();
    let headers: &[Header<'_>] = request.headers;
    if method == "CONNECT" || find(headers, "upgrade").next().is_some() {
        return Queue::Tunnel;
    }
    if find(headers, "transfer-encoding").next().is_some() {
        return Queue::Unclear;
    }
    let mut lengths = find(headers, "content-length").map(number);
    let body = match (lengths.next(), lengths.next()) {
        (None, _) => 0,
        (Some(Some(body)), None) => body,
        _ => return Queue::Unclear,
    };
    let expects = find(headers, "expect").next().is_some();
    Queue::Head(Head {
        length: length as u64,
        body,
        is_safe: matches!(method, "GET" | "HEAD" | "OPTIONS") && !expects,
        is_for_head: method == "HEAD",
    })
}

/// Values of all headers with this name.
pub fn find<'a>(headers: &'a [Header<'a>], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let named = headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
    named.map(|header| header.value)
}

/// A length, digits alone.
pub fn number(text: &[u8]) -> Option<u64> {
    let is_plain = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| is_plain)?.parse().ok()
}

/// The same head, but that the connection ends behind it. Every other byte stays what it is.
#[must_use]
pub fn with_close(head: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(head.len() + 24);
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut end: &[u8] = b"\r\n";
    let mut is_first = true;
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        let (text, line_end) = match line {
            [text @ .., b'\r', b'\n'] => (text, &b"\r\n"[..]),
            [text @ .., b'\n'] => (text, &b"\n"[..]),
            text => (text, &b""[..]),
        };
        let name = text.split(|byte| *byte == b':').next().unwrap_or_default();
        if text.is_empty() && is_first {
            // Line ends before a request.
        } else if text.is_empty() {
            out.extend(b"Connection: close");
            // What else it says of this one connection stays true.
            kept.drain(..).for_each(|option| out.extend([b", ", option].concat()));
            out.extend(end);
            out.extend(line);
        } else if is_first {
            is_first = false;
            end = line_end;
            out.extend(line);
        } else if name.eq_ignore_ascii_case(b"connection") {
            let value = text.get(name.len() + 1..).unwrap_or_default();
            let options = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            let is_other = |option: &&[u8]| {
                !option.is_empty()
                    && !option.eq_ignore_ascii_case(b"keep-alive")
                    && !option.eq_ignore_ascii_case(b"close")
            };
            kept.extend(options.filter(is_other));
        } else if !name.eq_ignore_ascii_case(b"keep-alive") {
            out.extend(line);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(queue: &str, expected: Queue) {
        assert_eq!(read(queue.as_bytes()), expected, "{queue:?}");
    }

    fn head(queue: &str) -> Head {
        let length = queue.find("\r\n\r\n").unwrap() as u64 + 4;
        Head { length, body: 0, is_safe: true, is_for_head: false }
    }

    #[test]
    fn a_queue_is_what_its_head_says() {
        let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        check(get, Queue::Head(head(get)));
        check(&format!("{get}GET"), Queue::Head(head(get)));
        let old = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
        check(old, Queue::Head(head(old)));
        let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n";
        check(post, Queue::Head(Head { body: 10, is_safe: false, ..head(post) }));
        let none = "DELETE / HTTP/1.1\r\nContent-Length: 0\r\n\r\n";
        check(none, Queue::Head(Head { is_safe: false, ..head(none) }));
        let asks = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
        check(asks, Queue::Head(Head { is_for_head: true, ..head(asks) }));
        let expects = "GET / HTTP/1.1\r\nExpect: 100-continue\r\n\r\n";
        check(expects, Queue::Head(Head { is_safe: false, ..head(expects) }));
    }

    #[test]
    fn what_is_no_whole_plain_request_is_none() {
        for part in ["G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: a\r\n"] {
            check(part, Queue::Part);
        }
        let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let twice = "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n";
        let odd = "POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\n";
        for unclear in [chunked, twice, odd] {
            check(unclear, Queue::Unclear);
        }
        check("GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n", Queue::Tunnel);
        check("CONNECT a:1 HTTP/1.1\r\n\r\n", Queue::Tunnel);
        for foreign in
            ["\u{16}\u{3}\u{1}", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\u{1}\0\0\0x", "SELECT 1;\n"]
        {
            check(foreign, Queue::Foreign);
        }
    }

    #[test]
    fn a_head_is_given_on_as_it_is_but_for_the_end_of_its_connection() {
        for (head, expected) in [
            (
                "GET / HTTP/1.1\r\nHost: a\r\nX:  y \r\n\r\n",
                "GET / HTTP/1.1\r\nHost: a\r\nX:  y \r\nConnection: close\r\n\r\n",
            ),
            (
                "GET / HTTP/1.1\r\nconnection: Keep-Alive, TE\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\n\r\n",
                "GET / HTTP/1.1\r\nTE: trailers\r\nConnection: close, TE\r\n\r\n",
            ),
            ("\r\nGET / HTTP/1.1\n\n", "GET / HTTP/1.1\nConnection: close\n\n"),
        ] {
            assert_eq!(String::from_utf8(with_close(head.as_bytes())).unwrap(), expected);
        }
    }
}
