//! One direction of a connection: source, pipe, sink.

use std::os::fd::BorrowedFd;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use super::pipe::{N_HELD_MAX, Pipe, Pool};

/// After so many turns other connections have theirs.
const N_TURNS: usize = 16;

/// What is known of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// It may have bytes.
    Ready,
    /// It has none until the kernel reports some.
    Dry,
    /// It will have no more.
    Ended,
}

/// Where a flow broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The source was reset.
    Source,
    /// The sink was reset, or was never connected.
    Sink,
    /// There is no pipe to be had for the moment.
    Pipe,
}

/// What a flow wants after its turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Nothing until the kernel speaks.
    Rests,
    /// More turns.
    Goes,
}

/// One direction of a connection.
#[derive(Debug)]
pub struct Flow {
    source: Source,
    /// The source's other end has shut down its sending: what is left has to be read up to its end.
    is_closing: bool,
    /// The sink takes no more until the kernel reports it writable.
    is_blocked: bool,
    /// There while bytes are held.
    pipe: Option<Pipe>,
    n_held: usize,
    /// The sink has taken bytes.
    pub has_moved: bool,
    /// The end of the bytes was passed on to the sink.
    pub is_passed_on: bool,
}

impl Flow {
    /// A flow whose source may have bytes already.
    pub fn ready() -> Self {
        Self {
            source: Source::Ready,
            is_closing: false,
            is_blocked: false,
            pipe: None,
            n_held: 0,
            has_moved: false,
            is_passed_on: false,
        }
    }

    /// A flow whose source will be announced by the kernel.
    pub fn dry() -> Self {
        Self { source: Source::Dry, ..Self::ready() }
    }

    /// The kernel spoke about the source.
    pub fn hear_source(&mut self, flags: EventFlags) {
        let ends = EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
        if flags.intersects(EventFlags::IN | ends) && self.source == Source::Dry {
            self.source = Source::Ready;
        }
        self.is_closing |= flags.intersects(ends);
    }

    /// The kernel spoke about the sink.
    pub fn hear_sink(&mut self, flags: EventFlags) {
        self.is_blocked &= !flags.contains(EventFlags::OUT);
    }

    /// The sink is another socket from here on.
    pub fn change_sink(&mut self) {
        self.is_blocked = false;
    }

    /// The sink has to be waited for.
    pub fn block(&mut self) {
        self.is_blocked = true;
    }

    /// Whether the sink has to be waited for.
    pub const fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    /// Whether bytes are under way.
    pub const fn is_holding(&self) -> bool {
        self.n_held > 0
    }

    /// Whether every byte was delivered and there will be no more.
    pub fn is_over(&self) -> bool {
        self.source == Source::Ended && self.n_held == 0
    }

    /// Moves what can be moved; without a sink only into the pipe.
    ///
    /// # Errors
    /// Where it broke.
    pub fn pump(
        &mut self,
        from: BorrowedFd<'_>,
        to: Option<BorrowedFd<'_>>,
        pool: &mut Pool,
    ) -> Result<Progress, Fault> {
        for _ in 0..N_TURNS {
            let n_filled = self.fill(from, pool)?;
            let n_drained = match to {
                Some(to) => self.drain(to)?,
                None => 0,
            };
            if self.n_held == 0
                && let Some(pipe) = self.pipe.take()
            {
                pool.give_back(pipe);
            }
            let is_idle = self.n_held == 0 && self.source != Source::Ready;
            if is_idle || n_filled + n_drained == 0 {
                return Ok(Progress::Rests);
            }
        }
        Ok(Progress::Goes)
    }

    fn fill(&mut self, from: BorrowedFd<'_>, pool: &mut Pool) -> Result<usize, Fault> {
        let n_room = N_HELD_MAX - self.n_held;
        if self.source != Source::Ready || n_room == 0 {
            return Ok(0);
        }
        let pipe = match self.pipe.take() {
            Some(pipe) => pipe,
            None => pool.take().map_err(|_| Fault::Pipe)?,
        };
        let filled = pipe.fill(from, n_room);
        let n_slots = pipe.n_slots;
        self.pipe = Some(pipe);
        match filled {
            Ok(0) => {
                self.source = Source::Ended;
                Ok(0)
            }
            Ok(n) => {
                // Every slot has at least one byte: with fewer bytes than slots it was not the pipe
                // that was full, so the socket is empty, and what comes later is announced.
                if self.n_held == 0 && n < n_slots && !self.is_closing {
                    self.source = Source::Dry;
                }
                self.n_held += n;
                Ok(n)
            }
            Err(Errno::AGAIN) => {
                // With bytes in the pipe it may be the pipe that is full.
                if self.n_held == 0 {
                    self.source = Source::Dry;
                }
                Ok(0)
            }
            Err(_) => Err(Fault::Source),
        }
    }

    fn drain(&mut self, to: BorrowedFd<'_>) -> Result<usize, Fault> {
        let Some(pipe) = self.pipe.as_ref().filter(|_| self.n_held > 0 && !self.is_blocked) else {
            return Ok(0);
        };
        match pipe.drain(to, self.n_held) {
            Ok(n) => {
                self.n_held -= n;
                self.has_moved = true;
                Ok(n)
            }
            Err(Errno::AGAIN) => {
                self.is_blocked = true;
                Ok(0)
            }
            Err(_) => Err(Fault::Sink),
        }
    }
}
