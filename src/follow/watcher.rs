//! The watcher: looks at every connection, again and again, and does what the look says.
//!
//! It looks every millisecond or two while requests are held back, which is what they are late by; less often as
//! time goes on, and never so often that looking takes more than a fourth of a processor.

mod close;
mod count;
mod find;
mod left;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::connection::{Deed, Stays};
use super::message::{self, Message};
use super::program::Program;
use super::watched::{Carry, Seen, Watched};
use super::{Options, SILENT_MS};
use crate::os::tally::{Board, Extent, Orders, Tally};
use crate::os::{clock, connection, proc};

/// Pauses between two looks: before the flip, and so long after it.
const BEFORE_US: u64 = 2_000;
const AFTER_US: [(u64, u64); 3] = [(5_000, 1_000), (30_000, 5_000), (u64::MAX, 20_000)];
/// A connection that a handshake had begun for before the flip is there by then.
const LATE_MS: u64 = 3_000;
/// How often it is looked whether programs still have their connections.
const ORPHANS_MS: u64 = 50;
const BEAT_MS: u64 = 200;
/// Those that were given back a moment ago are looked at without a pause for so long.
const SPIN_US: u64 = 500;
const HOT_NS: u64 = 1_000_000;
/// So many are passed on at the same time; the next ones wait for a moment.
const N_CARRIED_MAX: usize = 64;
/// So many are looked at whole in each round; beyond it quiet ones take turns.
const N_WHOLE: usize = 256;

/// The watcher.
#[derive(Debug)]
pub struct Watcher {
    programs: Vec<Program>,
    ports: BTreeSet<u16>,
    ends_quiet: bool,
    board: Board,
    holder: OwnedFd,
    parent: i32,
    orders: Orders,
    ordered_ms: u64,
    watched: Vec<Watched>,
    /// Sockets that are not watched: others', and those that stay.
    known: BTreeMap<u64, Option<Aside>>,
    next_id: u64,
    tally: Tally,
    beat: Beat,
    scanned_ms: Option<u64>,
    orphans_ms: u64,
    /// How long programs were watched closely.
    close_us: u64,
    round: usize,
}

/// Why a connection is not watched, and its program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aside {
    Blocking,
    Foreign,
    Denied,
}

/// When the holder was last asked for a sign of life, and whether it owes one.
#[derive(Debug, Default)]
struct Beat {
    asked_ms: u64,
    is_owed: bool,
}

/// The holder is gone.
struct Gone;

impl Watcher {
    /// One that has not looked yet.
    pub fn new(options: &Options, board: Board, holder: OwnedFd) -> Self {
        // One before it may have ended in the middle.
        let before = board.tally();
        Self {
            programs: options.of.iter().map(|root| Program::new(*root)).collect(),
            ports: options.port.iter().copied().collect(),
            ends_quiet: options.close,
            board,
            holder,
            parent: proc::own_parent(),
            orders: Orders::default(),
            ordered_ms: now_ms(),
            watched: Vec::new(),
            known: BTreeMap::new(),
            next_id: 1,
            tally: Tally { n_waiting: 0, ..before },
            beat: Beat::default(),
            scanned_ms: None,
            orphans_ms: now_ms(),
            close_us: 0,
            round: 0,
        }
    }

    /// Looks until there is nothing to look at any more.
    ///
    /// # Errors
    /// When the holder is gone: every mark is down by then.
    pub fn run(mut self) -> io::Result<()> {
        rustix::io::ioctl_fionbio(&self.holder, true)?;
        let result = self.rounds();
        for watched in &mut self.watched {
            if watched.carried.is_none() {
                watched.lower();
            }
        }
        self.count();
        match result {
            Ok(()) => Ok(()),
            Err(Gone) => {
                self.carry_on();
                Err(io::Error::other("the holder is gone"))
            }
        }
    }

    fn rounds(&mut self) -> Result<(), Gone> {
        loop {
            let begun = clock::monotonic_ns();
            let now = now_ms();
            self.hear_orders(now);
            self.hear_holder(now)?;
            self.scan(now);
            self.look_all()?;
            self.spin()?;
            let took_us = (clock::monotonic_ns() - begun) / 1_000;
            self.watch_closely();
            if now.saturating_sub(self.orphans_ms) >= ORPHANS_MS {
                self.orphans_ms = now;
                self.orphans()?;
            }
            self.count();
            if self.is_done(now) {
                return Ok(());
            }
            self.pause(self.pause_us(now).max(3 * took_us));
        }
    }

    /// The holder may have something to say.
    fn pause(&self, us: u64) {
        let (tv_sec, tv_nsec) = ((us / 1_000_000) as i64, (us % 1_000_000 * 1_000) as i64);
        let mut fds = [PollFd::new(&self.holder, PollFlags::IN)];
        let _ = poll(&mut fds, Some(&Timespec { tv_sec, tv_nsec }));
    }

    fn pause_us(&self, now: u64) -> u64 {
        if self.orders.number == 0 {
            return BEFORE_US;
        }
        let since = now.saturating_sub(self.ordered_ms);
        AFTER_US.iter().find(|(until, _)| since < *until).map_or(20_000, |(_, us)| *us)
    }

    fn is_done(&self, now: u64) -> bool {
        let is_late = now.saturating_sub(self.ordered_ms) >= LATE_MS;
        let is_over = self.orders.number > 0 && is_late;
        let is_left = !self.programs.iter().any(Program::is_there);
        self.watched.is_empty() && (is_over || is_left)
    }

    fn hear_orders(&mut self, now: u64) {
        if self.board.number() == self.orders.number {
            return;
        }
        self.orders = self.board.orders();
        self.ordered_ms = now;
        self.scanned_ms = None;
    }

    /// What is to become of a connection: nothing, or its requests are looked at, and perhaps taken.
    fn wish(&self, program: usize, since: u32) -> Option<bool> {
        if self.orders.number == 0 {
            return Some(false);
        }
        let root = self.programs.get(program)?.root;
        let (_, extent) = self.orders.of.iter().find(|(pid, _)| *pid == root)?;
        (*extent == Extent::All || since < self.orders.number).then_some(true)
    }

    fn hear_holder(&mut self, now: u64) -> Result<(), Gone> {
        loop {
            match message::receive(&self.holder) {
                Ok(Some((Message::Beat, _))) => self.beat.is_owed = false,
                Ok(Some((Message::Done(id), _))) => self.carried(id, true),
                Ok(Some((Message::Returned(id), _))) => self.carried(id, false),
                Ok(Some(_)) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Ok(None) | Err(_) => return Err(Gone),
            }
        }
        let waited = now.saturating_sub(self.beat.asked_ms);
        if self.beat.is_owed && waited >= SILENT_MS {
            // It stands still, with requests that clients wait for.
            if proc::own_parent() == self.parent
                && let Ok(start) = proc::start_ticks(self.parent)
            {
                drop(proc::signal(self.parent, start, libc::SIGKILL));
            }
            return Err(Gone);
        }
        if !self.beat.is_owed && waited >= BEAT_MS {
            self.beat = Beat { asked_ms: now, is_owed: true };
            self.say(Message::Beat, None)?;
        }
        Ok(())
    }

    fn say(&self, message: Message, fd: Option<&OwnedFd>) -> Result<(), Gone> {
        message::send(&self.holder, message, fd.map(AsFd::as_fd)).map_err(|_| Gone)
    }

    /// The holder has passed a request on, or has not.
    fn carried(&mut self, id: u64, is_done: bool) {
        let Some(index) = self.watched.iter().position(|watched| watched.id == id) else { return };
        if is_done {
            self.tally.n_followed += 1;
            self.watched.swap_remove(index);
        } else if let Some(watched) = self.watched.get_mut(index) {
            // The holder has put the mark down, and has no duplicate any more.
            (watched.carried, watched.is_held, watched.is_marked) = (None, false, false);
            watched.connection.let_go();
        }
    }

    fn look_all(&mut self) -> Result<(), Gone> {
        self.round += 1;
        let n_turns = 1 + self.watched.len() / N_WHOLE;
        let mut index = 0;
        while let Some(watched) = self.watched.get(index) {
            // One that is marked and quiet has nothing new, unless one side has ended it.
            let is_turn = (index + self.round).is_multiple_of(n_turns);
            let is_idle = || watched.is_marked && connection::n_unread(&watched.fd).ok() == Some(0);
            if watched.carried.is_some() || (!is_turn && is_idle()) {
                index += 1;
                continue;
            }
            if self.look(index)? {
                index += 1;
            } else {
                self.let_go(index)?;
            }
        }
        self.put_blocking_aside()
    }

    /// A program that reads in a blocking way once may do so at any time: none of its connections is touched.
    fn put_blocking_aside(&mut self) -> Result<(), Gone> {
        if !self.programs.iter().any(|program| program.is_blocking) || self.ends_quiet {
            return Ok(());
        }
        let is_blocking =
            |at: usize| self.programs.get(at).is_some_and(|program| program.is_blocking);
        let (aside, stay): (Vec<_>, Vec<_>) = std::mem::take(&mut self.watched)
            .into_iter()
            .partition(|watched| watched.carried.is_none() && is_blocking(watched.program));
        self.watched = stay;
        for mut watched in aside {
            self.put_down(&mut watched)?;
            self.known.insert(watched.inode, Some(Aside::Blocking));
        }
        Ok(())
    }

    fn put_down(&self, watched: &mut Watched) -> Result<(), Gone> {
        if watched.is_marked {
            watched.lower();
        }
        if std::mem::take(&mut watched.is_held) {
            self.say(Message::Forget(watched.id), None)?;
        }
        Ok(())
    }

    /// Looks at one. Returns whether it is still watched.
    fn look(&mut self, index: usize) -> Result<bool, Gone> {
        let Some(watched) = self.watched.get(index) else { return Ok(false) };
        let wish = self.wish(watched.program, watched.since);
        let n_carried = self.watched.iter().filter(|other| other.carried.is_some()).count();
        let is_blocking = connection::is_blocking(&watched.fd);
        let Some(program) = self.programs.get_mut(watched.program) else { return Ok(false) };
        program.is_blocking |= is_blocking;
        let is_blocking = program.is_blocking;
        let Some(watched) = self.watched.get_mut(index) else { return Ok(false) };
        let seen = watched.see(wish == Some(true));
        let (look, counts) = match seen {
            Ok(Seen::Moving) => return Ok(true),
            Ok(Seen::Open(look, counts)) => (look, counts),
            Ok(Seen::Ended) | Err(_) => return Ok(false),
        };
        if self.ends_quiet && wish == Some(true) && Watched::is_quiet(&look, &counts) {
            connection::end_of_reading(&watched.fd);
            self.tally.n_closed += 1;
            return Ok(false);
        }
        let Some(program) = self.programs.get(watched.program) else { return Ok(false) };
        if is_blocking || wish.is_none() || !program.is_proven() {
            if watched.is_marked {
                watched.lower();
                watched.connection.let_go();
            }
            return Ok(true);
        }
        let deed = watched.connection.look(look);
        match deed {
            Deed::Wait => {}
            Deed::Raise => {
                let hold = !std::mem::replace(&mut watched.is_held, true);
                // The holder has it first.
                if hold {
                    message::send(
                        &self.holder,
                        Message::Hold(watched.id),
                        Some(watched.fd.as_fd()),
                    )
                    .map_err(|_| Gone)?;
                }
                watched.is_marked = connection::raise(&watched.fd).is_ok();
            }
            Deed::Lower => {
                watched.lower();
                watched.given_ns = clock::monotonic_ns();
            }
            // Held back until there is room, which is a matter of milliseconds.
            Deed::Take(_) if n_carried >= N_CARRIED_MAX => {}
            Deed::Take(head) => {
                let Ok(request) = watched.request(head) else { return Ok(true) };
                watched.carried = Some(Carry { request, head: Some(head), before: counts });
                let take = Message::Take(watched.id);
                message::send(&self.holder, take, None).map_err(|_| Gone)?;
            }
        }
        match watched.connection.stays() {
            None => Ok(true),
            Some(Stays::Foreign | Stays::Tunnel | Stays::Pipelined | Stays::ReadAlone) => {
                self.known.insert(watched.inode, Some(Aside::Foreign));
                Ok(self.ends_quiet)
            }
        }
    }

    /// A client that asks again at once is met with the mark up.
    fn spin(&mut self) -> Result<(), Gone> {
        let begun = clock::monotonic_ns();
        loop {
            let is_hot = |watched: &Watched| {
                watched.connection.is_given() && begun.saturating_sub(watched.given_ns) < HOT_NS
            };
            let given = |(index, watched): (usize, &Watched)| is_hot(watched).then_some(index);
            let hot: Vec<usize> = self.watched.iter().enumerate().filter_map(given).collect();
            if hot.is_empty() || clock::monotonic_ns() - begun > SPIN_US * 1_000 {
                return Ok(());
            }
            // From behind: what is let go changes no place before it.
            for index in hot.into_iter().rev() {
                if !self.look(index)? {
                    self.let_go(index)?;
                }
            }
            self.put_blocking_aside()?;
            std::thread::yield_now();
        }
    }

    /// The last one takes its place.
    fn let_go(&mut self, index: usize) -> Result<(), Gone> {
        let mut gone = self.watched.swap_remove(index);
        self.put_down(&mut gone)
    }
}

fn now_ms() -> u64 {
    clock::monotonic_ns() / 1_000_000
}
