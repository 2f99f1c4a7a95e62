//! Programs whose calls are answered here: whose `bind()` gets which kept socket, and whose
//! `connect()` leads where.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use crate::core::ordered::Few;
use crate::keeper::estate::{Filter, stored_name};
use crate::keeper::own_listeners::Hearers;
use crate::keeper::own_ports::{self, OwnPorts};
use crate::keeper::protocol::{ChildId, Refused, Watched};
use crate::os::fence::{self, Destination, Passage, Via};
use crate::os::intercept::{self, Call};
use crate::os::launch_spec::{Catch, CatchAt};
use crate::os::notify;
use crate::os::private_port;
use crate::os::wish::{Datagram, Wanted, Wish};

/// Calls of one program that are answered before the others have their turn.
const N_CALLS_A_ROUND: usize = 16;

/// Addresses that a program was kept from and that are told of: one that tries all of them in turn
/// fills nobody's memory.
const N_REFUSED_MAX: usize = 64;

/// The filters of all programs that run under one.
#[derive(Debug, Default)]
pub struct Calls {
    watches: Vec<Watch>,
    ports: OwnPorts,
}

#[derive(Debug)]
struct Watch {
    child: ChildId,
    filter: OwnedFd,
    watched: Watched,
    /// What it was kept from, so far.
    refused: BTreeSet<String>,
}

impl Calls {
    /// Answers for a new program from now on.
    pub fn add(&mut self, child: ChildId, filter: OwnedFd, watched: Watched) {
        notify::store(&stored_name(child), &filter);
        self.watches.push(Watch { child, filter, watched, refused: BTreeSet::new() });
    }

    /// All filters, to be handed on.
    ///
    /// # Errors
    /// When they cannot be duplicated.
    pub fn copies(&self) -> io::Result<Vec<Filter>> {
        let copy = |watch: &Watch| {
            let (child, watched) = (watch.child, watch.watched.clone());
            Ok(Filter { child, fd: watch.filter.try_clone()?, watched })
        };
        self.watches.iter().map(copy).collect()
    }

    /// Filters, to be polled.
    pub fn filters(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.watches.iter().map(|watch| watch.filter.as_fd())
    }

    /// Answers calls that wait, of each program a few in one round: one that calls without end keeps
    /// no other program waiting. Lets go of filters that no process runs under any more, and of what brings
    /// no calls. Returns what programs were kept from for the first time.
    pub fn answer(&mut self, kept: &Few<String, OwnedFd>) -> Vec<(ChildId, Refused)> {
        let mut refused = Vec::new();
        let ports = &mut self.ports;
        self.watches.retain_mut(|watch| {
            for _ in 0..N_CALLS_A_ROUND {
                match intercept::waiting(&watch.filter) {
                    Ok(intercept::Waiting::Call) => match intercept::receive(&watch.filter) {
                        Ok(call) => {
                            let new = call.and_then(|call| watch.answer_one(&call, kept, ports));
                            refused.extend(new.map(|refused| (watch.child, refused)));
                        }
                        // It would be there to be received for ever.
                        Err(error) => {
                            tracing::error!(%error, "receiving a call");
                            return watch.unstored();
                        }
                    },
                    Ok(intercept::Waiting::Nothing) => return true,
                    Ok(intercept::Waiting::Nobody) => return watch.unstored(),
                    Err(error) => {
                        tracing::error!(%error, "polling a filter");
                        return true;
                    }
                }
            }
            true
        });
        let trials = self.watches.iter().filter_map(|watch| watch.watched.fence.as_ref());
        let trials: BTreeSet<u64> = trials.map(|fence| fence.trial).collect();
        self.ports.keep(|trial| trials.contains(&trial));
        refused
    }
}

impl Watch {
    /// It is not to be kept, neither by systemd.
    fn unstored(&self) -> bool {
        notify::unstore(&stored_name(self.child));
        false
    }

    fn answer_one(
        &mut self,
        call: &Call,
        kept: &Few<String, OwnedFd>,
        ports: &mut OwnPorts,
    ) -> Option<Refused> {
        let mut refused = None;
        let answered = match &call.wish {
            Wish::Bind(fd, wanted) if self.try_put(call, *fd, wanted, kept) => Ok(()),
            Wish::Bind(fd, Wanted::Inet(asked)) if self.is_kept_private(*asked) => {
                self.bind_privately(call, *fd, *asked, ports)
            }
            Wish::Unlink(path) if is_ours(&self.watched.intercept, path) => {
                call.succeed(&self.filter)
            }
            Wish::Connect(fd, to) => {
                let (answered, shut) = self.connect(call, *fd, to, ports);
                refused = shut;
                answered
            }
            Wish::Send(all, sent) => {
                let (answered, shut) = self.send(call, all, sent.as_ref(), ports);
                refused = shut;
                answered
            }
            // It is kept from going on by itself: the program would reach past us.
            Wish::Late => call.fail(&self.filter, libc::EFAULT),
            Wish::OpenFast => call.fail(&self.filter, libc::EOPNOTSUPP),
            Wish::Bind(..) | Wish::Unlink(_) | Wish::Other => call.go_on(&self.filter),
        };
        if let Err(error) = answered {
            tracing::error!(pid = call.pid, %error, "answering a call");
        }
        let to = refused?.to_string();
        if self.refused.len() >= N_REFUSED_MAX || !self.refused.insert(to.clone()) {
            return None;
        }
        let (pid, program) = call.caller();
        Some(Refused { pid, program, to })
    }

    fn passage(&self, to: &Destination) -> Passage<'_> {
        self.watched.fence.as_ref().map_or(Passage::Open, |fence| fence.passage(to))
    }

    /// Lets it go on, connects it to a listener of ours, or refuses; the destination comes back then.
    fn connect<'a>(
        &self,
        call: &Call,
        fd: RawFd,
        to: &'a Destination,
        ports: &OwnPorts,
    ) -> (io::Result<()>, Option<&'a Destination>) {
        if let Some(answered) = self.connect_to_itself(call, fd, to, ports) {
            return (answered, None);
        }
        let via = match self.passage(to) {
            Passage::Open => return (call.go_on(&self.filter), None),
            Passage::Shut => {
                let kept = match call.own(fd) {
                    Ok(own) => self.kept_from(call, to, own.is_stream, ports),
                    Err(_) => Some(libc::EACCES),
                };
                return match kept {
                    None => (call.go_on(&self.filter), None),
                    Some(libc::EACCES) => (call.fail(&self.filter, libc::EACCES), Some(to)),
                    Some(errno) => (call.fail(&self.filter, errno), None),
                };
            }
            Passage::Via(Via::Asked(..)) if self.is_known_here(call, to) => {
                return (call.go_on(&self.filter), None);
            }
            Passage::Via(via) => via,
        };
        let own = match call.own(fd) {
            Ok(own) => own,
            // There is no other way to keep it from going there by itself.
            Err(error) => {
                tracing::warn!(pid = call.pid, %error, "a program's socket cannot be looked at");
                return (call.fail(&self.filter, libc::EACCES), Some(to));
            }
        };
        // Looking for its own address by a datagram socket, a program sends nothing.
        if !own.is_stream {
            return (call.go_on(&self.filter), None);
        }
        (self.tell(call, fence::connect(&own.socket, via, to)), None)
    }

    /// Whether the program itself listens there, or nobody.
    fn is_known_here(&self, call: &Call, to: &Destination) -> bool {
        let Some(fence) = &self.watched.fence else { return false };
        let is_live = matches!(to, Destination::Inet(at) if fence.is_live(*at, true));
        !is_live && self.watched.root.hearers(fence, call.pid, to, true) != Hearers::Others
    }

    /// The call comes out as what was done in its place.
    fn tell(&self, call: &Call, done: io::Result<()>) -> io::Result<()> {
        match done {
            Ok(()) => call.succeed(&self.filter),
            Err(error) => {
                call.fail(&self.filter, error.raw_os_error().unwrap_or(libc::ECONNREFUSED))
            }
        }
    }

    /// Whether a port is one that the live release may listen at too.
    fn is_kept_private(&self, asked: SocketAddr) -> bool {
        let fence = self.watched.fence.as_ref();
        fence.is_some_and(|fence| asked.port() != 0 && !fence.given.contains(&asked.port()))
    }

    fn bind_privately(
        &self,
        call: &Call,
        fd: RawFd,
        asked: SocketAddr,
        ports: &mut OwnPorts,
    ) -> io::Result<()> {
        let trial = self.watched.fence.as_ref().map(|fence| fence.trial).unwrap_or_default();
        let Ok(own) = call.own(fd) else { return call.fail(&self.filter, libc::EACCES) };
        self.tell(call, ports.bind(trial, &own, asked))
    }

    /// Connects it to a port that was bound privately; `None` when it reaches for something else.
    fn connect_to_itself(
        &self,
        call: &Call,
        fd: RawFd,
        to: &Destination,
        ports: &OwnPorts,
    ) -> Option<io::Result<()>> {
        let (fence, Destination::Inet(address)) = (self.watched.fence.as_ref()?, to) else {
            return None;
        };
        if !ports.has(fence.trial, address.port()) {
            return None;
        }
        let own = call.own(fd).ok()?;
        let at = ports.find(fence.trial, own.is_stream, *address)?;
        // One that is closed by now hides nothing that may be reached.
        let is_there = !own.is_stream || own_ports::is_listened_at(at);
        if !is_there && fence.passage(to) != Passage::Shut {
            return None;
        }
        Some(self.tell(call, fence::connect(&own.socket, &Via::Inet(at), to)))
    }

    /// Lets it go on, sends a datagram in its place, or refuses; the destination comes back then.
    fn send<'a>(
        &self,
        call: &Call,
        all: &'a [Destination],
        sent: Option<&Datagram>,
        ports: &OwnPorts,
    ) -> (io::Result<()>, Option<&'a Destination>) {
        if let Some(answered) = self.send_to_itself(call, all, sent, ports) {
            return (answered, None);
        }
        // A datagram is led nowhere else: a door with a listener behind it is for streams, and where it
        // leads nobody hears datagrams.
        let kept = |to| Some((to, self.kept_from(call, to, false, ports)?));
        match all.iter().find_map(kept) {
            Some((to, errno)) => {
                (call.fail(&self.filter, errno), (errno == libc::EACCES).then_some(to))
            }
            None => (call.go_on(&self.filter), None),
        }
    }

    /// Sends a datagram to a port that was bound privately; `None` when it is for something else, or
    /// somebody else has that port by now.
    fn send_to_itself(
        &self,
        call: &Call,
        all: &[Destination],
        sent: Option<&Datagram>,
        ports: &OwnPorts,
    ) -> Option<io::Result<()>> {
        let (Some(fence), [Destination::Inet(to)]) = (&self.watched.fence, all) else {
            return None;
        };
        let (sent, at) = (sent?, ports.find(fence.trial, false, *to)?);
        let own = call.own(sent.fd).ok().filter(|own| !own.is_stream)?;
        let done = match self.watched.root.hearers(fence, call.pid, &Destination::Inet(at), false) {
            Hearers::Itself => private_port::send(&own.socket, &sent.bytes, at),
            Hearers::Nobody(errno) => Err(io::Error::from_raw_os_error(errno)),
            Hearers::Others => return None,
        };
        Some(match done {
            Ok(n) => call.return_with(&self.filter, i64::try_from(n).unwrap_or(0)),
            Err(error) => self.tell(call, Err(error)),
        })
    }

    /// The error for reaching for what no door leads to, other than itself. Who was kept from an address
    /// once is not looked for again with each datagram.
    fn kept_from(
        &self,
        call: &Call,
        to: &Destination,
        is_stream: bool,
        ports: &OwnPorts,
    ) -> Option<i32> {
        let fence = self.watched.fence.as_ref()?;
        if fence.passage(to) != Passage::Shut {
            return None;
        }
        // Its own port, which is a private one, by a call that is not made in its place.
        let is_private = matches!(to, Destination::Inet(at) if ports.has(fence.trial, at.port()));
        if !is_stream && (is_private || self.refused.contains(&to.to_string())) {
            return Some(libc::EACCES);
        }
        match self.watched.root.hearers(fence, call.pid, to, is_stream) {
            Hearers::Itself => None,
            Hearers::Nobody(errno) => Some(errno),
            Hearers::Others => Some(libc::EACCES),
        }
    }

    /// Whether the program has one of ours now. What cannot be looked at goes on untouched: then
    /// the program learns from the kernel that the address is taken.
    fn try_put(
        &self,
        call: &Call,
        fd: RawFd,
        wanted: &Wanted,
        kept: &Few<String, OwnedFd>,
    ) -> bool {
        if !self.watched.intercept.iter().any(|catch| rank(&catch.at, wanted).is_some()) {
            return false;
        }
        let own = match call.own(fd) {
            Ok(own) => own,
            Err(error) => {
                tracing::warn!(pid = call.pid, %error, "a program's socket cannot be looked at");
                return false;
            }
        };
        let slot =
            best(&self.watched.intercept, wanted, own.is_stream).and_then(|name| kept.get(name));
        let Some(slot) = slot else { return false };
        match call.put(&self.filter, fd, &own, slot.as_fd()) {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(pid = call.pid, %error, "handing a slot over");
                false
            }
        }
    }
}

fn is_ours(catches: &[Catch], path: &std::path::Path) -> bool {
    catches.iter().any(|catch| matches!(&catch.at, CatchAt::Unix(ours) if ours == path))
}

/// The name of the socket for this wish: the same address before the same family before the same
/// port. The host decides where a service listens, so a program's narrower or wider address is no
/// reason to let it listen beside us.
fn best<'a>(catches: &'a [Catch], wanted: &Wanted, is_stream: bool) -> Option<&'a str> {
    let fits = catches.iter().filter(|catch| catch.at.is_stream() == is_stream);
    let ranked = fits.filter_map(|catch| Some((rank(&catch.at, wanted)?, catch)));
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, catch)| catch.kept.as_str())
}

/// How well a listener fits, best first.
fn rank(at: &CatchAt, wanted: &Wanted) -> Option<u8> {
    match (at, wanted) {
        (CatchAt::Tcp(ours) | CatchAt::Udp(ours), Wanted::Inet(theirs)) => inet(*ours, *theirs),
        (CatchAt::Unix(ours), Wanted::Unix(theirs)) => (ours == theirs).then_some(0),
        _ => None,
    }
}

fn inet(ours: SocketAddr, theirs: SocketAddr) -> Option<u8> {
    let is_dual = |ip: IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unspecified());
    match () {
        () if ours.port() != theirs.port() => None,
        () if ours.ip() == theirs.ip().to_canonical() => Some(0),
        () if ours.is_ipv4() == theirs.is_ipv4() => Some(1),
        () if is_dual(ours.ip()) => Some(2),
        () => Some(3),
    }
}

#[cfg(test)]
mod tests;
