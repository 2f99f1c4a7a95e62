//! Several releases as one: a set, from its admission to its conclusion.
//!
//! This room releases and rolls back by ordinary operations of the members. It must never touch a
//! process or a listener itself.

pub(crate) mod admission;
pub(crate) mod conclude;
pub(crate) mod progress;
pub(crate) mod resume;
pub(crate) mod runner;
