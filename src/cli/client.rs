//! The client: sends one request, shows what comes back, and lives through a supervisor that is
//! restarted meanwhile.

use std::io::{self, BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::api;
use crate::api::env::Surroundings;
use crate::api::{Event, Request, RestorePlan, Trouble, VERSION, Verb};
use crate::cli::given::quoted;
use crate::cli::render::{self, Renderer};
use crate::cli::sources::Sources;
use crate::cli::stake::Stake;
use crate::cli::verb::Common;
use crate::cli::{actor, exit, out};
use crate::config;
use crate::core::backoff::Pauses;
use crate::core::exit::Exit;
use crate::json;
use crate::os::{fs, running, scm};

/// How long a client waits for a supervisor that went away in the middle of an operation.
const RETURN_LIMIT: Duration = Duration::from_secs(60);

/// How long a client waits for a supervisor that is not there.
const ABSENCE_LIMIT: Duration = Duration::from_millis(1500);

/// Between tries to follow an operation again.
const RETURNS: Pauses = Pauses::doubling(20, 1_000);

/// Whether a client stays to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stay {
    /// Until the result.
    ToTheEnd,
    /// Until the operation has begun.
    Begun,
}

/// Sends a request and shows the answer.
pub fn ask(common: &Common, verb: Verb, source: Option<OwnedFd>, stay: Stay) -> ExitCode {
    ask_with(common, verb, &source.map_or_else(Vec::new, |source| vec![source]), stay)
}

/// The same for a plan of a restore, which is shown and returned.
pub fn ask_for_plan(common: &Common, verb: Verb) -> (ExitCode, Option<RestorePlan>) {
    let mut noted = Noted::default();
    let code = ask_noting(common, verb, &[], Stay::ToTheEnd, &mut noted);
    (code, noted.plan)
}

/// What a command is run with; its exit code when it cannot be.
pub fn ask_for_surroundings(common: &Common, verb: Verb) -> Result<Surroundings, ExitCode> {
    let mut noted = Noted { takes_surroundings: true, ..Noted::default() };
    let code = ask_noting(common, verb, &[], Stay::ToTheEnd, &mut noted);
    noted.surroundings.ok_or(code)
}

/// Answers that are used and not only shown.
#[derive(Debug, Default)]
struct Noted {
    plan: Option<RestorePlan>,
    surroundings: Option<Surroundings>,
    /// They are not shown.
    takes_surroundings: bool,
}

/// The same with any number of descriptors, up to [`scm::N_FDS_MAX`].
pub fn ask_with(common: &Common, verb: Verb, sources: &[OwnedFd], stay: Stay) -> ExitCode {
    ask_noting(common, verb, sources, stay, &mut Noted::default())
}

fn ask_noting(
    common: &Common,
    verb: Verb,
    sources: &[OwnedFd],
    stay: Stay,
    noted: &mut Noted,
) -> ExitCode {
    let path = config::locate(common.config.clone());
    let socket = match control_socket(&path) {
        Ok(socket) => socket,
        Err(trouble) => return render::refused(common.json, &trouble),
    };
    let mut conversation = Conversation {
        socket,
        json: common.json,
        renderer: Renderer::new(common.json, &verb),
        interrupted: on_interrupt(),
        watched: None,
        noted: std::mem::take(noted),
        stay,
        aborts: matches!(verb, Verb::Abort(_)),
        stake: Stake::of(&verb),
        sources: Sources::of(&verb),
    };
    let code = conversation.hold(verb, sources);
    *noted = conversation.noted;
    code
}

/// Where the supervisor is asked: where the configuration says, or where the one that was started with it
/// is. Nothing else of the configuration is needed.
fn control_socket(path: &Path) -> Result<PathBuf, Trouble> {
    let is_there = |socket: &PathBuf| socket.exists() || fs::refuge_of_socket(socket).exists();
    let found = config::socket(path).filter(is_there);
    if let Some(socket) = found.or_else(|| running::control_socket(crate::supervisor::VERB, path)) {
        return Ok(socket);
    }
    config::load(path).map(|config| config.socket).map_err(|problems| {
        let why: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Trouble {
            what: "the configuration cannot be used".to_owned(),
            why: why.join("\n"),
            still: "nothing was changed".to_owned(),
            next: vec!["halley-sup check".to_owned()],
            exit: Exit::Usage.code(),
        }
    })
}

/// Ctrl-C leaves; the daemon runs the operation all the same.
fn on_interrupt() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        drop(signal_hook::flag::register(signal, Arc::clone(&flag)));
    }
    flag
}

struct Conversation {
    socket: PathBuf,
    json: bool,
    renderer: Renderer,
    interrupted: Arc<AtomicBool>,
    watched: Option<Watched>,
    noted: Noted,
    stay: Stay,
    /// What it follows is to be aborted.
    aborts: bool,
    /// What it may have changed once it was asked for.
    stake: Option<Stake>,
    sources: Sources,
}

/// What is watched.
#[derive(Debug, Clone)]
enum Watched {
    /// One operation.
    Operation { service: String, op: u64 },
    /// A set, with all its operations.
    Set(u64),
}

impl Watched {
    fn verb(&self) -> Verb {
        match self.clone() {
            Self::Operation { service, op } => {
                Verb::Watch(api::watch::Args { op, service: Some(service) })
            }
            Self::Set(set) => Verb::WatchSet(api::watch::SetArgs { set }),
        }
    }

    /// The line that is printed when the client leaves and the operation continues.
    fn farewell(&self) -> String {
        let command = self.command();
        match self {
            Self::Operation { op, .. } => format!("operation {op} continues; {command}"),
            Self::Set(set) => format!("set {set} continues; {command}"),
        }
    }

    /// What watches it again.
    fn command(&self) -> String {
        match self {
            Self::Operation { service, op } => format!("halley-sup watch {service} {op}"),
            Self::Set(set) => format!("halley-sup watch --set {set}"),
        }
    }
}

/// Why listening stopped.
enum Left {
    /// The last event came.
    Over(ExitCode),
    /// The supervisor went away.
    Cut,
    /// Ctrl-C was pressed, or `--detach` was given and the operation has begun.
    Detached,
}

impl Conversation {
    fn hold(&mut self, verb: Verb, sources: &[OwnedFd]) -> ExitCode {
        let stream = match self.connect() {
            Ok(stream) => stream,
            Err(error) => return self.unreachable(&error),
        };
        if let Err(error) = send(&stream, verb, sources) {
            return self.unreachable(&error);
        }
        let mut left = self.listen(stream);
        let since = Instant::now();
        let mut backoff = RETURNS.begin();
        loop {
            match left {
                Left::Over(code) => return code,
                Left::Detached => return self.detached(),
                Left::Cut if since.elapsed() > RETURN_LIMIT => {
                    return self.broken();
                }
                Left::Cut => {
                    let Some(watched) = self.watched.clone() else { return self.broken() };
                    wait(backoff.pause(), &self.interrupted);
                    left = self.watch_again(&watched);
                }
            }
        }
    }

    /// A supervisor that is just being replaced is waited for, a moment.
    fn connect(&self) -> io::Result<UnixStream> {
        let begun = Instant::now();
        loop {
            match reach(&self.socket) {
                Err(error) if is_absent(&error) && begun.elapsed() < ABSENCE_LIMIT => {
                    wait(Duration::from_millis(20), &self.interrupted);
                }
                connected => return connected,
            }
        }
    }

    /// The supervisor that comes after knows the operation from its journal.
    fn watch_again(&mut self, watched: &Watched) -> Left {
        if self.interrupted.load(Ordering::Relaxed) {
            return Left::Detached;
        }
        let verb = watched.verb();
        let asked = self.connect().and_then(|stream| send(&stream, verb, &[]).map(|()| stream));
        match asked {
            Ok(stream) => {
                self.renderer.reconnected();
                self.listen(stream)
            }
            Err(_) => Left::Cut,
        }
    }

    fn listen(&mut self, stream: UnixStream) -> Left {
        drop(stream.set_read_timeout(Some(Duration::from_millis(200))));
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        loop {
            if self.interrupted.load(Ordering::Relaxed) {
                return Left::Detached;
            }
            match reader.read_line(&mut line) {
                Ok(0) => return Left::Cut,
                Ok(_) if line.ends_with('\n') => {}
                Ok(_) => return Left::Cut,
                Err(error) if is_pause(&error) => continue,
                Err(_) => return Left::Cut,
            }
            let event = json::from_slice::<Event>(line.trim_end().as_bytes());
            line.clear();
            let Ok(mut event) = event else { continue };
            self.sources.fill(&mut event);
            match &mut event {
                Event::Result(outcome) if self.aborts => api::abort::came_too_late(outcome),
                Event::Set { set, .. } => self.watched = Some(Watched::Set(*set)),
                // A member's operation is watched with its set.
                Event::Operation { service, op, .. }
                    if !matches!(self.watched, Some(Watched::Set(_))) =>
                {
                    let (service, op) = (service.clone(), *op);
                    self.watched = Some(Watched::Operation { service, op });
                }
                Event::Restore(plan) => self.noted.plan = Some((**plan).clone()),
                Event::Env(surroundings) if self.noted.takes_surroundings => {
                    self.noted.surroundings = Some((**surroundings).clone());
                    return Left::Over(exit::code(Exit::Done));
                }
                _ => {}
            }
            if let Some(code) = self.renderer.show(&event) {
                return Left::Over(exit::of_answer(code));
            }
            if self.stay == Stay::Begun && self.watched.is_some() {
                return Left::Detached;
            }
        }
    }

    fn detached(&self) -> ExitCode {
        let farewell = self.watched.as_ref().map(Watched::farewell);
        match farewell.or(self.stake.as_ref().map(Stake::farewell)) {
            Some(farewell) => {
                out::say(format!("detached: {farewell}"));
                exit::code(Exit::Detached)
            }
            // Nothing was running that could go on.
            None => exit::code(Exit::Interrupted),
        }
    }

    /// The connection broke after the supervisor had the request.
    fn broken(&self) -> ExitCode {
        let error = io::Error::from(io::ErrorKind::ConnectionReset);
        let Some(stake) = &self.stake else { return self.unreachable(&error) };
        let watch = self.watched.as_ref().map(Watched::command);
        render::refused(self.json, &stake.unknown(&self.socket, &error, watch))
    }

    fn unreachable(&self, error: &io::Error) -> ExitCode {
        let denied = error.kind() == io::ErrorKind::PermissionDenied;
        let trouble = Trouble {
            what: if denied {
                "not allowed to use the supervisor".to_owned()
            } else {
                "the supervisor cannot be reached".to_owned()
            },
            why: format!("{}: {error}", self.socket.display()),
            still: "running services keep serving without it; nothing was changed".to_owned(),
            next: if denied {
                vec![format!("sudo {}", typed())]
            } else {
                vec!["systemctl status halley-sup".to_owned(), "halley-sup run".to_owned()]
            },
            exit: if denied { Exit::Forbidden } else { Exit::Unreachable }.code(),
        };
        render::refused(self.json, &trouble)
    }
}

/// A connection to the supervisor, at its socket or where it has gone from that.
pub(super) fn reach(socket: &Path) -> io::Result<UnixStream> {
    let refuge = || UnixStream::connect(fs::refuge_of_socket(socket));
    UnixStream::connect(socket).or_else(|error| refuge().map_err(|_| error))
}

/// The command line, to be typed again.
fn typed() -> String {
    let words = std::env::args_os().skip(1);
    let words: Vec<String> = words.map(|word| quoted(&word.to_string_lossy())).collect();
    format!("halley-sup {}", words.join(" "))
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)
}

fn is_pause(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

/// Waits until the pause is over or Ctrl-C is pressed.
fn wait(pause: Duration, interrupted: &AtomicBool) {
    let until = Instant::now() + pause;
    while Instant::now() < until && !interrupted.load(Ordering::Relaxed) {
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

fn send(stream: &UnixStream, verb: Verb, sources: &[OwnedFd]) -> io::Result<()> {
    let request = Request { version: VERSION, actor: actor::actor(), verb };
    let mut line = json::to_vec(&request)?;
    line.push(b'\n');
    let fds: Vec<_> = sources.iter().map(AsFd::as_fd).collect();
    scm::send(stream, &line, &fds)
}
