//! A group: the slots of an internet address, and where new connections and datagrams go.
//!
//! All slots are made and kept by Halley and never closed while the service exists, so that no
//! queue is lost. The kernel knows a slot by its position in the group, which is the order of
//! `listen()`; this noun mirrors that order and never steers by a position it has not seen.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::core::backoff::Pauses;
use crate::core::ids::SlotId;
use crate::core::ordered::Few;
use crate::os::listen::{self, SlotState, SocketType};
use crate::os::ready;
use crate::os::steer::{self, Rule, Share};
use crate::supervisor::sockets::listener::{self, ListenerError};

/// Between tries to repair a group.
const REPAIRS: Pauses = Pauses::doubling(1, 1_000);

/// What the slots of a group carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// TCP connections. A slot joins its group with `listen()`.
    Stream,
    /// UDP datagrams. A slot joins its group with `bind()`, and nothing takes it out.
    Datagram,
}

/// One stable address and its slots.
#[derive(Debug)]
pub struct Group {
    kind: Kind,
    address: SocketAddr,
    backlog: u32,
    slots: Few<SlotId, OwnedFd>,
    /// The group as the kernel has it: position n is the slot `order[n]`.
    order: Vec<SlotId>,
    target: Vec<(SlotId, u32)>,
    rules: Vec<(SocketAddr, SlotId)>,
}

impl Kind {
    fn socket_type(self) -> SocketType {
        match self {
            Self::Stream => SocketType::STREAM,
            Self::Datagram => SocketType::DGRAM,
        }
    }
}

impl Group {
    /// A group without slots: nothing listens yet.
    #[must_use]
    pub fn new(kind: Kind, address: SocketAddr, backlog: u32) -> Self {
        Self {
            kind,
            address,
            backlog,
            slots: Few::default(),
            order: Vec::new(),
            target: Vec::new(),
            rules: Vec::new(),
        }
    }

    /// Takes over slots from the supervisor before, in the order that one noted. Slots it did not
    /// come to open are opened now. The calling code sets the steering next; until then the kernel
    /// goes on with the program it has.
    ///
    /// # Errors
    /// When a slot cannot be opened.
    pub fn adopt(
        &mut self,
        slots: Vec<(SlotId, OwnedFd)>,
        order: Vec<SlotId>,
    ) -> Result<(), ListenerError> {
        self.slots = slots.into_iter().collect();
        self.order = order;
        self.order.retain(|id| self.slots.contains_key(id));
        let unknown: Vec<SlotId> =
            self.slots.keys().filter(|id| !self.order.contains(id)).copied().collect();
        for id in unknown {
            // It was kept, and maybe listened, just before the end of the one before.
            self.order.push(id);
            self.relisten(id)?;
        }
        self.repair().map(drop)
    }

    /// What it carries.
    #[must_use]
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The address it has.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A new slot, bound and outside of the group. The first proves that no other process listens.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub fn create(&self) -> Result<(SlotId, OwnedFd), ListenerError> {
        if self.slots.is_empty() {
            listen::probe_free(self.kind.socket_type(), self.address)?;
        }
        let next = self.slots.keys().last().map_or(0, |id| id.0 + 1);
        Ok((SlotId(next), listen::slot(self.kind.socket_type(), self.address)?))
    }

    /// Brings a slot into the group, at its end.
    ///
    /// # Errors
    /// `listen(2)`'s.
    pub fn open(&mut self, id: SlotId, fd: OwnedFd) -> Result<(), ListenerError> {
        if self.kind == Kind::Stream {
            listen::listen(&fd, self.backlog).map_err(|source| self.system(source))?;
        }
        self.slots.insert(id, fd);
        self.order.push(id);
        if !self.target.is_empty() {
            self.attach()?;
        }
        Ok(())
    }

    /// A slot's descriptor.
    #[must_use]
    pub fn fd(&self, id: SlotId) -> Option<BorrowedFd<'_>> {
        self.slots.get(&id).map(AsFd::as_fd)
    }

    /// All slots.
    #[must_use]
    pub fn ids(&self) -> Vec<SlotId> {
        self.slots.keys().copied().collect()
    }

    /// The group as the kernel has it.
    #[must_use]
    pub(crate) fn order(&self) -> &[SlotId] {
        &self.order
    }

    /// Where new connections go, with weights.
    #[must_use]
    pub(crate) fn target(&self) -> &[(SlotId, u32)] {
        &self.target
    }

    /// A slot's state as the kernel has it.
    ///
    /// # Errors
    /// When there is no such slot.
    pub fn state(&self, id: SlotId) -> Result<SlotState, ListenerError> {
        let fd = self.fd(id).ok_or_else(|| self.not_there(id))?;
        match self.kind {
            Kind::Stream => listen::slot_state(fd),
            Kind::Datagram => listen::datagram_state(fd),
        }
        .map_err(|source| self.system(source))
    }

    /// The flip: from now on new connections go to these slots. Steering to where it is steered
    /// already is fine.
    ///
    /// # Errors
    /// When no program fits or the kernel takes none; then everything stays as it was.
    pub fn steer(&mut self, shares: &[(SlotId, u32)]) -> Result<(), ListenerError> {
        self.repair()?;
        if let Some((id, _)) = shares.iter().find(|(id, _)| !self.order.contains(id)) {
            return Err(self.not_there(*id));
        }
        let before = std::mem::replace(&mut self.target, shares.to_vec());
        let attached = self.attach();
        if attached.is_err() {
            self.target = before;
        }
        attached
    }

    fn attach(&self) -> Result<(), ListenerError> {
        // A target that is out of the group for a moment leaves its part to the others.
        let in_group = |id: &SlotId| self.order.contains(id);
        let position = |id: &SlotId| {
            let found = self.order.iter().position(|slot| slot == id);
            let found = found.and_then(|position| u16::try_from(position).ok());
            found.ok_or_else(|| self.not_there(*id))
        };
        let rules = self
            .rules
            .iter()
            .filter(|(_, id)| in_group(id))
            .map(|(source, id)| Ok(Rule { source: *source, position: position(id)? }))
            .collect::<Result<Vec<_>, ListenerError>>()?;
        // As long as it leads nowhere, the kernel chooses among all: a rule changes nothing for others.
        let everywhere: Vec<(SlotId, u32)> = self.order.iter().map(|id| (*id, 1)).collect();
        let target = if self.target.is_empty() { &everywhere } else { &self.target };
        let shares = target
            .iter()
            .filter(|(id, _)| in_group(id))
            .map(|(id, weight)| Ok(Share { position: position(id)?, weight: *weight }))
            .collect::<Result<Vec<_>, ListenerError>>()?;
        let n = u16::try_from(self.order.len()).unwrap_or(u16::MAX);
        let program = steer::program(&rules, &shares, n)?;
        let Some(any) = self.order.first().and_then(|id| self.fd(*id)) else { return Ok(()) };
        steer::attach(any, &program).map_err(|source| self.system(source))
    }

    /// Opens again what a program took out of the group with `shutdown()`, and mirrors what the
    /// kernel did to the order: the last member moved into the hole (Linux 4.5 and later,
    /// `reuseport_detach_sock`), the reopened one joins at the end. A slot that cannot be opened
    /// yet (`EADDRINUSE` while the program's `shutdown()` is still at it) is tried again later.
    ///
    /// When several are gone at once, the order in which they went is unknown; the positions of
    /// the others are then proven by [`prove`] before they are used for a new program.
    ///
    /// # Errors
    /// When the kernel takes no program.
    pub fn repair(&mut self) -> Result<Vec<SlotId>, ListenerError> {
        let gone: Vec<SlotId> =
            self.order.iter().filter(|id| !self.is_listening(**id)).copied().collect();
        for id in &gone {
            if let Some(hole) = self.order.iter().position(|slot| slot == id) {
                self.order.swap_remove(hole);
            }
        }
        let mut reopened = Vec::new();
        for id in self.ids().into_iter().filter(|id| !self.order.contains(id)) {
            if self.relisten(id).is_ok() {
                reopened.push(id);
            }
        }
        self.order.extend(&reopened);
        let moved = !gone.is_empty() || !reopened.is_empty();
        if moved && !self.target.is_empty() {
            self.attach()?;
        }
        Ok(reopened)
    }

    /// Whether every slot is in the group: as long as this holds, no position has moved.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.order.len() == self.slots.len() && self.order.iter().all(|id| self.is_listening(*id))
    }

    fn is_listening(&self, id: SlotId) -> bool {
        self.state(id).is_ok_and(|state| state.is_listening)
    }

    /// Gives a slot its configured backlog again.
    ///
    /// # Errors
    /// `listen(2)`'s.
    pub fn relisten(&self, id: SlotId) -> Result<(), ListenerError> {
        let fd = self.fd(id).ok_or_else(|| self.not_there(id))?;
        match self.kind {
            Kind::Stream => listen::listen(fd, self.backlog).map_err(|source| self.system(source)),
            Kind::Datagram => Ok(()),
        }
    }

    /// Sends what comes from this source to one slot: a probe's way. Port 0 is any port.
    ///
    /// # Errors
    /// When the kernel takes no program.
    pub(crate) fn add_rule(&mut self, source: SocketAddr, id: SlotId) -> Result<(), ListenerError> {
        self.rules.push((source, id));
        self.attach()
    }

    /// Takes a probe's way out again.
    pub(crate) fn remove_rule(&mut self, source: SocketAddr) {
        self.rules.retain(|(rule, _)| *rule != source);
        if let Err(error) = self.attach() {
            tracing::error!(address = %self.address, %error, "taking a probe's rule out");
        }
    }

    /// The order was measured; it leads nowhere until it is steered.
    pub(super) fn set_order(&mut self, order: Vec<SlotId>) {
        self.order = order;
        self.target.clear();
    }

    /// Swaps the mirrored places of two slots: a measurement has shown them so.
    fn swap(&mut self, a: usize, b: usize) {
        self.order.swap(a, b);
    }

    /// Closes everything: from here on connections are refused.
    pub fn close_all(&mut self) {
        self.slots.clear();
        self.order.clear();
        self.target.clear();
        self.rules.clear();
    }

    fn not_there(&self, id: SlotId) -> ListenerError {
        ListenerError::NotThere { id, address: self.address.to_string() }
    }

    fn system(&self, source: io::Error) -> ListenerError {
        ListenerError::System { address: self.address.to_string(), source }
    }
}

/// Takes a probe's rule out again, also when the probe is cancelled.
struct RuleGuard {
    group: Rc<RefCell<Group>>,
    source: SocketAddr,
}

impl Drop for RuleGuard {
    fn drop(&mut self) {
        self.group.borrow_mut().remove_rule(self.source);
    }
}

/// Connects to exactly this slot on the listener's real address. No other connection is touched:
/// the rule names this one source. There is no timeout here: the calling code bounds the time.
///
/// # Errors
/// When the connection is refused or the rule cannot be set.
pub async fn probe_connect(
    group: &Rc<RefCell<Group>>,
    id: SlotId,
) -> Result<TcpStream, ListenerError> {
    let address = group.borrow().address();
    let target = listen::reachable(address);
    let system = |source| group.borrow().system(source);
    let (fd, source) = listen::probe_socket(target).map_err(system)?;
    group.borrow_mut().repair()?;
    if !group.borrow().is_listening(id) {
        return Err(ListenerError::Shut { id, address: address.to_string() });
    }
    group.borrow_mut().add_rule(source, id)?;
    // The handshake finds its way by the rule; once it is done the rule is not needed.
    let guard = RuleGuard { group: Rc::clone(group), source };
    let socket = tokio::net::TcpSocket::from_std_stream(std::net::TcpStream::from(fd));
    let stream = socket.connect(target).await.map_err(system)?;
    drop(guard);
    // A slot that was shut meanwhile has moved the others: it is unknown which slot was reached.
    if !group.borrow().is_whole() {
        return Err(ListenerError::Shut { id, address: address.to_string() });
    }
    Ok(stream)
}

/// Repairs the group as soon as a program shuts a slot down (the kernel reports `EPOLLHUP`): until
/// then positions are wrong. `noted` is called when the order has changed. Nothing wakes up before.
pub async fn mend(group: &Rc<RefCell<Group>>, id: SlotId, noted: impl Fn()) {
    loop {
        // tokio holds a hang-up for final, so each one takes a registration of its own.
        let slot = group.borrow().fd(id).and_then(|fd| fd.try_clone_to_owned().ok());
        let Some(slot) = slot.and_then(|slot| ready::hang_up(slot).ok()) else { return };
        if slot.writable().await.is_err() {
            return;
        }
        drop(slot);
        let mut backoff = REPAIRS.begin();
        while group.borrow().fd(id).is_some() && !group.borrow().is_whole() {
            if let Err(error) = group.borrow_mut().repair() {
                tracing::error!(slot = %id, %error, "repairing a group");
            }
            noted();
            tokio::time::sleep(backoff.pause()).await;
        }
    }
}

/// Connects as any user would.
///
/// # Errors
/// `connect(2)`'s.
pub(crate) async fn connect(group: &Rc<RefCell<Group>>) -> io::Result<TcpStream> {
    let target = listen::reachable(group.borrow().address());
    TcpStream::connect(target).await
}

/// What [`prove`] has found.
#[derive(Debug)]
#[must_use]
pub enum Proof {
    /// The slot is at its position in the order, and no connection waits in it.
    Here,
    /// Late connections wait in the slot, so it cannot be used. One of them may have been taken out
    /// in place of our own connection.
    Occupied(Option<std::net::TcpStream>),
}

/// Shows that a slot is at its position in the order, before a program gets it: a connection sent
/// there must lie in its queue. The slot must be idle. When it is elsewhere among the idle ones,
/// the order is set right.
///
/// Only our own connection is taken out of the queue, and that only where it lies alone.
///
/// # Errors
/// [`ListenerError::Lost`] when it is at no position.
pub async fn prove(group: &Rc<RefCell<Group>>, id: SlotId) -> Result<Proof, ListenerError> {
    let address = group.borrow().address();
    if group.borrow().state(id)?.n_queued > 0 {
        return Ok(Proof::Occupied(None));
    }
    match arrives(group, id, id).await? {
        Arrival::Elsewhere => {}
        Arrival::Here => return Ok(Proof::Here),
        Arrival::Among(client) => return Ok(Proof::Occupied(client)),
    }
    let others: Vec<SlotId> = group.borrow().order().to_vec();
    for other in others.into_iter().filter(|other| *other != id) {
        match arrives(group, other, id).await? {
            Arrival::Elsewhere => continue,
            Arrival::Here => {}
            Arrival::Among(client) => return Ok(Proof::Occupied(client)),
        }
        let mut group = group.borrow_mut();
        let place = |wanted| group.order().iter().position(|slot| *slot == wanted);
        if let (Some(a), Some(b)) = (place(id), place(other)) {
            group.swap(a, b);
        }
        tracing::warn!(%address, slot = %id, "found a slot at another position of its group");
        if !group.target().is_empty() {
            group.attach()?;
        }
        return Ok(Proof::Here);
    }
    Err(listener::lost(&group.borrow(), id))
}

/// Where a connection of our own has arrived.
enum Arrival {
    /// In the slot, alone; it is taken out again.
    Here,
    /// Not there.
    Elsewhere,
    /// Others are there, and maybe ours; the one that had the place of ours, when it was taken.
    Among(Option<std::net::TcpStream>),
}

/// Whether a connection sent to the position of `at` lies in the empty queue of `expected`.
async fn arrives(
    group: &Rc<RefCell<Group>>,
    at: SlotId,
    expected: SlotId,
) -> Result<Arrival, ListenerError> {
    let stream = probe_connect(group, at).await?;
    let ours = stream.local_addr().ok();
    let mut n_queued = 0;
    // connect() has returned, so the server's side is complete up to one loopback packet.
    for _ in 0..50 {
        n_queued = group.borrow().state(expected)?.n_queued;
        if n_queued > 0 || at != expected {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    match n_queued {
        0 => Ok(Arrival::Elsewhere),
        1 => Ok(match take_one(group, expected)? {
            // A process that we do not know of has accepted it.
            None => Arrival::Among(None),
            Some(first) if first.peer_addr().ok() == ours => Arrival::Here,
            caller => Arrival::Among(caller),
        }),
        _ => Ok(Arrival::Among(None)),
    }
}

/// Takes the first connection out of an idle slot's queue, without ever waiting: a program that has
/// gone may have left another process behind that accepts there too. The slot is blocking
/// afterwards.
fn take_one(
    group: &Rc<RefCell<Group>>,
    id: SlotId,
) -> Result<Option<std::net::TcpStream>, ListenerError> {
    let group = group.borrow();
    let fd = group.fd(id).ok_or_else(|| group.not_there(id))?;
    let taken = || -> io::Result<Option<std::net::TcpStream>> {
        listen::set_nonblocking(fd)?;
        let accepted = listen::accept(fd);
        listen::set_blocking(fd)?;
        match accepted {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            accepted => accepted.map(Some),
        }
    };
    taken().map_err(|source| group.system(source))
}
