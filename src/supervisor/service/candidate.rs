//! The release that an operation brings, as far as rooms below the operation must know it.

use crate::core::ids::{OpId, ReleaseId};
use crate::core::operation::machine::Succession;
use crate::core::operation::way_back::WayBack;

/// The release that an operation brings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    /// The operation's number.
    pub op: OpId,
    /// The release.
    pub release: ReleaseId,
    /// The release that a rollback would go to.
    pub back_to: Option<ReleaseId>,
    /// Whether a reason was given why a rollback will not be wanted.
    pub way_back: WayBack,
    /// Which supervisor began the operation.
    pub begun_by: BegunBy,
    /// How old and new meet, as it was configured when the operation began.
    pub succession: Succession,
}

/// Which supervisor began an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BegunBy {
    /// This one.
    Us,
    /// One before this one, which died.
    Predecessor,
}
