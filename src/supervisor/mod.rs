//! The supervisor.

pub mod protocol;
