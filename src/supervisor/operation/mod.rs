//! One operation, from its admission to its conclusion.
//!
//! The core's machine decides; this room performs one phase at a time. It must never hold a second
//! way back: a rollback is the same machine, entered elsewhere.

pub(crate) mod admission;
pub(crate) mod alarm;
pub(crate) mod conclude;
pub(crate) mod context;
pub(crate) mod dry_run;
pub(crate) mod hooks;
pub(crate) mod opened;
pub(crate) mod phases;
pub(crate) mod postmortem;
pub(crate) mod restore;
pub(crate) mod resume;
pub(crate) mod runner;
pub(crate) mod start_last_good;
pub(crate) mod stop;
pub(crate) mod unresumed;
