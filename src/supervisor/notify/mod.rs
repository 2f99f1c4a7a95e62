//! Notifications: written to disk, then delivered to their targets.
//!
//! This room delivers messages. It must never know what a message is about.

pub(crate) mod deliver;
pub(crate) mod message;
pub(crate) mod queue;
