//! Listeners, the slots of each, and where connections go.
//!
//! This room binds, steers, mends and relays. It must never know a release or an operation: a slot is
//! given to a process by its number alone.

pub mod abandoned_slots;
pub mod backend_address;
pub mod http_client;
pub mod listener;
pub mod relay;
pub mod reuseport_group;
pub mod slots;
pub mod stream;
pub mod unix_listener;
