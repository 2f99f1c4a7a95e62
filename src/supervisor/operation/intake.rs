//! An artifact on its way in: from the client's descriptor to a tree in `staging/`. The phases of
//! [`receive`](super::phases::receive) move it; the undo calls it off.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::config::model::{Own, Settings};
use crate::store::intake::Received;
use crate::store::seal::Listing;

/// An artifact on its way in.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    /// The artifact, until it is received.
    pub source: Option<OwnedFd>,
    /// What came in.
    pub received: Option<Received>,
    /// The staged tree.
    pub staged: Option<Staged>,
    /// Set to call the intake's thread off.
    pub cancelled: Arc<AtomicBool>,
    /// Held by the intake's thread until it has let go of its files.
    pub idle: Arc<tokio::sync::Mutex<()>>,
}

/// A tree in `staging/`, with its listing and what its `release.toml` sets.
#[derive(Debug)]
pub(crate) struct Staged {
    /// Where it is.
    pub dir: PathBuf,
    /// What is in it.
    pub listing: Arc<Listing>,
    /// The settings it will run with.
    pub settings: Settings,
    /// Which of them it has set itself.
    pub own: Own,
    /// Its own version.
    pub label: Option<String>,
}

impl Intake {
    /// The intake of an artifact that the client has opened.
    pub(crate) fn of(source: OwnedFd) -> Self {
        Self { source: Some(source), ..Self::default() }
    }

    /// Calls the thread off, and waits until it has let go of its files.
    pub(crate) async fn call_off(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
        drop(self.idle.lock().await);
    }
}
