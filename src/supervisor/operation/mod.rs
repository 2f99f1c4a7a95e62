//! One operation, from its admission to its conclusion.
//!
//! The core's machine decides; this room performs one phase at a time. It must never hold a second
//! way back: a rollback is the same machine, entered elsewhere.

pub mod admission;
pub mod alarm;
pub mod conclude;
pub mod context;
pub mod dry_run;
pub mod hooks;
pub(crate) mod opened;
pub mod phases;
pub mod postmortem;
pub mod restore;
pub mod resume;
pub mod runner;
pub mod start_last_good;
pub mod stop;
pub(crate) mod unresumed;
