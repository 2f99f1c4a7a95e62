//! The supervisor: performs what the core decides.
//!
//! One thread owns all state (tokio, current-thread, `Rc`). It may be killed between any two
//! instructions: what must outlive it is in the keeper's hands or on the disk.
//!
//! It must never keep in its memory alone what has to outlive it, nor decide what the core can
//! decide.

pub(crate) mod bake;
pub(crate) mod control;
pub(crate) mod data;
pub(crate) mod health;
pub(crate) mod instances;
pub(crate) mod notify;
pub(crate) mod operation;
pub(crate) mod processes;
pub mod proxy;
pub(crate) mod release_set;
pub(crate) mod rollback_readiness;
pub(crate) mod run;
pub(crate) mod service;
pub mod sockets;
pub(crate) mod spawn;
pub(crate) mod tasks;
pub(crate) mod upgrade;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The hidden verb of the supervisor.
pub const VERB: &str = "supervisor";

/// The configuration that was last good, for a start whose files cannot be used.
pub(crate) fn last_config(path: &Path) -> Option<crate::config::model::Config> {
    service::last_config::on_disk(path).map(|(config, _)| config)
}

/// The supervisor's `main`; its one argument is the configuration's path.
#[must_use]
pub fn main(args: &[OsString]) -> ExitCode {
    crate::os::log_to_stderr();
    // A task that panics would leave its operation hanging for ever. A supervisor that ends is
    // replaced by one that goes on from the journal; what serves does not notice.
    crate::os::abort_on_panic("the supervisor ends; the next one takes over");
    let Some(path) = args.first().map(PathBuf::from) else {
        tracing::error!("the keeper starts the supervisor; use halley-sup run");
        return ExitCode::from(2);
    };
    if path.as_os_str() == upgrade::fitness::ASKED {
        return upgrade::fitness::main(VERB);
    }
    if let Err(error) = crate::os::keep_private() {
        tracing::error!(%error, "keeping files and memory from other users");
        return ExitCode::from(1);
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "starting the runtime");
            return ExitCode::from(1);
        }
    };
    let local = tokio::task::LocalSet::new();
    match local.block_on(&runtime, run::run(path)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the supervisor stops");
            ExitCode::from(1)
        }
    }
}
