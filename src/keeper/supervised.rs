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
use crate::json;
use crate::keeper::estate::Terms;
use crate::keeper::protocol::{PINGS, Tell};
use crate::keeper::{LINK, Setup};
use crate::os::{clock, proc, scm};

/// A supervisor that answers nothing for this long is killed and started again, whatever it does.
const ANSWER_MS_MAX: u64 = 30_000;

/// One that was not heard of for this long is asked whether it lives.
const QUIET_MS: u64 = 2_000;

/// It is looked at when it has not answered for this long.
const LOOK_MS: u64 = 2_000;

/// And again after this. It is killed after two looks in a row that found it hung: whoever wakes up
/// after a pause of the whole machine has the time in between for its answer.
const LOOK_AGAIN_MS: u64 = 500;

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
    /// When it was last heard of.
    heard: Tick,
    /// The question that it has not answered.
    ping: Option<Ping>,
}

/// A question whether it lives.
#[derive(Debug)]
struct Ping {
    asked: Tick,
    look_at: Tick,
    /// Its CPU time at the last look.
    cpu_ticks: u64,
    looked_hung: bool,
}

/// Whether a process that does not answer will not do so by itself. One that is ready to run has not
/// had its turn, one that waits for a disk (`D`) will have it, and one whose CPU time grows works.
fn is_hung(state: char, has_worked: bool) -> bool {
    match state {
        'T' | 't' => true,
        'R' | 'D' => false,
        _ => !has_worked,
    }
}

impl Supervised {
    /// A supervisor that is to be started at once.
    pub fn new() -> Self {
        Self { running: None, start_at: Some(clock::tick()), backoff: PAUSES.begin() }
    }

    /// One that the keeper before has started, over its socket.
    pub fn taken_over(terms: &Terms, socket: OwnedFd) -> Self {
        let Terms { pid, start_ticks, revision, .. } = *terms;
        let now = clock::tick();
        let running =
            Running { greeted: true, revision, ..Running::new(pid, start_ticks, socket, now) };
        Self { running: Some(running), start_at: None, backoff: PAUSES.begin() }
    }

    /// Who it is, and its socket, for the next keeper.
    pub fn handed_on(&self) -> Option<(Terms, OwnedFd)> {
        let Running { pid, start_ticks, revision, .. } = *self.running.as_ref()?;
        let socket = self.socket()?.try_clone_to_owned().ok()?;
        Some((Terms { pid, start_ticks, revision, ..Terms::default() }, socket))
    }

    /// Its socket, while it runs.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.running.as_ref().map(|running| running.socket.as_fd())
    }

    /// Whether messages wait for room in its socket.
    pub fn is_backed_up(&self) -> bool {
        self.running.as_ref().is_some_and(|running| !running.waiting.is_empty())
    }

    /// Whether one runs that has what the keeper keeps.
    pub fn is_greeted(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.greeted)
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
            Some(running) if running.revision < PINGS => None,
            Some(running) => Some(match &running.ping {
                None => running.heard.after_ms(QUIET_MS),
                Some(ping) => ping.look_at,
            }),
        }
    }

    /// Does what is due: starts it, or kills one that does not answer.
    pub fn tend(&mut self, setup: &Setup, now: Tick) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        if let Some(running) = &mut self.running {
            if !running.greeted {
                tracing::error!("the supervisor does not come up; it is killed and started again");
                self.kill();
            } else if running.ping.is_none() {
                running.ping = Some(Ping {
                    asked: now,
                    look_at: now.after_ms(LOOK_MS),
                    cpu_ticks: proc::pulse(running.pid).map_or(0, |pulse| pulse.cpu_ticks),
                    looked_hung: false,
                });
                self.tell(&Tell::Ping, &[]);
            } else if running.is_to_be_killed(now) {
                self.kill();
            }
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

    /// It was heard of: it lives.
    pub fn heard(&mut self, now: Tick) {
        if let Some(running) = &mut self.running {
            running.heard = now;
            running.ping = None;
        }
    }

    /// Tells it something, now or as soon as its socket has room; never waits.
    pub fn tell(&mut self, tell: &Tell, fds: &[BorrowedFd<'_>]) {
        let Some(running) = &mut self.running else { return };
        let Ok(bytes) = json::to_vec(tell) else { return };
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
                // It is too long; those behind it are not.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    tracing::error!(%error, "telling the supervisor");
                    drop(running.waiting.pop_front());
                }
                // It is gone or going; its end is seen by its exit.
                Err(_) => return running.waiting.clear(),
            }
        }
    }
}

impl Running {
    fn new(pid: i32, start_ticks: u64, socket: OwnedFd, started: Tick) -> Self {
        Self {
            pid,
            start_ticks,
            socket,
            waiting: VecDeque::new(),
            started,
            greeted: false,
            revision: 0,
            is_ready: false,
            heard: started,
            ping: None,
        }
    }

    /// Looks at one that does not answer.
    fn is_to_be_killed(&mut self, now: Tick) -> bool {
        let Some(ping) = &mut self.ping else { return false };
        let silent_ms = now.since_ms(ping.asked);
        ping.look_at = now.after_ms(LOOK_AGAIN_MS);
        // It is gone; its end is seen by its exit.
        let Ok(pulse) = proc::pulse(self.pid) else { return false };
        let looks_hung = is_hung(pulse.state, pulse.cpu_ticks != ping.cpu_ticks);
        let is_hung = looks_hung && ping.looked_hung;
        (ping.looked_hung, ping.cpu_ticks) = (looks_hung, pulse.cpu_ticks);
        if !is_hung && silent_ms < ANSWER_MS_MAX {
            return false;
        }
        let state = pulse.state;
        tracing::error!(silent_ms, %state, "the supervisor does not answer; it is killed and started again");
        true
    }
}

fn start(setup: &Setup) -> io::Result<Running> {
    let (ours, theirs) = scm::pair()?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    let mut command = match &setup.supervisor {
        Some(program) => Command::new(program),
        None => Command::new("/proc/self/exe"),
    };
    command.arg0("halley-sup");
    command.args(&setup.supervisor_args).stdin(Stdio::null());
    // Ctrl-C in a terminal is for the keeper, which stops things in order.
    command.process_group(0);
    command.env(LINK, theirs.as_raw_fd().to_string());
    // Only the keeper notifies systemd.
    command.env_remove("NOTIFY_SOCKET");
    fcntl_setfd(&theirs, FdFlags::empty())?;
    let child = command.spawn()?;
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    let started = clock::tick();
    Ok(Running::new(pid, proc::start_ticks(pid)?, ours, started))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a process that does not answer is to be killed, at the first look and at the second.
    fn looks(script: &str, is_there: impl Fn(proc::Pulse) -> bool, silent_ms: u64) -> [bool; 2] {
        let (socket, _) = scm::pair().unwrap();
        let mut child = Command::new("/bin/sh").args(["-c", script]).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        while !is_there(proc::pulse(pid).unwrap()) {
            std::thread::yield_now();
        }
        let now = clock::tick();
        let asked = Tick(now.0 - silent_ms);
        let cpu_ticks = proc::pulse(pid).unwrap().cpu_ticks;
        let mut running = Running {
            pid,
            start_ticks: proc::start_ticks(pid).unwrap(),
            socket,
            waiting: VecDeque::new(),
            started: asked,
            greeted: true,
            revision: PINGS,
            is_ready: true,
            heard: asked,
            ping: Some(Ping { asked, look_at: now, cpu_ticks, looked_hung: false }),
        };
        let looks = [running.is_to_be_killed(now), running.is_to_be_killed(now)];
        child.kill().unwrap();
        child.wait().unwrap();
        looks
    }

    #[test]
    fn a_hung_process_is_killed_at_the_second_look_and_one_that_works_when_it_is_too_late() {
        let stopped = |pulse: proc::Pulse| pulse.state == 'T';
        assert_eq!(looks("kill -STOP $$", stopped, 0), [false, true]);
        let sleeps = |pulse: proc::Pulse| pulse.state == 'S';
        assert_eq!(looks("exec sleep 1000", sleeps, 0), [false, true]);
        let works = |pulse: proc::Pulse| pulse.cpu_ticks > 1;
        assert_eq!(looks("while :; do :; done", works, 0), [false, false]);
        assert_eq!(looks("while :; do :; done", works, ANSWER_MS_MAX), [true, true]);
    }

    #[test]
    fn stopped_is_not_the_same_as_busy() {
        for (state, has_worked, expected) in [
            ('T', false, true),
            ('T', true, true),
            ('t', false, true),
            ('S', false, true),
            ('S', true, false),
            ('R', false, false),
            ('D', false, false),
        ] {
            assert_eq!(is_hung(state, has_worked), expected, "{state} {has_worked}");
        }
    }
}
