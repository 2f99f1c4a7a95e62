//! A listener: a stable address, its slots, and where new connections go.
//!
//! Of two makes: a [`Group`] of sockets that share an internet address, steered by a program in
//! the kernel, or a `Door`, the path of a unix socket, steered by renames.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use crate::config::model::{self, Listen};
use crate::core::ids::SlotId;
use crate::os::launch_spec::CatchAt;
use crate::os::listen::{self, ListenError, SlotState};
use crate::os::local::Access;
use crate::os::steer::ProgramError;
use crate::os::{clock, proc};
use crate::supervisor::sockets::reuseport_group::{self, Group, Kind};
use crate::supervisor::sockets::stream::Stream;
use crate::supervisor::sockets::unix_listener::Door;
use crate::supervisor::spawn;

/// A listener that several tasks look at.
#[derive(Debug, Clone)]
pub enum Listener {
    /// An internet address.
    Group(Rc<RefCell<Group>>),
    /// A unix socket's path.
    Door(Rc<RefCell<Door>>),
}

/// Why a listener cannot do it.
#[derive(Debug, thiserror::Error)]
pub enum ListenerError {
    /// The address cannot be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// No steering program fits.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// A slot that is not one of this listener's.
    #[error("slot {id} is not in the group of {address}")]
    NotThere {
        /// The slot.
        id: SlotId,
        /// The listener.
        address: String,
    },
    /// A program shut a slot of the group down.
    #[error("the program has shut down the socket it was given (slot {id} of {address})")]
    Shut {
        /// The slot that was to be reached.
        id: SlotId,
        /// The listener.
        address: String,
    },
    /// A connection meant for a slot did not arrive there.
    #[error("slot {id} of {address} cannot be found in its group: {why}")]
    Lost {
        /// The slot.
        id: SlotId,
        /// The listener.
        address: String,
        /// Who may have it.
        why: String,
    },
    /// The system's own reason.
    #[error("{address}: {source}")]
    System {
        /// The listener.
        address: String,
        /// The error.
        #[source]
        source: io::Error,
    },
}

/// Who else listens at the address of a group.
pub(crate) fn stranger(group: &Group) -> Option<String> {
    let slots = group.ids().into_iter().filter_map(|id| group.fd(id));
    let own = slots.filter_map(|slot| listen::inode(slot).ok()).collect();
    listen::stranger(group.address(), &own)
}

/// That a slot is at no place of its group, with who may have it.
pub(super) fn lost(group: &Group, id: SlotId) -> ListenerError {
    let why = match (stranger(group), group.fd(id)) {
        (Some(stranger), _) => format!("{stranger} listens there as well"),
        (None, Some(fd)) => format!("{} accepts from it", listen::other_holder(fd)),
        (None, None) => "it is closed".to_owned(),
    };
    ListenerError::Lost { id, address: group.address().to_string(), why }
}

impl Listener {
    /// A listener without slots: no socket listens yet.
    #[must_use]
    pub(crate) fn new(listen: &Listen, backlog: u32, file: &model::SocketFile) -> Self {
        let group = |kind, address: &std::net::SocketAddr| {
            Self::Group(Rc::new(RefCell::new(Group::new(kind, *address, backlog))))
        };
        match listen {
            Listen::Tcp(address) => group(Kind::Stream, address),
            Listen::Udp(address) => group(Kind::Datagram, address),
            Listen::Unix(path) => {
                let door = Door::new(path.clone(), access(file), backlog);
                Self::Door(Rc::new(RefCell::new(door)))
            }
        }
    }

    /// Takes over slots from the supervisor before, in the order that one noted.
    ///
    /// # Errors
    /// When a slot cannot be opened.
    pub(crate) fn adopt(
        &self,
        slots: Vec<(SlotId, OwnedFd)>,
        order: Vec<SlotId>,
    ) -> Result<(), ListenerError> {
        match self {
            Self::Group(group) => group.borrow_mut().adopt(slots, order),
            Self::Door(door) => {
                door.borrow_mut().adopt(slots);
                Ok(())
            }
        }
    }

    /// A new slot, outside of its listener yet.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub(crate) fn create(&self) -> Result<(SlotId, OwnedFd), ListenerError> {
        match self {
            Self::Group(group) => group.borrow().create(),
            Self::Door(door) => door.borrow().create(),
        }
    }

    /// Brings a new slot in.
    ///
    /// # Errors
    /// `listen(2)`'s.
    pub(crate) fn open(&self, id: SlotId, fd: OwnedFd) -> Result<(), ListenerError> {
        match self {
            Self::Group(group) => group.borrow_mut().open(id, fd),
            Self::Door(door) => door.borrow_mut().open(id, fd),
        }
    }

    /// All slots.
    #[must_use]
    pub(crate) fn ids(&self) -> Vec<SlotId> {
        match self {
            Self::Group(group) => group.borrow().ids(),
            Self::Door(door) => door.borrow().ids(),
        }
    }

    /// The order of the slots as the kernel has it; a door has none.
    #[must_use]
    pub(crate) fn order(&self) -> Vec<SlotId> {
        match self {
            Self::Group(group) => group.borrow().order().to_vec(),
            Self::Door(door) => door.borrow().ids(),
        }
    }

    /// Whether new connections go to this slot.
    #[must_use]
    pub(crate) fn leads_to(&self, id: SlotId) -> bool {
        match self {
            Self::Group(group) => group.borrow().target().iter().any(|(slot, _)| *slot == id),
            Self::Door(door) => door.borrow().target() == Some(id),
        }
    }

    /// Whether new connections go anywhere.
    #[must_use]
    pub(crate) fn leads_nowhere(&self) -> bool {
        match self {
            Self::Group(group) => group.borrow().target().is_empty(),
            Self::Door(door) => door.borrow().target().is_none(),
        }
    }

    /// The flip: from now on new connections go to these slots.
    ///
    /// # Errors
    /// When it cannot be done; then everything stays as it was.
    pub(crate) fn steer(&self, shares: &[(SlotId, u32)]) -> Result<(), ListenerError> {
        match self {
            Self::Group(group) => group.borrow_mut().steer(shares),
            Self::Door(door) => match shares.first() {
                Some((id, _)) => door.borrow_mut().steer(*id),
                None => Err(ListenerError::Program(ProgramError::NoShare)),
            },
        }
    }

    /// Mends what programs have done to the listener; the slots that were opened again.
    ///
    /// # Errors
    /// When it cannot be mended.
    pub(crate) fn repair(&self) -> Result<Vec<SlotId>, ListenerError> {
        match self {
            Self::Group(group) => group.borrow_mut().repair(),
            Self::Door(door) => door.borrow_mut().repair().map(|()| Vec::new()),
        }
    }

    /// Gives a slot its configured backlog again.
    ///
    /// # Errors
    /// `listen(2)`'s.
    pub(crate) fn relisten(&self, id: SlotId) -> Result<(), ListenerError> {
        match self {
            Self::Group(group) => group.borrow().relisten(id),
            Self::Door(door) => door.borrow().relisten(id),
        }
    }

    /// A slot's state as the kernel has it.
    ///
    /// # Errors
    /// When there is no such slot.
    pub(crate) fn state(&self, id: SlotId) -> Result<SlotState, ListenerError> {
        match self {
            Self::Group(group) => group.borrow().state(id),
            Self::Door(door) => door.borrow().state(id),
        }
    }

    /// A duplicate of a slot's descriptor.
    #[must_use]
    pub(crate) fn fd(&self, id: SlotId) -> Option<OwnedFd> {
        match self {
            Self::Group(group) => group.borrow().fd(id)?.try_clone_to_owned().ok(),
            Self::Door(door) => door.borrow().fd(id)?.as_fd().try_clone_to_owned().ok(),
        }
    }

    /// Makes accepting from a slot wait again, as a program expects it.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn set_blocking(&self, id: SlotId) -> io::Result<()> {
        self.fd(id).map_or(Ok(()), listen::set_blocking)
    }

    /// Whether it takes connections, not datagrams.
    #[must_use]
    pub(crate) fn is_stream(&self) -> bool {
        match self {
            Self::Group(group) => group.borrow().kind() == Kind::Stream,
            Self::Door(_) => true,
        }
    }

    /// Whether it is a path, which leads to one place.
    #[must_use]
    pub(crate) fn is_door(&self) -> bool {
        matches!(self, Self::Door(_))
    }

    /// The group, where connections are counted and steered one by one.
    #[must_use]
    pub(crate) fn stream_group(&self) -> Option<&Rc<RefCell<Group>>> {
        match self {
            Self::Group(group) if group.borrow().kind() == Kind::Stream => Some(group),
            Self::Group(_) | Self::Door(_) => None,
        }
    }

    /// The address that a program asks for when it shall get a slot of this listener.
    #[must_use]
    pub(crate) fn catch(&self) -> CatchAt {
        match self {
            Self::Group(group) => {
                let group = group.borrow();
                match group.kind() {
                    Kind::Stream => CatchAt::Tcp(group.address()),
                    Kind::Datagram => CatchAt::Udp(group.address()),
                }
            }
            Self::Door(door) => CatchAt::Unix(door.borrow().public().to_owned()),
        }
    }

    /// The address, as the configuration writes it.
    #[must_use]
    pub(crate) fn text(&self) -> String {
        match self.catch() {
            CatchAt::Tcp(address) => Listen::Tcp(address).to_string(),
            CatchAt::Udp(address) => Listen::Udp(address).to_string(),
            CatchAt::Unix(path) => Listen::Unix(path).to_string(),
        }
    }

    /// Closes everything: from here on connections are refused.
    pub(crate) fn close_all(&self) {
        match self {
            Self::Group(group) => group.borrow_mut().close_all(),
            Self::Door(door) => door.borrow_mut().close_all(),
        }
    }
}

fn access(file: &model::SocketFile) -> Access {
    let user = file.user.as_deref().and_then(proc::user);
    let group = match &file.group {
        Some(name) => proc::group(name),
        None => user.as_ref().map(|user| user.gid),
    };
    Access { mode: file.mode, owner: (user.map(|user| user.uid), group) }
}

/// Connects to exactly this slot. There is no timeout here: the calling code bounds the time.
///
/// # Errors
/// When the connection is refused, or the slot cannot be reached.
pub(crate) async fn probe_connect(
    listener: &Listener,
    id: SlotId,
) -> Result<Stream, ListenerError> {
    match listener {
        Listener::Group(group) if group.borrow().kind() == Kind::Datagram => {
            let address = group.borrow().address().to_string();
            let source = io::Error::new(io::ErrorKind::Unsupported, "datagrams have no connection");
            Err(ListenerError::System { address, source })
        }
        Listener::Group(group) => reuseport_group::probe_connect(group, id).await.map(Stream::Tcp),
        Listener::Door(door) => {
            let own = door.borrow().path_of(id);
            let address = format!("unix:{}", own.display());
            let connected = Stream::unix(&own).await;
            connected.map_err(|source| ListenerError::System { address, source })
        }
    }
}

/// Connects as any user would.
///
/// # Errors
/// `connect(2)`'s.
pub(crate) async fn connect(listener: &Listener) -> io::Result<Stream> {
    match listener {
        Listener::Group(group) => reuseport_group::connect(group).await.map(Stream::Tcp),
        Listener::Door(door) => {
            let public = door.borrow().public().to_owned();
            Stream::unix(public).await
        }
    }
}

/// What [`settle`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// Connections still in the left slots' queues.
    pub n_queued: u32,
    /// Handshakes that were half open at the flip and still are.
    pub n_half_open: usize,
    /// How long it took.
    pub ms: u64,
}

/// After a flip: waits until the left slots' queues are empty and every handshake that was half
/// open is over, at most `limit`. A connection that still arrives later is a straggler.
pub async fn settle(listener: &Listener, left: &[SlotId], limit: Duration) -> Settled {
    let begun = clock::tick();
    let port = listener.stream_group().map(|group| group.borrow().address().port());
    let mut half_open = half_open_at(port).await;
    loop {
        if !half_open.is_empty() {
            let present = half_open_at(port).await;
            half_open.retain(|remote| present.contains(remote));
        }
        // Later: a handshake that is over is in a queue.
        let states = left.iter().map(|id| listener.state(*id));
        let n_queued = states.filter_map(|s| s.ok().map(|s| s.n_queued)).sum();
        let ms = clock::tick().since_ms(begun);
        let settled = Settled { n_queued, n_half_open: half_open.len(), ms };
        let over = n_queued == 0 && half_open.is_empty();
        if over || u128::from(ms) >= limit.as_millis() {
            return settled;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The kernel looks at every socket for it, which takes long where there are many.
async fn half_open_at(port: Option<u16>) -> BTreeSet<SocketAddr> {
    let Some(port) = port else { return BTreeSet::new() };
    spawn::blocking(move || listen::half_open(port)).await.unwrap_or_default()
}
