//! The control socket: requests come in, events go out.
//!
//! This room reads a request and calls the room that performs it. It must never decide an outcome.

pub mod dispatch;
pub mod server;
pub mod verbs;
