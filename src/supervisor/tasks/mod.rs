//! Programs that run once, to their end: hooks, migrations, the commands of backups.
//!
//! This room runs a command and returns how it ended. It must never decide what follows from that.

pub(crate) mod before_stop;
pub(crate) mod hook_error;
pub(crate) mod hook_run;
pub(crate) mod hook_state;
pub(crate) mod task;
