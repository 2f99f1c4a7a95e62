//! Processes as the keeper runs them, and the runner of commands.
//!
//! This room asks the keeper for a process and reads its output. It must never know a
//! service, a release or an operation.

pub(crate) mod child_tag;
mod copies;
pub(crate) mod decoder;
pub(crate) mod fenced;
pub(crate) mod host_command;
pub(crate) mod keeper_child;
pub(crate) mod keeper_client;
pub(crate) mod log_files;
pub(crate) mod log_lines;
pub(crate) mod log_pipe;
pub(crate) mod printed;
pub(crate) mod program_check;
#[cfg(test)]
pub(crate) mod test_keeper;
pub(crate) mod whole_tree;
