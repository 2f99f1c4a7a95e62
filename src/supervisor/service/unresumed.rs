//! An open operation whose journal has a value that this version does not know, or is damaged.
//!
//! What runs goes on serving. No operation begins until a human has closed the open one.

use crate::core::ids::OpId;

/// An open operation that is not resumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unresumed {
    /// Its number.
    pub op: OpId,
    /// The journal, the line and the value.
    pub why: String,
    /// The verb that leads out.
    pub way_out: &'static str,
    /// Its migration was announced: what the data is like is not known.
    pub may_have_migrated: bool,
}
