//! Health: asks an instance whether it answers, and returns the result.
//!
//! This room must never change anything: no restart, no steering, no state.

pub(crate) mod check;
mod checker;
pub(crate) mod command;
pub(crate) mod connection;
pub(crate) mod diagnosis;
pub(crate) mod probe;
pub(crate) mod probe_all;
pub(crate) mod route;
