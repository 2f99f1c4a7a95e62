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
mod keeping;
mod own_listeners;
mod own_ports;
pub mod protocol;
mod supervised;

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::time::Duration;

/// What a keeper needs to know.
#[derive(Debug)]
pub struct Setup {
    /// The supervisor's program; this same binary when absent.
    pub supervisor: Option<OsString>,
    /// Its arguments.
    pub supervisor_args: Vec<OsString>,
    /// How long the supervisor may take to bring everything down.
    pub stop_deadline: Duration,
    /// Descriptors to hold for life, such as the lock of the root.
    pub held: Vec<OwnedFd>,
}

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

/// Runs the keeper until it is asked to stop.
///
/// # Errors
/// When it cannot be set up. Once it runs it does not fail.
pub fn run(setup: Setup) -> Result<ExitCode, KeeperError> {
    keeping::Keeper::new(setup)?.run()
}

/// The supervisor's end of its socket to the keeper.
///
/// # Errors
/// When this process was not started by a keeper.
pub fn link_from_env() -> io::Result<OwnedFd> {
    crate::os::proc::inherited(LINK)
}
