//! Why a service could not be taken over.

use std::io;

use crate::core::ids::OpId;
use crate::store::state::StateError;
use crate::store::{journal, release};
use crate::supervisor::sockets::slots::SlotError;

/// Why a service could not be taken over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootError {
    /// Its listeners.
    #[error(transparent)]
    Slot(#[from] SlotError),
    /// Its state.
    #[error(transparent)]
    State(#[from] StateError),
    /// Its journal.
    #[error(transparent)]
    Journal(#[from] journal::JournalError),
    /// Its files.
    #[error(transparent)]
    Release(#[from] release::ReleaseError),
    /// It is taken over already.
    #[error("operation {0} runs already")]
    Runs(OpId),
    /// The system's own reason.
    #[error(transparent)]
    System(#[from] io::Error),
}
