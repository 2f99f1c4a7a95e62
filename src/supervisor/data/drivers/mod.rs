//! The drivers of backups, one file a driver.

mod command;
mod files;
mod postgres;
mod sql_answer;
mod sqlite;

use crate::config::model::Driver as Configured;
use crate::supervisor::data::driver::Driver;

/// The driver of each kind.
pub(super) fn of(configured: &Configured) -> &dyn Driver {
    match configured {
        Configured::Sqlite(sqlite) => sqlite,
        Configured::Postgres(postgres) => postgres,
        Configured::Files(files) => files,
        Configured::Command(command) => command,
    }
}
