//! Health: asks an instance whether it answers, and returns the result.
//!
//! This room must never change anything: no restart, no steering, no state.

pub mod check;
mod checker;
pub(crate) mod command;
pub(crate) mod connection;
pub mod diagnosis;
pub mod gate;
pub mod liveness;
pub mod probe;
pub(crate) mod probe_all;
pub mod route;
