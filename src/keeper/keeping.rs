//! The keeper's loop: one `poll(2)`, then signals, then the supervisor, then what is due.

mod handing_on;
mod on_trial;
mod signals;
mod stopping;
mod upgrading;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::core::ordered::Few;
use crate::core::time::Tick;
use crate::json;
use crate::keeper::calls::Calls;
use crate::keeper::children::{Children, Launched};
use crate::keeper::estate::Filter;
use crate::keeper::keeping::on_trial::OnTrial;
use crate::keeper::keeping::signals::Signals;
use crate::keeper::keeping::stopping::{LAST_TERM_MS, Stop};
use crate::keeper::outputs;
use crate::keeper::protocol::{
    Ask, COMMAND, ChildId, FENCES, HEIRS, LaunchSpec, PINGS, Reach, Request, Tell, VERSION,
};
use crate::keeper::supervised::Supervised;
use crate::keeper::{KeeperError, Setup};
use crate::os::{clock, notify, proc, scm};

/// Children in one message of a list.
const N_CHILDREN_A_PART: usize = 200;

/// The keeper's whole state.
#[derive(Debug)]
pub struct Keeper {
    setup: Setup,
    held: Vec<OwnedFd>,
    kept: Few<String, OwnedFd>,
    children: Children,
    calls: Calls,
    supervised: Supervised,
    signals: Signals,
    stop: Stop,
    told_ready: bool,
    /// Where it hands over, when it stands in for a keeper that was killed.
    offer: Option<OwnedFd>,
    /// It is a new program whose supervisor is not ready yet.
    trial: Option<OnTrial>,
}

impl Keeper {
    /// Sets up signals and becomes the subreaper.
    pub fn new(setup: Setup, held: Vec<OwnedFd>) -> Result<Self, KeeperError> {
        let at = |step| move |source| KeeperError { step, source };
        proc::become_subreaper().map_err(at("becoming the subreaper"))?;
        let signals = Signals::new().map_err(at("listening for signals"))?;
        proc::let_signals_come();
        Ok(Self {
            setup,
            held,
            kept: Few::default(),
            children: Children::new(),
            calls: Calls::default(),
            supervised: Supervised::new(),
            signals,
            stop: Stop::No,
            told_ready: false,
            offer: None,
            trial: None,
        })
    }

    /// The loop.
    pub fn run(mut self) -> Result<ExitCode, KeeperError> {
        while self.stop != Stop::Over {
            self.tend();
            if self.stop == Stop::Over {
                break;
            }
            if let Err(error) = self.wait() {
                tracing::error!(%error, "poll");
            }
            if !self.supervised.is_greeted() {
                outputs::drain(&self.kept);
            }
            self.signals.drain();
            if self.signals.leave_asked() || self.hand_on() {
                // Everything goes on without it.
                break;
            }
            self.take_signals();
            self.hear_supervisor();
            self.report_launches();
            self.answer_calls();
            self.report_ends();
            self.supervised.flush();
        }
        self.supervised.end();
        self.children.sweep();
        Ok(ExitCode::SUCCESS)
    }

    /// Waits for news, without a timeout unless something is due.
    fn wait(&self) -> io::Result<()> {
        let now = clock::tick();
        let stop = match self.stop {
            Stop::Asked { until, .. } | Stop::Term(until) => Some(until),
            Stop::No | Stop::Over => None,
        };
        let trial = self.trial.as_ref().map(OnTrial::until);
        let due = [self.supervised.deadline(), self.children.deadline(), stop, trial];
        let due = due.into_iter().flatten().min();
        let timeout = due.map(|due| timespec(due.since_ms(now)));
        let mut fds = vec![PollFd::from_borrowed_fd(self.signals.wake(), PollFlags::IN)];
        if let Some(socket) = self.supervised.socket() {
            let mut interest = PollFlags::IN;
            if self.supervised.is_backed_up() {
                interest |= PollFlags::OUT;
            }
            fds.push(PollFd::from_borrowed_fd(socket, interest));
        }
        fds.extend(
            self.children.pipes().into_iter().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)),
        );
        fds.extend(self.offer.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        fds.extend(self.children.adopted().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        fds.extend(self.calls.filters().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        if !self.supervised.is_greeted() {
            fds.extend(
                outputs::pipes(&self.kept).map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)),
            );
        }
        match poll(&mut fds, timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => Ok(()),
            polled => Ok(polled.map(drop)?),
        }
    }

    fn take_signals(&mut self) {
        if self.signals.reload_asked() {
            self.supervised.tell(&Tell::Reload, &[]);
        }
        if self.signals.stop_asked() {
            let now = clock::tick();
            self.stop = match self.stop {
                Stop::No => {
                    notify::notify("STOPPING=1");
                    self.supervised.tell(&Tell::Stop, &[]);
                    self.asked_to_stop()
                }
                // A second request to stop: do not wait for the deadline.
                Stop::Asked { .. } => self.end_what_is_left(now),
                other => other,
            };
        }
    }

    fn asked_to_stop(&self) -> Stop {
        let ms = self.setup.stop_deadline.as_millis();
        let at = clock::tick();
        Stop::Asked { at, until: at.after_ms(u64::try_from(ms).unwrap_or(u64::MAX)) }
    }

    fn end_what_is_left(&self, now: Tick) -> Stop {
        if self.children.alive().is_empty() {
            return Stop::Over;
        }
        self.signal_all(libc::SIGTERM);
        Stop::Term(now.after_ms(LAST_TERM_MS))
    }

    fn signal_all(&self, number: i32) {
        for child in self.children.alive() {
            if let Err(error) = self.children.signal(child, number, Reach::Tree) {
                tracing::error!(child = child.0, %error, "signalling");
            }
        }
    }

    /// Does what is due.
    fn tend(&mut self) {
        let now = clock::tick();
        match self.stop {
            Stop::Asked { until, .. } if now >= until => self.stop = self.end_what_is_left(now),
            Stop::Term(_) if self.children.alive().is_empty() => self.stop = Stop::Over,
            Stop::Term(until) if now >= until => {
                self.signal_all(libc::SIGKILL);
                self.stop = Stop::Term(now.after_ms(LAST_TERM_MS));
            }
            _ => {}
        }
        if self.trial.as_ref().is_some_and(|trial| now >= trial.until()) {
            self.go_back();
        }
        let overdue = self.children.end_overdue(now);
        self.tell_launched(overdue);
        self.supervised.tend(&self.setup, now);
    }

    fn report_launches(&mut self) {
        let settled = self.children.settle();
        self.tell_launched(settled);
    }

    fn tell_launched(&mut self, all: Vec<Launched>) {
        for launched in all {
            // The supervisor has its copies before it knows that the program runs.
            if let Some(heir) = self.children.heir(launched.child).filter(|_| self.has_heirs()) {
                self.supervised.tell(&Tell::Heir { heir: Box::new(heir) }, &[]);
            }
            if let Some((fd, watched)) = launched.filter {
                let filter = Filter { child: launched.child, fd, watched };
                self.tell_filter(&filter);
                self.calls.add(filter.child, filter.fd, filter.watched);
            }
            let tell = match launched.result {
                Ok(identity) => Tell::Spawned { seq: launched.seq, identity },
                Err(error) => Tell::Failed {
                    seq: launched.seq,
                    step: error.step,
                    errno: error.errno,
                    why: error.why,
                },
            };
            self.supervised.tell(&tell, &[]);
        }
    }

    /// Whether the supervisor has a copy of all that is here.
    fn has_heirs(&self) -> bool {
        self.supervised.knows(HEIRS)
    }

    fn tell_filter(&mut self, filter: &Filter) {
        if self.has_heirs() {
            let watched = Box::new(filter.watched.clone());
            let tell = Tell::Filter { child: filter.child, watched };
            self.supervised.tell(&tell, &[filter.fd.as_fd()]);
        }
    }

    fn answer_calls(&mut self) {
        for (child, refused) in self.calls.answer(&self.kept) {
            tracing::info!(child = child.0, pid = refused.pid, to = refused.to, "fenced off");
            if self.supervised.knows(FENCES) {
                self.supervised.tell(&Tell::FencedOff { child, refused }, &[]);
            }
        }
    }

    fn report_ends(&mut self) {
        let now = clock::tick();
        let (supervisor_ended, ended) = self.children.reap(self.supervised.pid());
        if !ended.is_empty() {
            // A program that ran and ended at once has closed its launcher's pipe before.
            self.report_launches();
        }
        for (child, end) in ended {
            if self.children.known().any(|(known, _)| known == child) {
                self.supervised.tell(&Tell::Ended { child, end }, &[]);
            }
        }
        if supervisor_ended {
            tracing::warn!("the supervisor has ended; a new one takes over");
            self.supervised.ended(now);
            if self.trial.as_mut().is_some_and(OnTrial::has_failed) {
                self.go_back();
            }
        }
    }

    fn hear_supervisor(&mut self) {
        let mut bytes = Vec::new();
        loop {
            let Some(socket) = self.supervised.socket() else { return };
            let fds = match scm::receive(socket, &mut bytes) {
                Ok(Some(fds)) => fds,
                Ok(None) => return,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    self.refuse(&bytes, &error);
                    continue;
                }
                Err(error) => return tracing::error!(%error, "receiving from the supervisor"),
            };
            self.supervised.heard(clock::tick());
            match json::from_slice::<Request>(&bytes) {
                Ok(request) => self.answer(request, fds),
                Err(error) => tracing::error!(%error, "the supervisor sent an unknown message"),
            }
        }
    }

    /// Answers a request whose descriptors could not be received, as there is no room for them: whoever
    /// asked would wait for ever.
    fn refuse(&mut self, bytes: &[u8], error: &io::Error) {
        tracing::error!(%error, "receiving from the supervisor");
        if let Ok(Request { seq, .. }) = json::from_slice(bytes) {
            let (step, why) = ("handing over a descriptor".to_owned(), error.to_string());
            self.supervised.tell(&Tell::Failed { seq, step, errno: libc::EMFILE, why }, &[]);
        }
    }

    fn answer(&mut self, request: Request, fds: Vec<OwnedFd>) {
        let seq = request.seq;
        let failed = |step: &str, why: &str| Tell::Failed {
            seq,
            step: step.to_owned(),
            errno: 0,
            why: why.to_owned(),
        };
        let tell = match request.ask {
            Ask::Hello { version, .. } if version != VERSION => {
                failed("hello", "the keeper speaks another version of the protocol")
            }
            Ask::Hello { revision, .. } => {
                self.supervised.greeted(revision);
                self.list();
                Tell::done(seq)
            }
            Ask::Ready => {
                self.supervised.ready();
                // Who asked before is no part of what is tried.
                self.trial.take_if(|trial| trial.has_begun());
                if !std::mem::replace(&mut self.told_ready, true) {
                    notify::notify("READY=1");
                }
                Tell::done(seq)
            }
            Ask::Say { text } => say(seq, &text),
            Ask::Keep { name } => match (self.kept.contains_key(&name), fds.into_iter().next()) {
                (true, _) => failed("keep", &format!("{name} is kept already")),
                (false, None) => failed("keep", "no descriptor came with the request"),
                (false, Some(fd)) => {
                    store(&name, &fd);
                    self.kept.insert(name, fd);
                    Tell::done(seq)
                }
            },
            Ask::Drop { name } => {
                if self.kept.remove(&name).is_some() && is_stored(&name) {
                    notify::unstore(&name);
                }
                Tell::done(seq)
            }
            Ask::Spawn { child, label, spec } => {
                let spec = LaunchSpec { limits: self.setup.limits, ..*spec };
                match self.children.launch(seq, child, label, spec, &self.kept) {
                    // Answered when the launcher has become the program, or has not.
                    Ok(()) => return,
                    Err(e) => Tell::Failed { seq, step: e.step, errno: e.errno, why: e.why },
                }
            }
            Ask::Signal { child, signal, reach, only_if_alive } => {
                self.signal(seq, child, signal, reach, &only_if_alive)
            }
            Ask::Acknowledge { child } => match self.children.forget(child) {
                Ok(()) => Tell::done(seq),
                Err(why) => failed("acknowledge", why),
            },
            Ask::Children => return self.list_children(seq),
            Ask::Upgrade { ready_ms } => failed("upgrade", &self.become_next(seq, ready_ms, fds)),
            Ask::Pong => return,
            Ask::StopTime { ms } => return self.stop = self.stop.taking(ms),
            Ask::Stopped => {
                if self.stop != Stop::No {
                    self.stop = self.end_what_is_left(clock::tick());
                }
                Tell::done(seq)
            }
        };
        self.supervised.tell(&tell, &[]);
    }

    /// Compare and act: what has ended by now is taken in first, so that no child that has ended
    /// counts as alive.
    fn signal(
        &mut self,
        seq: u64,
        child: ChildId,
        number: i32,
        reach: Reach,
        only_if_alive: &[ChildId],
    ) -> Tell {
        self.report_ends();
        if let Some(dead) = only_if_alive.iter().find(|id| !self.children.is_alive(**id)) {
            return Tell::Refused { seq, dead: *dead };
        }
        match self.children.signal(child, number, reach) {
            Ok(()) => Tell::done(seq),
            Err(error) => Tell::Failed {
                seq,
                step: format!("signal {number}"),
                errno: error.raw_os_error().unwrap_or(0),
                why: error.to_string(),
            },
        }
    }

    /// In parts: labels are long, and a message has its limit.
    fn list_children(&mut self, seq: u64) {
        let mut all = self.children.held();
        let n_a_part = if self.supervised.knows(PINGS) { N_CHILDREN_A_PART } else { all.len() };
        loop {
            let rest = all.split_off(all.len().min(n_a_part));
            let more = !rest.is_empty();
            self.supervised.tell(&Tell::Children { seq, children: all, more }, &[]);
            if !more {
                return;
            }
            all = rest;
        }
    }

    fn list(&mut self) {
        if self.has_heirs() {
            let setup = Box::new(self.setup.clone());
            let held: Vec<_> = self.held.iter().map(AsFd::as_fd).collect();
            self.supervised.tell(&Tell::Setup { setup }, &held);
            for heir in self.children.heirs() {
                self.supervised.tell(&Tell::Heir { heir: Box::new(heir) }, &[]);
            }
            match self.calls.copies() {
                Ok(filters) => filters.iter().for_each(|filter| self.tell_filter(filter)),
                Err(error) => tracing::error!(%error, "copying filters for the supervisor"),
            }
        }
        for (name, fd) in self.kept.iter() {
            self.supervised.tell(&Tell::Kept { name: name.clone() }, &[fd.as_fd()]);
        }
        for (id, child) in self.children.known() {
            let tell = Tell::Child {
                child: id,
                label: child.label.clone(),
                identity: child.identity.clone(),
                end: child.end,
            };
            self.supervised.tell(&tell, &[]);
        }
        if self.stop != Stop::No {
            self.supervised.tell(&Tell::Stop, &[]);
        }
    }
}

fn is_stored(name: &str) -> bool {
    !name.starts_with(COMMAND)
}

/// Has a descriptor outlive all of Halley.
fn store(name: &str, fd: &OwnedFd) {
    if is_stored(name) {
        notify::store(name, fd);
    }
}

fn timespec(ms: u64) -> Timespec {
    let seconds = i64::try_from(ms / 1000).unwrap_or(i64::MAX);
    let nanoseconds = i64::try_from(ms % 1000).unwrap_or(0) * 1_000_000;
    Timespec { tv_sec: seconds, tv_nsec: nanoseconds }
}

fn say(seq: u64, text: &str) -> Tell {
    notify::notify(&format!("STATUS={}", text.replace('\n', " ")));
    Tell::done(seq)
}
