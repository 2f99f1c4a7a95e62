//! Data: backup, migration, restore.
//!
//! This room is the only one that reads or replaces a service's data. It must never begin, end or
//! roll back a release.

pub mod backup;
mod context;
mod driver;
mod drivers;
pub mod migration;
mod site;
pub mod trial_migration;
