//! The keeper: the error kernel of Halley, and every service process's parent.
//!
//! It is single-threaded and synchronous and does nothing clever, so it does not die; a second
//! thread reads what may never come, other processes' memory, and no descriptor is its. It holds
//! every descriptor that must outlive a crash of the supervisor, starts children and signals them
//! on request, keeps each exit status until it is acknowledged, and starts the supervisor again
//! when that dies. It must never read configuration, know a release, or block on another process.
//! A panic would end it, so nothing here may index or slice, tests aside.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::string_slice))]

mod calls;
mod children;
pub mod estate;
mod keeping;
mod outputs;
mod own_listeners;
mod own_ports;
pub mod protocol;
mod setup;
mod supervised;

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;

use crate::keeper::estate::{Estate, remains};
use crate::os;

pub use crate::keeper::setup::Setup;

/// The environment name of the socket that a supervisor inherits.
pub const LINK: &str = "HALLEY_KEEPER_FD";

/// Why there is no keeper.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {source}")]
pub struct KeeperError {
    /// What was being done.
    pub step: &'static str,
    /// The system's error.
    #[source]
    pub source: io::Error,
}

/// Runs the keeper until it is asked to stop. `held` is to be held for life: the lock of the root
/// comes first. What a keeper has left that was killed with its supervisor is in the record.
///
/// # Errors
/// When it cannot be set up. Once it runs it does not fail.
pub fn run(setup: Setup, mut held: Vec<OwnedFd>, record: &Path) -> Result<ExitCode, KeeperError> {
    match remains::found(record, &setup, &mut held, os::notify::stored()) {
        Some(estate) => keeping::Keeper::inherit(estate)?.run(),
        None => keeping::Keeper::new(setup, held)?.run(),
    }
}

/// Takes the place of a keeper that stands in for one that was killed, and runs until it is asked to
/// stop. `None` when there is none: who has the lock was started by somebody.
#[must_use]
pub fn take_over(setup: Setup) -> Option<Result<ExitCode, KeeperError>> {
    // The one that stands in has all of it.
    drop(os::notify::stored());
    let estate = Estate::ask_for(setup).ok()?;
    if let Some(lock) = estate.held.first() {
        os::fs::name_holder(lock, &holder());
    }
    Some(keeping::Keeper::inherit(estate).and_then(keeping::Keeper::run))
}

/// The `main` of a keeper that takes another one's place; its one argument is the number of the memory
/// with the [`Estate`].
#[must_use]
pub fn main(args: &[OsString]) -> ExitCode {
    os::log_to_stderr();
    let number = args.first().and_then(|arg| arg.to_str()?.parse().ok());
    let kept_on = os::keep_private().and_then(|()| {
        let estate = Estate::found(number.unwrap_or_default())?;
        if let Some(lock) = estate.held.first() {
            os::fs::name_holder(lock, &holder());
        }
        Ok(estate)
    });
    let keeper = match kept_on {
        Ok(estate) => keeping::Keeper::inherit(estate),
        Err(source) => Err(KeeperError { step: "taking over what another keeper had", source }),
    };
    match keeper.and_then(keeping::Keeper::run) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!(%error, "the keeper stops; halley-sup run starts one");
            ExitCode::from(1)
        }
    }
}

/// What the lock of the root names its holder.
#[must_use]
pub fn holder() -> String {
    format!("halley-sup run, pid {}", std::process::id())
}

/// The supervisor's end of its socket to the keeper.
///
/// # Errors
/// When this process was not started by a keeper.
pub fn link_from_env() -> io::Result<OwnedFd> {
    crate::os::proc::inherited(LINK)
}
