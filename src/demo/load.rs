//! A load client for loopback: a few threads, one shape, a ledger, no silent retries.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::net::RecvFlags;

use crate::demo::ledger::{Connection, Fate, Ledger};
use crate::demo::stream::{Stream, Target};

/// No answer for this long is no answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A connection for each request, and a moment between two: a load beside which others have
    /// their turn.
    Short,
    /// A connection for each request, as often as it goes.
    ShortFast,
    /// Connections are used again; the client looks whether they are closed before it does.
    KeepAlive,
    /// Connections are used again at once, as often as it goes.
    KeepAliveFast,
    /// Connections are used again without a look: a close that races with a request is a loss.
    KeepAliveBlind,
    /// Connect, wait, then ask.
    ConnectThenWait,
    /// Requests that take a while.
    SlowRequest,
    /// Bodies that come piece by piece.
    SlowUpload,
    /// Answers that come piece by piece.
    SlowDownload,
    /// Connections that are taken over for a long talk, as WebSocket's are: a line every 10 ms,
    /// each comes back; after a hundred a new one.
    LongTalk,
}

/// A load that runs.
#[derive(Debug)]
pub struct Load {
    workers: Vec<JoinHandle<Ledger>>,
    stop: Arc<AtomicBool>,
    n_done: Arc<AtomicU64>,
}

impl Load {
    /// Starts `n_workers` clients of one shape against an address of this machine.
    ///
    /// # Panics
    /// When the address is not a loopback one: no load goes anywhere else. When there is no thread.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a load of fewer clients would prove less")]
    pub fn start(target: impl Into<Target>, shape: Shape, n_workers: usize) -> Self {
        Self::begin(&target.into(), shape, n_workers).expect("a thread for each client")
    }

    /// The same, where the host may have no thread for it.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn begin(target: &Target, shape: Shape, n_workers: usize) -> io::Result<Self> {
        let is_ours = match target {
            Target::Tcp(address) => address.ip().is_loopback(),
            Target::Unix(_) => true,
        };
        assert!(is_ours, "a load stays on this machine");
        let stop = Arc::new(AtomicBool::new(false));
        let n_done = Arc::new(AtomicU64::new(0));
        let mut load = Self { workers: Vec::new(), stop, n_done };
        for _ in 0..n_workers {
            let (stop, n_done) = (Arc::clone(&load.stop), Arc::clone(&load.n_done));
            let target = target.clone();
            let thread = std::thread::Builder::new();
            match thread.spawn(move || work(&target, shape, &stop, &n_done)) {
                Ok(worker) => load.workers.push(worker),
                Err(error) => {
                    drop(load.stop());
                    return Err(error);
                }
            }
        }
        Ok(load)
    }

    /// How many requests have had their outcome.
    #[must_use]
    pub fn n_done(&self) -> u64 {
        self.n_done.load(Ordering::Relaxed)
    }

    /// Waits until `n` more requests have had their outcome, at most ten seconds.
    #[must_use]
    pub fn wait_for(&self, n: u64) -> bool {
        let (target, begun) = (self.n_done() + n, Instant::now());
        while self.n_done() < target {
            if begun.elapsed() > PATIENCE {
                return false;
            }
            std::thread::park_timeout(Duration::from_millis(2));
        }
        true
    }

    /// Stops the clients; each finishes the request it is at.
    #[must_use]
    pub fn stop(self) -> Ledger {
        self.stop.store(true, Ordering::Relaxed);
        let mut ledger = Ledger::default();
        for worker in self.workers {
            if let Ok(own) = worker.join() {
                ledger.merge(own);
            }
        }
        ledger
    }
}

fn work(target: &Target, shape: Shape, stop: &AtomicBool, n_done: &AtomicU64) -> Ledger {
    let mut ledger = Ledger::default();
    let mut open: Option<BufReader<Stream>> = None;
    let mut n_said = 0_u32;
    while !stop.load(Ordering::Relaxed) {
        if shape == Shape::KeepAlive && open.as_ref().is_some_and(is_closed) {
            open = None;
        }
        let connection = if open.is_some() { Connection::Reused } else { Connection::Fresh };
        let begun = Instant::now();
        let asked = match shape {
            Shape::LongTalk => talk(target, &mut open, &mut n_said),
            _ => ask(target, shape, &mut open),
        };
        let fate = match asked {
            Ok(fate) => fate,
            Err(error) => fate_of(&error),
        };
        if !matches!(fate, Fate::Answered(_)) {
            open = None;
        }
        ledger.note(fate, connection, begun.elapsed());
        n_done.fetch_add(1, Ordering::Relaxed);
        match shape {
            Shape::Short | Shape::KeepAlive | Shape::KeepAliveBlind => {
                std::thread::park_timeout(Duration::from_millis(1));
            }
            Shape::LongTalk => std::thread::park_timeout(Duration::from_millis(10)),
            _ => {}
        }
    }
    ledger
}

fn fate_of(error: &io::Error) -> Fate {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Fate::Refused,
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Fate::Reset,
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Fate::Hanging,
        io::ErrorKind::UnexpectedEof => Fate::Cut,
        _ => Fate::Wrong,
    }
}

/// A look before a connection is used again: has the other side closed it?
fn is_closed(reader: &BufReader<Stream>) -> bool {
    let mut byte = [0_u8; 1];
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    match rustix::net::recv(reader.get_ref(), &mut byte[..], flags) {
        Err(rustix::io::Errno::AGAIN) => false,
        Ok(_) | Err(_) => true,
    }
}

fn connect(target: &Target) -> io::Result<BufReader<Stream>> {
    let stream = target.connect(PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(BufReader::new(stream))
}

/// One line of a long talk; the connection's first is its beginning.
fn talk(
    target: &Target,
    open: &mut Option<BufReader<Stream>>,
    n_said: &mut u32,
) -> io::Result<Fate> {
    const N_LINES: u32 = 100;
    let mut reader = match open.take() {
        Some(reader) => reader,
        None => {
            *n_said = 0;
            let mut reader = connect(target)?;
            let head = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
            reader.get_mut().write_all(head.as_bytes())?;
            let mut line = String::new();
            while line != "\r\n" {
                line.clear();
                if reader.read_line(&mut line)? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            reader
        }
    };
    let said = format!("line {n_said}\n");
    reader.get_mut().write_all(said.as_bytes())?;
    let mut heard = String::new();
    if reader.read_line(&mut heard)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    *n_said += 1;
    let words: Vec<&str> = heard.splitn(3, ' ').collect();
    let fate = match words[..] {
        ["release", release, back] if back == said => {
            release.parse().map_or(Fate::Wrong, Fate::Answered)
        }
        _ => Fate::Wrong,
    };
    *open = (*n_said < N_LINES).then_some(reader);
    Ok(fate)
}

fn ask(target: &Target, shape: Shape, open: &mut Option<BufReader<Stream>>) -> io::Result<Fate> {
    let mut reader = match open.take() {
        Some(reader) => reader,
        None => connect(target)?,
    };
    let close = match shape {
        Shape::KeepAlive | Shape::KeepAliveFast | Shape::KeepAliveBlind => "",
        _ => "Connection: close\r\n",
    };
    let stream = reader.get_mut();
    match shape {
        Shape::Short | Shape::ShortFast | Shape::KeepAlive | Shape::KeepAliveFast => {
            stream.write_all(format!("GET / HTTP/1.1\r\nHost: a\r\n{close}\r\n").as_bytes())?;
        }
        Shape::ConnectThenWait => {
            std::thread::park_timeout(Duration::from_millis(200));
            stream.write_all(format!("GET / HTTP/1.1\r\nHost: a\r\n{close}\r\n").as_bytes())?;
        }
        Shape::SlowDownload => {
            let head = format!("GET /download HTTP/1.1\r\nHost: a\r\n{close}\r\n");
            stream.write_all(head.as_bytes())?;
        }
        Shape::SlowRequest | Shape::LongTalk => {
            let head = format!("GET /slow?ms=300 HTTP/1.1\r\nHost: a\r\n{close}\r\n");
            stream.write_all(head.as_bytes())?;
        }
        Shape::KeepAliveBlind => {
            let head =
                format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n{close}\r\nhi");
            stream.write_all(head.as_bytes())?;
        }
        Shape::SlowUpload => {
            let head =
                format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n{close}\r\n");
            stream.write_all(head.as_bytes())?;
            for _ in 0..10 {
                std::thread::park_timeout(Duration::from_millis(30));
                stream.write_all(b"x")?;
            }
        }
    }
    let (fate, may_stay) = read_answer(&mut reader)?;
    if may_stay && close.is_empty() {
        *open = Some(reader);
    }
    Ok(fate)
}

/// The answer's fate, and whether the connection may be used again.
fn read_answer(reader: &mut BufReader<Stream>) -> io::Result<(Fate, bool)> {
    let mut status = String::new();
    if reader.read_line(&mut status)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let (mut length, mut stays) = (None, true);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok();
        }
        stays &= line != "connection: close";
    }
    let mut body = Vec::new();
    match length {
        Some(length) => {
            body.resize(length, 0);
            reader.read_exact(&mut body)?;
        }
        None => {
            stays = false;
            reader.read_to_end(&mut body)?;
        }
    }
    let text = String::from_utf8_lossy(&body);
    let release = text
        .strip_prefix("release ")
        .and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok());
    let good = status.starts_with("HTTP/1.1 200 ") || status.starts_with("HTTP/1.0 200 ");
    let fate = match release {
        Some(release) if good => Fate::Answered(release),
        _ => Fate::Wrong,
    };
    Ok((fate, stays && status.starts_with("HTTP/1.1")))
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream};

    use super::*;

    /// A server that answers `n` requests, each on its own connection, then does `last` to one and
    /// leaves.
    fn serve(
        n: usize,
        last: impl FnOnce(TcpStream) + Send + 'static,
    ) -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            for _ in 0..n {
                let (mut stream, _) = listener.accept().unwrap();
                drop(stream.read(&mut [0; 1024]));
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nrelease 7\n";
                drop(stream.write_all(answer));
            }
            last(listener.accept().unwrap().0);
        });
        (address, server)
    }

    fn lost(last: impl FnOnce(TcpStream) + Send + 'static) -> Ledger {
        let (address, server) = serve(3, last);
        let load = Load::start(address, Shape::ShortFast, 1);
        server.join().unwrap();
        // One may have been begun before the server was gone; the next one was not.
        assert!(load.wait_for(2));
        load.stop()
    }

    #[test]
    fn answers_and_each_kind_of_loss_are_seen() {
        let cut = lost(|mut stream| {
            drop(stream.read(&mut [0; 1024]));
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nrel"));
        });
        assert_eq!(cut.by_release().get(&7), Some(&3));
        assert!(cut.losses().contains("1 Cut on Fresh"), "{}", cut.losses());
        let reset = lost(|stream| {
            // Closing with unread bytes resets.
            assert_eq!(stream.peek(&mut [0]).unwrap(), 1);
            drop(stream);
        });
        assert!(reset.losses().contains("Reset"), "{}", reset.losses());
        // The server is gone: the next connection is refused.
        assert!(reset.losses().contains("Refused"), "{}", reset.losses());
        let wrong = lost(|mut stream| {
            drop(stream.read(&mut [0; 1024]));
            drop(stream.write_all(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"));
        });
        assert!(wrong.losses().contains("1 Wrong on Fresh"), "{}", wrong.losses());
    }
}
