//! One operation, from its admission to its conclusion.
//!
//! The core's machine decides; this room performs one phase at a time. It must never hold a second
//! way back: a rollback is the same machine, entered elsewhere.
//!
//! What an operation owns is cut into values, one file each: what it set out to do
//! ([`assignment`], which never changes), the artifact on its way in ([`intake`]), the rungs that
//! are started cold ([`cold_rungs`]), what was seen of processes ([`watching`]), and what it has found
//! out ([`findings`]). The [`job`] holds them and hands each phase those that the phase reads or
//! writes; what a phase finds, it returns.

pub(crate) mod admission;
mod adopt;
pub(crate) mod alarm;
pub(crate) mod assignment;
mod boot_error;
pub(crate) mod cold_rungs;
pub(crate) mod conclude;
pub(crate) mod dry_run;
pub(crate) mod findings;
pub(crate) mod hooks;
pub(crate) mod intake;
pub(crate) mod job;
pub(crate) mod opened;
pub(crate) mod phases;
pub(crate) mod postmortem;
#[cfg(test)]
mod races;
mod reaction;
pub(crate) mod reload;
pub(crate) mod repair;
mod repair_work;
pub(crate) mod restore;
mod restore_choice;
pub(crate) mod restore_error;
mod restore_loss;
mod restore_plan;
pub(crate) mod restore_request;
mod restore_schema;
pub(crate) mod restore_undo;
mod restore_users;
mod resume;
pub(crate) mod runner;
pub(crate) mod start_last_good;
pub(crate) mod stop;
pub(crate) mod strangers;
pub(crate) mod take_in;
mod take_over;
pub(crate) mod unresumed;
pub(crate) mod watching;
