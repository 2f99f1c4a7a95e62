//! Instances: start, restart, retire, scale.
//!
//! This room starts and stops processes of a release. It must never decide which release serves.

pub mod connections;
pub mod dependency_order;
pub(crate) mod drain;
pub mod restarter;
pub mod retire;
pub mod scale;
pub mod sd_notify;
pub mod start;
pub mod stop_all;
