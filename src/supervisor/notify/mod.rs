//! Notifications: written to disk, then delivered to their targets.
//!
//! This room delivers messages. It must never know what a message is about.

pub mod deliver;
pub mod message;
pub mod queue;
