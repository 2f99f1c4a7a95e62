//! The supervisor as the keeper sees it: a process that may die, and a socket that may be full.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use rustix::io::{FdFlags, fcntl_setfd};

use crate::core::backoff::{Backoff, Pauses};
use crate::core::time::Tick;
use crate::keeper::protocol::Tell;
use crate::keeper::{LINK, Setup};
use crate::os::{clock, proc, scm};

/// A supervisor that answers nothing for this long is killed and started again.
const ANSWER_MS_MAX: u64 = 30_000;

/// Messages that wait for a supervisor; more means that it does not read.
const N_WAITING_MAX: usize = 4096;

/// The pauses before the next start: none before the first.
const PAUSES: Pauses = Pauses::doubling(100, 10_000).after_none();

/// One that had come up whole is missed: its pauses grow to this only.
const READY_PAUSE_MS_MAX: u64 = 400;

/// A life this long makes the next death the first one.
const STEADY_MS: u64 = 60_000;

/// The supervisor's process and the way to it.
#[derive(Debug)]
pub struct Supervised {
    running: Option<Running>,
    /// When it is started again.
    start_at: Option<Tick>,
    backoff: Backoff,
}

#[derive(Debug)]
struct Running {
    pid: i32,
    start_ticks: u64,
    socket: OwnedFd,
    waiting: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    started: Tick,
    greeted: bool,
    /// The revision of the protocol that it greeted with.
    revision: u16,
    is_ready: bool,
    /// Since when it owes an acknowledgement.
    owing: Option<Tick>,
}

impl Supervised {
    /// A supervisor that is to be started at once.
    pub fn new() -> Self {
        Self { running: None, start_at: Some(clock::tick()), backoff: PAUSES.begin() }
    }

    /// Its socket, while it runs.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.running.as_ref().map(|running| running.socket.as_fd())
    }

    /// Whether messages wait for room in its socket.
    pub fn is_backed_up(&self) -> bool {
        self.running.as_ref().is_some_and(|running| !running.waiting.is_empty())
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<i32> {
        self.running.as_ref().map(|running| running.pid)
    }

    /// The next moment something is due.
    pub fn deadline(&self) -> Option<Tick> {
        match &self.running {
            None => self.start_at,
            Some(running) if !running.greeted => Some(running.started.after_ms(ANSWER_MS_MAX)),
            Some(running) => running.owing.map(|since| since.after_ms(ANSWER_MS_MAX)),
        }
    }

    /// Does what is due: starts it, or kills one that does not answer.
    pub fn tend(&mut self, setup: &Setup, now: Tick) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        if self.running.is_some() {
            tracing::error!("the supervisor does not answer; it is killed and started again");
            self.kill();
            return;
        }
        self.start_at = None;
        match start(setup) {
            Ok(running) => self.running = Some(running),
            Err(error) => {
                tracing::error!(%error, "starting the supervisor");
                self.pause(now);
            }
        }
    }

    /// Ends it; its end is seen like any other.
    pub fn kill(&self) {
        if let Some(running) = &self.running {
            drop(proc::signal(running.pid, running.start_ticks, libc::SIGKILL));
        }
    }

    /// Ends it for good: the keeper exits, and leaves no process behind.
    pub fn end(&mut self) {
        self.kill();
        if let Some(running) = self.running.take()
            && let Err(error) = waitpid(Pid::from_raw(running.pid), None)
        {
            tracing::warn!(%error, "waiting for the supervisor's end");
        }
    }

    /// It has ended: the next one starts after a pause that grows with quick deaths.
    pub fn ended(&mut self, now: Tick) {
        if let Some(running) = self.running.take() {
            if now.since_ms(running.started) >= STEADY_MS {
                self.backoff.reset();
            }
            if running.is_ready {
                self.backoff.shorten(READY_PAUSE_MS_MAX);
            }
            self.pause(now);
        }
    }

    fn pause(&mut self, now: Tick) {
        self.start_at = Some(now.after_ms(self.backoff.pause_ms()));
    }

    /// It has sent its hello, with its revision of the protocol.
    pub fn greeted(&mut self, revision: u16) {
        if let Some(running) = &mut self.running {
            running.greeted = true;
            running.revision = revision;
        }
    }

    /// Whether it knows what came with this revision of the protocol.
    pub fn knows(&self, revision: u16) -> bool {
        self.running.as_ref().is_some_and(|running| running.revision >= revision)
    }

    /// It has come up whole.
    pub fn ready(&mut self) {
        if let Some(running) = &mut self.running {
            running.is_ready = true;
        }
    }

    /// It owes an acknowledgement, or no longer.
    pub fn owes(&mut self, n_owed: usize, now: Tick) {
        if let Some(running) = &mut self.running {
            running.owing = if n_owed == 0 { None } else { running.owing.or(Some(now)) };
        }
    }

    /// Something was acknowledged or asked for: it lives.
    pub fn answered(&mut self, now: Tick) {
        if let Some(running) = &mut self.running {
            running.owing = running.owing.map(|_| now);
        }
    }

    /// Tells it something, now or as soon as its socket has room; never waits.
    pub fn tell(&mut self, tell: &Tell, fds: &[BorrowedFd<'_>]) {
        let Some(running) = &mut self.running else { return };
        let Ok(bytes) = serde_json::to_vec(tell) else { return };
        let copies: io::Result<Vec<OwnedFd>> =
            fds.iter().map(|fd| fd.try_clone_to_owned()).collect();
        match copies {
            Ok(copies) => running.waiting.push_back((bytes, copies)),
            Err(error) => tracing::error!(%error, "copying descriptors for the supervisor"),
        }
        if running.waiting.len() > N_WAITING_MAX {
            tracing::error!("the supervisor does not read; it is killed and started again");
            self.kill();
            return;
        }
        self.flush();
    }

    /// Sends what waits, as far as there is room.
    pub fn flush(&mut self) {
        let Some(running) = &mut self.running else { return };
        while let Some((bytes, fds)) = running.waiting.front() {
            let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
            match scm::send(&running.socket, bytes, &fds) {
                Ok(()) => drop(running.waiting.pop_front()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // It is gone or going; its end is seen by its exit.
                Err(_) => return running.waiting.clear(),
            }
        }
    }
}

fn start(setup: &Setup) -> io::Result<Running> {
    let (ours, theirs) = scm::pair()?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    let mut command = match &setup.supervisor {
        Some(program) => Command::new(program),
        None => Command::new("/proc/self/exe"),
    };
    command.args(&setup.supervisor_args).stdin(Stdio::null());
    // Ctrl-C in a terminal is for the keeper, which stops things in order.
    command.process_group(0);
    command.env(LINK, theirs.as_raw_fd().to_string());
    // Only the keeper notifies systemd.
    command.env_remove("NOTIFY_SOCKET");
    fcntl_setfd(&theirs, FdFlags::empty())?;
    let child = command.spawn()?;
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    Ok(Running {
        pid,
        start_ticks: proc::start_ticks(pid)?,
        socket: ours,
        waiting: VecDeque::new(),
        started: clock::tick(),
        greeted: false,
        revision: 0,
        is_ready: false,
        owing: None,
    })
}
