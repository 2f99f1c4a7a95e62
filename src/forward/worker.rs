//! One thread of the forwarder: its epoll, its connections, and the listeners it shares.
//!
//! Every socket is registered once, edge-triggered, for everything. It never waits anywhere but in
//! `epoll_wait(2)`, and has no timer but for a backend that is not there or a full system.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

use super::admission::Admission;
use super::connection::{Connection, Next, Side};
use super::desk::Desk;
use super::ears::{Ears, FIRST_TOKEN, Heard};
use super::header;
use super::options::Options;
use super::patience::Patience;
use super::pipe::Pool;
use super::slots::Slots;
use super::target::{Target, has_arrived};
use crate::os::clock;

const STOP: u64 = u64::MAX;
const WAKE: u64 = u64::MAX - 1;
const N_EVENTS: usize = 256;
/// A connection that got no pipe tries again after this.
const PAUSE_MS: u64 = 10;
const ALL: EventFlags =
    EventFlags::IN.union(EventFlags::OUT).union(EventFlags::RDHUP).union(EventFlags::ET);

/// One thread's share of the work.
#[derive(Debug)]
pub struct Worker<'a> {
    epoll: OwnedFd,
    options: &'a Options,
    admission: &'a Admission,
    desk: &'a Desk,
    ears: Ears<'a>,
    is_leaving: bool,
    /// Connections that find no backend go where others go by now.
    is_dismissed: bool,
    slots: Slots,
    /// Connections whose backend is not there. As long as there are any, others wait in the queue,
    /// as they do for a program that has the listener itself: whoever the next flip leads to gets
    /// them.
    n_missing: usize,
    /// Connections that have more to move than one turn does.
    turns: Vec<usize>,
    /// When a connection wants another turn or backend.
    alarms: BTreeSet<(u64, usize)>,
    pool: Pool,
}

impl<'a> Worker<'a> {
    /// A worker that hears. `stop` becomes readable when it shall accept no more.
    ///
    /// # Errors
    /// `epoll_ctl(2)`'s.
    pub fn new(
        desk: &'a Desk,
        options: &'a Options,
        listeners: Vec<OwnedFd>,
        admission: &'a Admission,
        stop: &OwnedFd,
    ) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        // Neither is ever read: each write is an edge of its own.
        let edge = EventFlags::IN | EventFlags::ET;
        epoll::add(&epoll, stop, EventData::new_u64(STOP), edge)?;
        epoll::add(&epoll, desk.bell(), EventData::new_u64(WAKE), edge)?;
        let ears = Ears::open(listeners, admission, &epoll)?;
        Ok(Self {
            epoll,
            options,
            admission,
            desk,
            ears,
            is_leaving: false,
            is_dismissed: false,
            slots: Slots::default(),
            n_missing: 0,
            turns: Vec::new(),
            alarms: BTreeSet::new(),
            pool: Pool::default(),
        })
    }

    /// Where others put clients for it.
    pub const fn desk(&self) -> &'a Desk {
        self.desk
    }

    /// Works until it is asked to stop or has taken all it was to take, and no connection is left.
    ///
    /// # Errors
    /// `epoll_wait(2)`'s.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(N_EVENTS);
        self.take_all();
        while !(self.is_leaving && self.slots.is_empty() && self.desk.leave()) {
            events.clear();
            let timeout = self.timeout();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            // What is known of a backend comes before the next connection to it.
            for is_new in [false, true] {
                for event in events.iter().filter(|it| (it.data.u64() >= FIRST_TOKEN) == is_new) {
                    self.handle(*event);
                }
            }
            for index in std::mem::take(&mut self.turns) {
                self.turn(index);
            }
            self.ring();
            self.slots.end_round();
        }
        Ok(())
    }

    fn timeout(&self) -> Option<Timespec> {
        if !self.turns.is_empty() {
            return Some(Timespec { tv_sec: 0, tv_nsec: 0 });
        }
        let first = self.alarms.first().map(|(at_ms, _)| *at_ms);
        let at_ms = first.into_iter().chain(self.ears.deaf_until_ms()).min()?;
        let ms = i64::try_from(at_ms.saturating_sub(clock::tick().0)).unwrap_or(0);
        Some(Timespec { tv_sec: ms / 1000, tv_nsec: ms % 1000 * 1_000_000 })
    }

    fn handle(&mut self, event: Event) {
        match event.data.u64() {
            STOP => {
                self.leave();
                self.is_dismissed = true;
            }
            WAKE => {
                self.hear_again();
                for client in self.desk.take() {
                    self.begin(client);
                }
                self.take_all();
            }
            token if token >= FIRST_TOKEN => {
                let index = usize::try_from(token - FIRST_TOKEN).unwrap_or(usize::MAX);
                if self.options.until_empty {
                    self.take_all();
                } else if let Heard::Client(client) = self.ears.accept(index, &self.epoll) {
                    self.take(client);
                }
            }
            token => {
                let side = if token & 1 == 0 { Side::Client } else { Side::Backend };
                let index = usize::try_from(token >> 1).unwrap_or(usize::MAX);
                let Some(connection) = self.slots.get_mut(index) else { return };
                let next = connection.hear(side, event.flags, &mut self.pool);
                self.follow(index, next);
            }
        }
    }

    /// Hears again, if there is a backend to give connections to.
    fn hear_again(&mut self) {
        if self.n_missing == 0 {
            self.ears.hear_again(&self.epoll);
        }
    }

    /// Accepts no more.
    fn leave(&mut self) {
        self.is_leaving = true;
        self.ears.close(&self.epoll);
    }

    /// Takes every connection that waits and then lets the listeners go, if that is the order.
    /// While there is no place for all of them it goes on when there is.
    fn take_all(&mut self) {
        if !self.options.until_empty || self.is_leaving {
            return;
        }
        for index in 0..self.ears.n_listeners() {
            // Whether accept(2) blocks is a flag of the socket, shared by every process that has
            // it: another process may make it block again.
            while self.ears.is_somebody_at(index) {
                match self.ears.accept(index, &self.epoll) {
                    Heard::Client(client) => self.take(client),
                    Heard::Missed => {}
                    Heard::Nobody => break,
                    Heard::Deaf => return,
                }
            }
        }
        self.leave();
    }

    fn take(&mut self, client: OwnedFd) {
        if let Some(client) = self.admission.pass(client, self.desk) {
            self.desk.begin();
            self.begin(client);
        }
    }

    fn begin(&mut self, client: OwnedFd) {
        let header = if self.options.proxy_protocol { header::of(&client) } else { Vec::new() };
        let index = self.slots.insert(Connection::new(client, header));
        self.connect(index);
        let Some(connection) = self.slots.get_mut(index) else { return };
        let data = EventData::new_u64((index as u64) << 1);
        if let Err(errno) = epoll::add(&self.epoll, connection.client(), data, ALL) {
            tracing::warn!("a client was closed: epoll_ctl: {errno}");
            self.follow(index, Next::End);
        }
    }

    /// Sets out for the backend, and takes along what the client has sent by then.
    fn connect(&mut self, index: usize) {
        let Some(connection) = self.slots.get_mut(index) else { return };
        let data = EventData::new_u64((index as u64) << 1 | 1);
        let to = match self.is_dismissed {
            true => &Target::Called,
            false => &self.options.to,
        };
        if self.is_dismissed {
            connection.drop_header();
        }
        let begun = to.connect(connection.client()).and_then(|backend| {
            epoll::add(&self.epoll, &backend, data, ALL)?;
            Ok(backend)
        });
        let next = match begun {
            Ok(backend) => {
                connection.set_out(backend);
                connection.turn(&mut self.pool)
            }
            // A Unix socket's client: nobody else may have it.
            Err(Errno::AFNOSUPPORT) => Next::End,
            Err(_) => Next::Reconnect,
        };
        self.follow(index, next);
    }

    /// A backend has ended a connection before anything was said. One that is there has meant it;
    /// one that is not has died, and the next one gets the connection. A program that was asked to
    /// stop ends its idle connections.
    fn doubt(&mut self, index: usize) {
        let Some(connection) = self.slots.get_mut(index) else { return };
        let again = self.options.to.connect(connection.client());
        let next = match self.is_leaving || again.is_ok_and(has_arrived) {
            true => connection.believe(&mut self.pool),
            false => connection.miss_backend(),
        };
        self.follow(index, next);
    }

    fn turn(&mut self, index: usize) {
        let Some(connection) = self.slots.get_mut(index) else { return };
        let next = connection.turn(&mut self.pool);
        self.follow(index, next);
    }

    /// Serves every alarm whose time has come.
    fn ring(&mut self) {
        if self.alarms.is_empty() && self.ears.deaf_until_ms().is_none() {
            return;
        }
        let now_ms = clock::tick().0;
        if self.ears.deaf_until_ms().is_some_and(|at_ms| at_ms <= now_ms) {
            self.hear_again();
            self.take_all();
        }
        while let Some((at_ms, index)) = self.alarms.pop_first() {
            if at_ms > now_ms {
                self.alarms.insert((at_ms, index));
                return;
            }
            let Some(connection) = self.slots.get_mut(index) else { continue };
            // Another one, or one that has set itself another time.
            if connection.alarm_ms.take_if(|own_ms| *own_ms == at_ms).is_none() {
                continue;
            }
            if connection.lacks_backend() { self.connect(index) } else { self.turn(index) }
        }
    }

    fn follow(&mut self, index: usize, next: Next) {
        let Some(connection) = self.slots.get_mut(index) else { return };
        let is_over = next == Next::End || connection.is_confirmed();
        if is_over && std::mem::take(&mut connection.is_missing) {
            self.n_missing -= 1;
            self.hear_again();
        }
        let Some(connection) = self.slots.get_mut(index) else { return };
        match next {
            Next::Rest => {}
            Next::Doubt => self.doubt(index),
            Next::Turn => self.turns.push(index),
            Next::Pause => {
                let at_ms = clock::tick().0 + PAUSE_MS;
                connection.alarm_ms = Some(at_ms);
                self.alarms.insert((at_ms, index));
            }
            Next::Reconnect => {
                if !self.options.until_empty && !std::mem::replace(&mut connection.is_missing, true)
                {
                    self.n_missing += 1;
                    self.ears.rest(&self.epoll);
                }
                let now_ms = clock::tick().0;
                let patience = connection.patience.get_or_insert(Patience::from(now_ms));
                match patience.next_try(now_ms) {
                    Some(at_ms) => {
                        connection.alarm_ms = Some(at_ms);
                        self.alarms.insert((at_ms, index));
                    }
                    None => {
                        tracing::warn!("a client was closed: {} is not there", self.options.to);
                        self.follow(index, Next::End);
                    }
                }
            }
            Next::End => {
                if self.slots.remove(index) {
                    self.desk.end();
                    self.admission.leave();
                }
            }
        }
    }
}
