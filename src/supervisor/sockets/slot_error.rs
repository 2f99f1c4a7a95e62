//! Why a service has no socket.

use crate::os::listen::ListenError;
use crate::supervisor::processes::keeper_client::LinkError;
use crate::supervisor::sockets::listener::ListenerError;

/// Why a service has no socket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SlotError {
    /// The address could not be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The group could not be steered.
    #[error(transparent)]
    Listener(#[from] ListenerError),
    /// The keeper would not keep it.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The service has been taken down meanwhile.
    #[error("its listeners are closed")]
    Gone,
    /// The note of the group's order.
    #[error("noting the order of the slots: {0}")]
    Note(#[from] std::io::Error),
}

impl SlotError {
    /// A process that is not known has it, or its place.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self, Self::Listener(ListenerError::Lost { .. }))
    }
}
