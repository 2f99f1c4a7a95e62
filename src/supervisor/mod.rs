//! The supervisor: performs what the core decides.
//!
//! One thread owns all state (tokio, current-thread, `Rc`). It may be killed between any two
//! instructions: what must outlive it is in the keeper's hands or on the disk.

pub mod back;
pub mod backup;
pub mod bake;
pub mod begin;
pub mod boot;
pub mod bring_in;
pub mod bring_up;
pub mod connections;
pub mod control;
pub mod door;
pub mod drill;
pub mod entry;
pub mod finish;
pub mod fleet;
pub mod freeze;
pub mod gate;
pub mod group;
pub mod guard;
pub mod hooks;
pub mod http;
pub mod in_order;
pub mod job;
pub mod label;
pub mod leave;
pub mod link;
pub mod listener;
pub mod logs;
pub mod look;
pub mod migrate;
pub mod notify;
pub mod on_copy;
pub mod oneshot;
pub mod operation;
pub mod outbox;
pub mod passers;
pub mod perform;
pub mod place;
pub mod plan;
pub mod postmortem;
pub mod preflight;
pub mod probe;
pub mod program;
pub mod protocol;
pub mod readiness;
pub mod rehearse;
pub mod report;
pub mod rest;
pub mod restore;
pub mod scale;
pub mod schema;
pub mod service;
pub mod set;
pub mod slots;
pub mod stack;
pub mod start;
pub mod status;
pub mod step;
pub mod stragglers;
pub mod turn;
pub mod verbs;
pub mod watched;
pub mod way;
pub mod wire;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::model::Config;
use crate::config::{self, Problem};

/// What this kernel allows.
#[must_use]
pub fn kernel() -> crate::config::kernel::Kernel {
    crate::config::kernel::Kernel {
        can_intercept: crate::os::intercept::is_supported(),
        somaxconn: crate::os::listen::somaxconn(),
    }
}

/// Reads the configuration, and holds it against this kernel.
///
/// # Errors
/// All that is wrong.
pub fn load(path: &std::path::Path) -> Result<Config, Vec<Problem>> {
    let config = config::load(path)?;
    let problems = config::kernel::problems(&config, path, kernel());
    if problems.is_empty() { Ok(config) } else { Err(problems) }
}

/// The hidden verb of the supervisor.
pub const VERB: &str = "supervisor";

/// The supervisor's `main`; its one argument is the configuration's path.
#[must_use]
pub fn main(args: &[OsString]) -> ExitCode {
    crate::os::log_to_stderr();
    end_on_panic();
    let Some(path) = args.first().map(PathBuf::from) else {
        tracing::error!("the keeper starts the supervisor; use halley-sup run");
        return ExitCode::from(2);
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "starting the runtime");
            return ExitCode::from(1);
        }
    };
    let local = tokio::task::LocalSet::new();
    match local.block_on(&runtime, stack::run(path)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the supervisor leaves");
            ExitCode::from(1)
        }
    }
}

/// A task that panics would leave its operation hanging for ever. A supervisor that ends is
/// replaced by one that goes on from the journal; what serves does not notice.
fn end_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!(%panic, "the supervisor ends; the next one goes on");
        std::process::abort();
    }));
}
