//! What a keeper is told once, by its arguments.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::os::launch_spec::Limits;

/// What a keeper needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Setup {
    /// The supervisor's program; this same binary when absent.
    pub supervisor: Option<OsString>,
    /// Its arguments.
    pub supervisor_args: Vec<OsString>,
    /// The program that was started, by its path.
    #[serde(default)]
    pub program: PathBuf,
    /// Where a keeper that stands in for another one hands over to the next `run`.
    #[serde(default)]
    pub handover: PathBuf,
    /// How long the supervisor may take to bring everything down.
    pub stop_deadline: Duration,
    /// What programs have that the keeper has changed for itself.
    #[serde(default)]
    pub limits: Limits,
}
