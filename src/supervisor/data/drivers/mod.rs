//! The drivers of backups, one file a driver.

pub mod command;
pub mod files;
pub mod postgres;
pub mod sqlite;
