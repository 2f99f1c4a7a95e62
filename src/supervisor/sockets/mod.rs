//! Listeners, the slots of each, and where connections go.
//!
//! This room binds, steers, mends and relays. It must never know a release or an operation: a slot is
//! given to a process by its number alone.

pub(crate) mod abandoned_slots;
pub(crate) mod backend_address;
pub(crate) mod http_client;
pub(crate) mod kept_connections;
pub mod listener;
pub(crate) mod relay;
pub mod reuseport_group;
mod slot_error;
pub(crate) mod slot_order;
pub(crate) mod slots;
pub(crate) mod stream;
pub(crate) mod unix_listener;
