//! One client, its backend, and the two flows between them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown, sockopt};

use super::flow::{Fault, Flow, Progress};
use super::patience::Patience;
use super::pipe::Pool;

/// What the kernel says of a socket whose other end has ended.
const ENDS: EventFlags = EventFlags::RDHUP.union(EventFlags::HUP).union(EventFlags::ERR);

/// Whose socket the kernel spoke about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The accepted one.
    Client,
    /// The connected one.
    Backend,
}

/// What a connection wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing until the kernel speaks.
    Rest,
    /// Another turn, after the others had theirs.
    Turn,
    /// Another turn in a while: no pipe was to be had.
    Pause,
    /// A backend in a while: it is not there.
    Reconnect,
    /// To know whether the backend is there still: it has ended before anything was said.
    Doubt,
    /// It is over.
    End,
}

/// One client and its backend.
#[derive(Debug)]
pub struct Connection {
    client: OwnedFd,
    /// Absent while it refuses.
    backend: Option<OwnedFd>,
    /// The backend has taken bytes, or the kernel reported that it would. Before that an error
    /// means that no backend was there, and nothing is lost.
    is_confirmed: bool,
    /// What has to be sent to the backend before the client's bytes.
    header: Vec<u8>,
    /// How much of it the present backend has.
    n_header_sent: usize,
    /// Counted among those whose backend is not there.
    pub is_missing: bool,
    up: Flow,
    down: Flow,
    /// There from the first refusal on.
    pub patience: Option<Patience>,
    /// When the worker comes back to it by itself, in milliseconds since boot.
    pub alarm_ms: Option<u64>,
}

impl Connection {
    /// A connection without a backend.
    pub fn new(client: OwnedFd, header: Vec<u8>) -> Self {
        let (up, down) = (Flow::ready(), Flow::dry());
        Self {
            client,
            backend: None,
            is_confirmed: false,
            header,
            n_header_sent: 0,
            is_missing: false,
            up,
            down,
            patience: None,
            alarm_ms: None,
        }
    }

    /// The client's socket.
    pub fn client(&self) -> BorrowedFd<'_> {
        self.client.as_fd()
    }

    /// Whether the backend has to be asked for.
    pub const fn lacks_backend(&self) -> bool {
        self.backend.is_none()
    }

    /// Whether a backend was there.
    pub const fn is_confirmed(&self) -> bool {
        self.is_confirmed
    }

    /// Goes where other connections are announced, as one of them.
    pub fn drop_header(&mut self) {
        self.header.clear();
    }

    /// Takes a socket that is on its way to the backend.
    pub fn set_out(&mut self, backend: OwnedFd) {
        self.up.change_sink();
        self.n_header_sent = 0;
        self.backend = Some(backend);
    }

    /// The kernel spoke about one of the sockets.
    pub fn hear(&mut self, side: Side, flags: EventFlags, pool: &mut Pool) -> Next {
        let is_broken = flags.contains(EventFlags::ERR);
        match side {
            Side::Client => {
                self.up.hear_source(flags);
                self.down.hear_sink(flags);
            }
            Side::Backend if self.backend.is_none() => return Next::Rest,
            Side::Backend if is_broken && !self.is_confirmed => return self.miss_backend(),
            Side::Backend => {
                self.is_confirmed = true;
                if flags.intersects(ENDS) && self.is_untouched() {
                    return Next::Doubt;
                }
                self.down.hear_source(flags);
                self.up.hear_sink(flags);
            }
        }
        let next = self.turn(pool);
        // What had arrived before the reset was delivered in this turn.
        if is_broken { self.reset() } else { next }
    }

    /// The backend is there, and has ended this connection all the same: so does the client's.
    pub fn believe(&mut self, pool: &mut Pool) -> Next {
        self.down.hear_source(ENDS);
        self.turn(pool)
    }

    /// Whether nothing was said in either direction, so that another backend can have it all.
    fn is_untouched(&self) -> bool {
        let peek = |backend| recv(backend, &mut [0_u8], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        let is_silent = |backend| !peek(backend).is_ok_and(|(n, _)| n > 0);
        let has_moved = self.up.has_moved || self.down.has_moved || self.down.is_holding();
        !has_moved && !self.up.is_over() && self.backend.as_ref().is_some_and(is_silent)
    }

    /// Moves what can be moved.
    pub fn turn(&mut self, pool: &mut Pool) -> Next {
        match self.advance(pool) {
            Ok(next) => next,
            Err(Fault::Pipe) => Next::Pause,
            // An unconfirmed backend is the only sink that was pumped to.
            Err(Fault::Sink) if !self.is_confirmed => self.miss_backend(),
            Err(Fault::Source | Fault::Sink) => self.reset(),
        }
    }

    fn advance(&mut self, pool: &mut Pool) -> Result<Next, Fault> {
        let client = self.client.as_fd();
        let backend = self.backend.as_ref().map(AsFd::as_fd);
        let left = self.header.get(self.n_header_sent..).unwrap_or_default();
        if let Some(backend) = backend.filter(|_| !left.is_empty()) {
            // The client's first bytes may then travel in the header's segment.
            self.up.pump(client, None, pool)?;
            self.n_header_sent += send_header(left, backend, &mut self.up)?;
        }
        let sink = backend.filter(|_| self.n_header_sent >= self.header.len());
        let up = self.up.pump(client, sink, pool);
        self.is_confirmed |= self.up.has_moved || self.n_header_sent > 0;
        // Also when the other direction broke: a backend may answer and leave without having read
        // everything.
        let down = match backend.filter(|_| self.is_confirmed) {
            Some(backend) => self.down.pump(backend, Some(client), pool),
            None => Ok(Progress::Rests),
        };
        let goes = [up?, down?].contains(&Progress::Goes);
        let is_left = backend.is_none() && self.up.is_over();
        if is_left || (self.up.is_over() && self.down.is_over()) {
            return Ok(Next::End);
        }
        if let Some(backend) = backend.filter(|_| self.is_confirmed) {
            pass_on_end(&mut self.up, backend);
            pass_on_end(&mut self.down, client);
        }
        Ok(if goes { Next::Turn } else { Next::Rest })
    }

    /// No backend was there: the client is kept, with what it has sent.
    pub fn miss_backend(&mut self) -> Next {
        self.backend = None;
        self.is_confirmed = false;
        if self.up.is_over() { Next::End } else { Next::Reconnect }
    }

    /// A reset is passed on as a reset.
    fn reset(&self) -> Next {
        for socket in std::iter::once(&self.client).chain(&self.backend) {
            // Means nothing to a Unix socket, and is no loss there.
            let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
        }
        Next::End
    }
}

fn send_header(header: &[u8], to: BorrowedFd<'_>, up: &mut Flow) -> Result<usize, Fault> {
    if up.is_blocked() {
        return Ok(0);
    }
    let more = if up.is_holding() { SendFlags::MORE } else { SendFlags::empty() };
    match send(to, header, SendFlags::NOSIGNAL | SendFlags::DONTWAIT | more) {
        Ok(n) => Ok(n),
        Err(Errno::AGAIN | Errno::INTR) => {
            up.block();
            Ok(0)
        }
        Err(_) => Err(Fault::Sink),
    }
}

fn pass_on_end(flow: &mut Flow, sink: BorrowedFd<'_>) {
    if flow.is_over() && !flow.is_passed_on {
        flow.is_passed_on = true;
        // A sink that was reset meanwhile is announced by the kernel.
        let _ = shutdown(sink, Shutdown::Write);
    }
}
