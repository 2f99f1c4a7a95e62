//! Several releases as one: a set, from its admission to its conclusion.
//!
//! This room releases and rolls back by ordinary operations of the members. It must never touch a
//! process or a listener itself.

pub mod admission;
pub mod conclude;
pub mod progress;
pub mod resume;
pub mod runner;
