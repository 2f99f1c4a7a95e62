//! The points of a release around which hooks run.

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Point {
    /// Before the data is migrated.
    BeforeMigrate,
    /// Before the candidate is started; in turn, before its connections are held.
    BeforeStart,
    /// When the gate is open, before any connection goes to the candidate.
    BeforeFlip,
    /// When all connections go to it, beside the bake.
    AfterFlip,
    /// When it is the last good one.
    AfterCommit,
    /// When an older release serves again: that one's.
    AfterRollback,
    /// Before a release that was replaced is asked to stop: that one's.
    BeforeStop,
}

named!(Point {
    BeforeMigrate = "before_migrate",
    BeforeStart = "before_start",
    BeforeFlip = "before_flip",
    AfterFlip = "after_flip",
    AfterCommit = "after_commit",
    AfterRollback = "after_rollback",
    BeforeStop = "before_stop",
});

impl Point {
    /// All of them, in the order of a release.
    pub const ALL: [Self; 7] = [
        Self::BeforeMigrate,
        Self::BeforeStart,
        Self::BeforeFlip,
        Self::AfterFlip,
        Self::AfterCommit,
        Self::AfterRollback,
        Self::BeforeStop,
    ];

    /// Whether its hooks run when traffic has moved: their failure changes no outcome.
    #[must_use]
    pub const fn is_afterwards(self) -> bool {
        matches!(self, Self::AfterFlip | Self::AfterCommit | Self::AfterRollback)
    }
}
