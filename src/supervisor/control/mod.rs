//! The control socket: requests come in, events go out.
//!
//! This room reads a request and calls the room that performs it. It must never decide an outcome.

pub(crate) mod client;
pub(crate) mod dispatch;
pub(crate) mod follow;
pub(crate) mod server;
pub(crate) mod verbs;
