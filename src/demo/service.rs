//! A small HTTP program that takes its socket from `LISTEN_FDS` and closes gracefully: the demo's
//! service, and the tests' when it is told to misbehave.
//!
//! `GET /` answers `release N`, `GET /healthz` 200 or 503, `GET /slow?ms=N` waits, `POST /echo`
//! answers the length of what came.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use crate::cli::out;
use crate::os::proc;

/// The hidden verb.
pub const VERB: &str = "demo-service";

/// An idle connection is closed this long after the program was asked to stop.
const IDLE: Duration = Duration::from_secs(2);

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
}

impl Behaviour {
    fn from(args: &[OsString]) -> Result<Self, String> {
        let mut behaviour = Self::default();
        for arg in args {
            let arg = arg.to_string_lossy();
            let (name, value) = arg.split_once('=').unwrap_or((&arg, "0"));
            let number: u64 = value.parse().map_err(|_| format!("{arg}: not a number"))?;
            let ms = Some(Duration::from_millis(number));
            match name {
                "unhealthy" => behaviour.unhealthy = true,
                "bad-after-ms" => behaviour.bad_after = ms,
                "exit" => behaviour.exit = u8::try_from(number).ok(),
                "die-after-ms" => behaviour.die_after = ms,
                "hang" => behaviour.hang = true,
                "mute" => behaviour.mute = true,
                "healthy-times" => behaviour.healthy_times = Some(number),
                "ignore-term" => behaviour.ignore_term = true,
                "shutdown-after-ms" => behaviour.shutdown_after = ms,
                "backlog" => behaviour.backlog = i32::try_from(number).ok(),
                "lines" => behaviour.lines = number,
                _ => return Err(format!("{arg}: no such behaviour")),
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
    match listener().and_then(|listener| serve(&program, &listener)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            out::say(format!("cannot serve: {error}"));
            ExitCode::from(1)
        }
    }
}

/// The socket that was handed over (`sd_listen_fds(3)`).
fn listener() -> io::Result<TcpListener> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    if number("LISTEN_PID") != Some(std::process::id()) || number("LISTEN_FDS").is_none() {
        let text = "no socket was handed over: LISTEN_PID is not this process";
        return Err(io::Error::new(io::ErrorKind::NotFound, text));
    }
    Ok(TcpListener::from(proc::inherited_number(3)?))
}

fn serve(program: &Arc<Program>, listener: &TcpListener) -> io::Result<()> {
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
                Ok((stream, _)) => program.take(stream),
                // Its own shutdown() of the socket: it goes on, deaf.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    std::thread::park_timeout(Duration::from_millis(50));
                }
                Err(error) => return Err(error),
            }
        }
    }
    // Who was accepted is served to the end.
    while program.n_open.load(Ordering::Acquire) > 0 {
        std::thread::park_timeout(Duration::from_millis(10));
    }
    Ok(())
}

/// What happens at an age happens whether or not anybody calls.
fn watch_age(program: &Arc<Program>, listener: &TcpListener) -> io::Result<()> {
    if let Some(age) = program.behaviour.die_after {
        std::thread::spawn(move || {
            std::thread::park_timeout(age);
            out::say("it dies of age");
            std::process::exit(7);
        });
    }
    if let Some(age) = program.behaviour.shutdown_after {
        let listener = listener.try_clone()?;
        std::thread::spawn(move || {
            std::thread::park_timeout(age);
            if let Err(error) = rustix::net::shutdown(&listener, rustix::net::Shutdown::Both) {
                out::say(format!("shutdown: {error}"));
            }
        });
    }
    Ok(())
}

/// A request, as far as this program cares.
struct Asked {
    method: String,
    path: String,
    body: Vec<u8>,
    wants_close: bool,
}

impl Program {
    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire) && !self.behaviour.ignore_term
    }

    fn take(self: &Arc<Self>, stream: TcpStream) {
        self.n_open.fetch_add(1, Ordering::AcqRel);
        let program = Arc::clone(self);
        std::thread::spawn(move || {
            // A client that goes away is no concern of the others.
            drop(program.converse(&stream));
            program.n_open.fetch_sub(1, Ordering::AcqRel);
        });
    }

    fn converse(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
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
            let (status, body) = self.answer(&asked);
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
    /// way gets its answer, with a word that it was the last.
    fn wait_for_request(
        &self,
        reader: &mut BufReader<&TcpStream>,
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

    fn answer(&self, asked: &Asked) -> (&'static str, String) {
        const BAD: (&str, &str) = ("503 Service Unavailable", "unwell\n");
        let bad = || (BAD.0, BAD.1.to_owned());
        let turned = self.behaviour.bad_after.is_some_and(|age| self.started.elapsed() >= age);
        match (asked.method.as_str(), asked.path.split('?').next().unwrap_or_default()) {
            ("GET", "/healthz") if self.behaviour.unhealthy || turned => bad(),
            ("GET", "/healthz") => {
                let n = self.n_healthy.fetch_add(1, Ordering::Relaxed) + 1;
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
            ("GET", _) => ("200 OK", self.words()),
            ("POST", _) => {
                ("200 OK", format!("{} {}\n", self.words().trim_end(), asked.body.len()))
            }
            _ => ("405 Method Not Allowed", String::new()),
        }
    }

    fn words(&self) -> String {
        let pid = std::process::id();
        format!("release {} instance {} pid {pid}\n", self.release, self.instance)
    }
}

fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn read_request(reader: &mut BufReader<&TcpStream>) -> io::Result<Option<Asked>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = HashMap::new();
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
    Ok(Some(Asked { method, path, body, wants_close }))
}
