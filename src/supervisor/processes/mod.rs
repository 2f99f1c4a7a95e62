//! Processes as the keeper runs them, and commands on the host.
//!
//! This room asks the keeper or the host for a process and reads its output. It must never know a
//! service, a release or an operation.

pub mod child_tag;
pub mod host_command;
pub(crate) mod keeper_child;
pub mod keeper_client;
pub mod log_files;
pub mod program_check;
