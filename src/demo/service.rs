//! A small HTTP program that takes its socket from `LISTEN_FDS` and closes gracefully: the demo's
//! service, and the tests' when it is configured to misbehave.
//!
//! `GET /` answers `release N`, `GET /healthz` 200 or 503, `GET /slow?ms=N` waits, `GET /peer`
//! answers the client's address, `GET /download` answers slowly, `POST /echo` answers the length of
//! the body; after `Upgrade: echo` the connection stays open, as WebSocket's do: lines come back
//! with the release. `GET /metrics` counts requests, `GET /wanted` is answered 200, or 503 when
//! configured so.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use crate::cli::out;
use crate::demo::ailment::{Ailment, Health};
use crate::demo::stream::{Listener, Stream};
use crate::os::sockets;

/// The hidden verb.
pub const VERB: &str = "demo-service";

/// An idle connection is closed this long after the program was asked to stop.
const IDLE: Duration = Duration::from_secs(2);

/// Pieces of a slow download and their size.
const N_PIECES: usize = 16;
const PIECE_BYTES: usize = 4096;

/// How it behaves, from `NAME=VALUE` arguments.
#[derive(Debug, Default)]
struct Behaviour {
    /// `/healthz` answers 503.
    unhealthy: bool,
    /// `/healthz` answers 503 from this age on.
    bad_after: Option<Duration>,
    /// It ends with this code at once.
    exit: Option<u8>,
    /// It ends when it is this old.
    die_after: Option<Duration>,
    /// It never accepts.
    hang: bool,
    /// It accepts and never answers.
    mute: bool,
    /// `/healthz` answers 503 after so many good answers.
    bad_after_times: Option<u64>,
    /// It ends after so many good answers to `/healthz`.
    healthy_times: Option<u64>,
    /// It does not stop when asked to.
    ignore_term: bool,
    /// It shuts its listening socket down at this age.
    shutdown_after: Option<Duration>,
    /// It shrinks its accept queue.
    backlog: Option<i32>,
    /// It writes so many lines at its start.
    lines: u64,
    /// It takes no socket, but binds this address itself.
    bind: Option<String>,
    /// It ends at once when another one of it runs, as databases do.
    alone: bool,
    /// A worker: it has no connections, neither outgoing nor incoming.
    works: bool,
    /// It binds so late.
    late: Option<Duration>,
    /// It binds its address twice, as programs with several workers do.
    twice: bool,
    /// `/wanted` answers 503.
    unwanted: bool,
    /// `/healthz` answers 503 while there is a file `down` in the shared directory.
    shares_fate: bool,
    /// What gets worse little by little.
    ailment: Ailment,
}

/// Why an argument says nothing.
#[derive(Debug, thiserror::Error)]
enum BehaviourError {
    #[error("{0}: not a number")]
    NotANumber(String),
    #[error("{0}: no such behaviour")]
    Unknown(String),
}

impl Behaviour {
    fn from(args: &[OsString]) -> Result<Self, BehaviourError> {
        let mut behaviour = Self::default();
        for arg in args {
            let arg = arg.to_string_lossy();
            let (name, value) = arg.split_once('=').unwrap_or((&arg, "0"));
            if name == "bind" {
                behaviour.bind = Some(value.to_owned());
                continue;
            }
            let number: u64 =
                value.parse().map_err(|_| BehaviourError::NotANumber(arg.to_string()))?;
            let ms = Some(Duration::from_millis(number));
            match name {
                "unhealthy" => behaviour.unhealthy = true,
                "bad-after-ms" => behaviour.bad_after = ms,
                "exit" => behaviour.exit = u8::try_from(number).ok(),
                "die-after-ms" => behaviour.die_after = ms,
                "hang" => behaviour.hang = true,
                "mute" => behaviour.mute = true,
                "bad-after-times" => behaviour.bad_after_times = Some(number),
                "healthy-times" => behaviour.healthy_times = Some(number),
                "ignore-term" => behaviour.ignore_term = true,
                "shutdown-after-ms" => behaviour.shutdown_after = ms,
                "backlog" => behaviour.backlog = i32::try_from(number).ok(),
                "lines" => behaviour.lines = number,
                "late-ms" => behaviour.late = ms,
                "twice" => behaviour.twice = true,
                "alone" => behaviour.alone = true,
                "works" => behaviour.works = true,
                "unwanted" => behaviour.unwanted = true,
                "shares-fate" => behaviour.shares_fate = true,
                _ if behaviour.ailment.take(name, number) => {}
                _ => return Err(BehaviourError::Unknown(arg.to_string())),
            }
        }
        Ok(behaviour)
    }
}

/// The program, shared by its connections.
#[derive(Debug)]
struct Program {
    behaviour: Behaviour,
    release: String,
    instance: String,
    started: Instant,
    stopping: Arc<AtomicBool>,
    n_healthy: AtomicU64,
    n_open: AtomicU64,
    health: Health,
}

/// The program's `main`.
#[must_use]
pub fn main(args: &[OsString]) -> ExitCode {
    let behaviour = match Behaviour::from(args) {
        Ok(behaviour) => behaviour,
        Err(why) => {
            out::say(why);
            return ExitCode::from(2);
        }
    };
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let program = Arc::new(Program {
        release: variable("HALLEY_RELEASE"),
        instance: variable("HALLEY_INSTANCE"),
        health: Health::new(behaviour.ailment),
        behaviour,
        started: Instant::now(),
        stopping: Arc::default(),
        n_healthy: AtomicU64::new(0),
        n_open: AtomicU64::new(0),
    });
    out::say(format!("release {} starts", program.release));
    for n in 0..program.behaviour.lines {
        out::say(format!("line {n}"));
    }
    if let Some(code) = program.behaviour.exit {
        out::say("these are my last words");
        return ExitCode::from(code);
    }
    let alone = match is_alone(&program.behaviour) {
        Ok(lock) => lock,
        Err(why) => {
            out::say(why);
            return ExitCode::from(5);
        }
    };
    let ended = serve_or_work(&program);
    drop(alone);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            out::say(format!("cannot serve: {error}"));
            ExitCode::from(1)
        }
    }
}

/// A lock that only one of it can have.
fn is_alone(behaviour: &Behaviour) -> io::Result<Option<std::fs::File>> {
    if !behaviour.alone {
        return Ok(None);
    }
    let path =
        std::path::Path::new(&std::env::var("HALLEY_SHARED").unwrap_or_default()).join("alone");
    let file = std::fs::File::create(path)?;
    file.try_lock().map_err(|_| io::Error::other("another one of me runs"))?;
    Ok(Some(file))
}

fn serve_or_work(program: &Arc<Program>) -> io::Result<()> {
    if !program.behaviour.works {
        return serve(program, &listener(&program.behaviour)?);
    }
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&program.stopping))?;
    }
    while !program.is_stopping() {
        std::thread::park_timeout(Duration::from_millis(20));
    }
    Ok(())
}

/// Its own address, the one it was given (`PORT`, `SOCKET`), or the socket that was handed over.
fn listener(behaviour: &Behaviour) -> io::Result<Listener> {
    if let Some(late) = behaviour.late {
        std::thread::park_timeout(late);
    }
    let port = std::env::var("PORT").map(|port| format!("127.0.0.1:{port}"));
    let socket = std::env::var("SOCKET").map(|path| format!("unix:{path}"));
    let told = behaviour.bind.clone().or(port.ok()).or(socket.ok());
    let Some(at) = told else {
        let first = sockets::inherited()?.into_iter().next();
        return Listener::of(first.ok_or(io::ErrorKind::NotFound)?);
    };
    let listener = Listener::bind(&at)?;
    if behaviour.twice {
        // The second one is the same again, and lives as long as the program.
        std::mem::forget(Listener::bind(&at)?);
    }
    Ok(listener)
}

fn serve(program: &Arc<Program>, listener: &Listener) -> io::Result<()> {
    let (wake, write) = UnixStream::pair()?;
    let stops = [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT];
    for signal in stops {
        signal_hook::flag::register(signal, Arc::clone(&program.stopping))?;
        signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
    }
    if let Some(backlog) = program.behaviour.backlog {
        rustix::net::listen(listener, backlog)?;
    }
    watch_age(program, listener)?;
    while !program.is_stopping() {
        let mut fds = vec![PollFd::from_borrowed_fd(wake.as_fd(), PollFlags::IN)];
        if !program.behaviour.hang {
            fds.push(PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN));
        }
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            polled => polled?,
        };
        let is_ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        if program.behaviour.ignore_term && is_ready(&fds[0]) {
            io::Read::read(&mut (&wake), &mut [0; 16])?;
        }
        if fds.get(1).is_some_and(is_ready) && !program.is_stopping() {
            match listener.accept() {
                Ok(stream) => program.take(stream),
                // Its own shutdown() of the socket: it goes on, deaf.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    std::thread::park_timeout(Duration::from_millis(50));
                }
                Err(error) => return Err(error),
            }
        }
    }
    // Accepted connections are served to the end.
    while program.n_open.load(Ordering::Acquire) > 0 {
        std::thread::park_timeout(Duration::from_millis(10));
    }
    Ok(())
}

/// What happens at an age happens with or without connections.
fn watch_age(program: &Arc<Program>, listener: &Listener) -> io::Result<()> {
    if let Some(age) = program.behaviour.die_after {
        std::thread::Builder::new().spawn(move || {
            std::thread::park_timeout(age);
            out::say("it dies of age");
            std::process::exit(7);
        })?;
    }
    if let Some(age) = program.behaviour.shutdown_after {
        let listener = listener.as_fd().try_clone_to_owned()?;
        std::thread::Builder::new().spawn(move || {
            std::thread::park_timeout(age);
            if let Err(error) = rustix::net::shutdown(&listener, rustix::net::Shutdown::Both) {
                out::say(format!("shutdown: {error}"));
            }
        })?;
    }
    Ok(())
}

/// A request, as far as this program cares.
struct Asked {
    method: String,
    path: String,
    body: Vec<u8>,
    wants_close: bool,
    wants_talk: bool,
}

impl Program {
    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire) && !self.behaviour.ignore_term
    }

    fn take(self: &Arc<Self>, stream: Stream) {
        self.n_open.fetch_add(1, Ordering::AcqRel);
        let (program, stream) = (Arc::clone(self), Arc::new(stream));
        let serve = move || {
            // A client that goes away is no concern of the others.
            drop(program.converse(&stream));
            program.n_open.fetch_sub(1, Ordering::AcqRel);
        };
        // Without a thread the others wait.
        if std::thread::Builder::new().spawn(serve.clone()).is_err() {
            serve();
        }
    }

    fn converse(&self, stream: &Stream) -> io::Result<()> {
        let mut reader = BufReader::new(stream);
        let mut told_to_stop = None;
        loop {
            if !self.wait_for_request(&mut reader, &mut told_to_stop)? {
                return Ok(());
            }
            stream.set_read_timeout(Some(Duration::from_secs(30)))?;
            let Some(asked) = read_request(&mut reader)? else { return Ok(()) };
            if self.behaviour.mute {
                std::thread::park_timeout(Duration::from_secs(60));
                return Ok(());
            }
            if asked.wants_talk {
                return self.talk(&mut reader);
            }
            if asked.path == "/download" {
                return self.download(stream);
            }
            let (status, body) = self.answer(&asked, stream);
            let closing = asked.wants_close || self.is_stopping();
            let connection = if closing { "close" } else { "keep-alive" };
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n",
                body.len()
            );
            let mut stream = stream;
            stream.write_all(format!("{head}{body}").as_bytes())?;
            if closing {
                return Ok(());
            }
        }
    }

    /// Waits for the next request; while stopping only for a moment: a client that has one on its
    /// way gets its answer, with a notice that it was the last.
    fn wait_for_request(
        &self,
        reader: &mut BufReader<&Stream>,
        told_to_stop: &mut Option<Instant>,
    ) -> io::Result<bool> {
        reader.get_ref().set_read_timeout(Some(Duration::from_millis(50)))?;
        loop {
            if self.is_stopping() && told_to_stop.get_or_insert_with(Instant::now).elapsed() > IDLE
            {
                return Ok(false);
            }
            match reader.fill_buf() {
                Ok(bytes) => return Ok(!bytes.is_empty()),
                Err(error) if is_pause(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn answer(&self, asked: &Asked, stream: &Stream) -> (&'static str, String) {
        const BAD: (&str, &str) = ("503 Service Unavailable", "unwell\n");
        let bad = || (BAD.0, BAD.1.to_owned());
        let turned = self.behaviour.bad_after.is_some_and(|age| self.started.elapsed() >= age);
        let path = asked.path.split('?').next().unwrap_or_default();
        if path != "/metrics" {
            self.health.asked();
        }
        match (asked.method.as_str(), path) {
            ("GET", "/metrics") => ("200 OK", self.health.metrics()),
            ("GET", "/wanted") if self.behaviour.unwanted => bad(),
            ("GET", "/healthz") if self.behaviour.shares_fate && is_down() => bad(),
            ("GET", "/healthz") if self.behaviour.unhealthy || turned => bad(),
            ("GET", "/healthz") => {
                self.health.worsen();
                let n = self.n_healthy.fetch_add(1, Ordering::Relaxed) + 1;
                if self.behaviour.bad_after_times.is_some_and(|limit| n > limit) {
                    return bad();
                }
                if self.behaviour.healthy_times.is_some_and(|limit| n > limit) {
                    out::say("it was healthy for long enough");
                    std::process::exit(9);
                }
                ("200 OK", "well\n".to_owned())
            }
            ("GET", "/slow") => {
                let ms = asked.path.split_once("ms=").and_then(|(_, ms)| ms.parse().ok());
                std::thread::park_timeout(Duration::from_millis(ms.unwrap_or(100)));
                ("200 OK", self.words())
            }
            ("GET", "/peer") => {
                ("200 OK", format!("{} from {}\n", self.words().trim_end(), stream.peer()))
            }
            ("GET", _) => ("200 OK", self.words()),
            ("POST", _) => {
                ("200 OK", format!("{} {}\n", self.words().trim_end(), asked.body.len()))
            }
            _ => ("405 Method Not Allowed", String::new()),
        }
    }

    /// A long answer, piece by piece; also while it is asked to stop.
    fn download(&self, mut stream: &Stream) -> io::Result<()> {
        let words = self.words();
        let length = words.len() + N_PIECES * PIECE_BYTES;
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{words}"
        );
        stream.write_all(head.as_bytes())?;
        let piece = [b'.'; PIECE_BYTES];
        for _ in 0..N_PIECES {
            std::thread::park_timeout(Duration::from_millis(20));
            stream.write_all(&piece)?;
        }
        Ok(())
    }

    /// Echoes lines until the client ends the connection.
    fn talk(&self, reader: &mut BufReader<&Stream>) -> io::Result<()> {
        let mut stream = *reader.get_ref();
        let head =
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
        stream.write_all(head.as_bytes())?;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            stream.write_all(format!("release {} {line}", self.release).as_bytes())?;
        }
    }

    fn words(&self) -> String {
        let pid = std::process::id();
        format!("release {} instance {} pid {pid}\n", self.release, self.instance)
    }
}

/// Whether what it needs is down, for all of its kind.
fn is_down() -> bool {
    let shared = std::env::var("HALLEY_SHARED").unwrap_or_default();
    std::path::Path::new(&shared).join("down").exists()
}

fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn read_request(reader: &mut BufReader<&Stream>) -> io::Result<Option<Asked>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_ascii_lowercase());
    }
    let length = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let wants_close = headers.get("connection").is_some_and(|value| value == "close");
    let wants_talk = headers.get("upgrade").is_some_and(|value| value == "echo");
    Ok(Some(Asked { method, path, body, wants_close, wants_talk }))
}
