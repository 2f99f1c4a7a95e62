//! Data: backup, migration, restore.
//!
//! This room is the only one that reads or replaces a service's data. It must never begin, end or
//! roll back a release.

mod aftermath;
mod alteration;
pub(crate) mod backup;
pub(crate) mod backup_schema;
mod backup_text;
mod census;
mod context;
mod doors;
mod driver;
mod drivers;
pub(crate) mod error;
pub(crate) mod fencing;
pub(crate) mod first_contact;
pub(crate) mod fresh;
mod isolation;
mod live_ports;
pub(crate) mod migration;
mod outposts;
mod relay;
pub(crate) mod replacement;
mod site;
pub(crate) mod trial_migration;
pub(crate) mod users;
