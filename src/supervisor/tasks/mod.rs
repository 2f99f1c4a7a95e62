//! Programs that run once, to their end: hooks, migrations, the commands of backups.
//!
//! This room runs a command and returns how it ended. It must never decide what follows from that.

pub mod before_stop;
pub mod hook_run;
pub mod hook_state;
pub mod task;
