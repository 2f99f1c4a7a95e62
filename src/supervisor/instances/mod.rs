//! Instances: start, restart, retire, scale; whether they are ready, and what leads to them.
//!
//! This room starts and stops processes of a release. It must never decide which release serves.

pub(crate) mod belongings;
pub(crate) mod claim;
pub(crate) mod connections;
pub(crate) mod dependency_order;
pub(crate) mod drain;
pub(crate) mod gate;
pub(crate) mod liveness;
pub(crate) mod outside_proxy;
pub(crate) mod ownership;
#[cfg(test)]
mod races;
pub(crate) mod restarter;
pub(crate) mod retire;
pub(crate) mod scale;
pub(crate) mod sd_notify;
pub(crate) mod standing;
pub(crate) mod start;
pub(crate) mod stop_all;
mod watchdog;
