//! Notifications to operators and other programs.

/// What a notification is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Notice {
    /// A release is live and the last good one.
    Committed,
    /// A release, a rollback or a restart came to nothing; what served serves.
    Failed,
    /// An older release serves again.
    RolledBack,
    /// A rollback failed: the best that is left serves, and manual action is needed.
    RollbackFailed,
    /// An operation waits for `promote` or `abort`.
    Held,
    /// What is live does not answer, or cannot be started again.
    Degraded,
    /// It answers again.
    Recovered,
    /// A rollback would not work now.
    RollbackNotReady,
    /// It would again.
    RollbackReady,
    /// A drill failed.
    DrillFailed,
    /// A test of a notification target.
    Test,
}

impl Notice {
    /// Those that can be asked for.
    pub const ALL: [Self; 10] = [
        Self::Committed,
        Self::Failed,
        Self::RolledBack,
        Self::RollbackFailed,
        Self::Held,
        Self::Degraded,
        Self::Recovered,
        Self::RollbackNotReady,
        Self::RollbackReady,
        Self::DrillFailed,
    ];

    /// Those that are sent when nothing else is configured: the bad ones.
    pub const BAD: [Self; 7] = [
        Self::Failed,
        Self::RolledBack,
        Self::RollbackFailed,
        Self::Held,
        Self::Degraded,
        Self::RollbackNotReady,
        Self::DrillFailed,
    ];

    /// The name in configuration and output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Failed => "failed",
            Self::RolledBack => "rolled_back",
            Self::RollbackFailed => "rollback_failed",
            Self::Held => "held",
            Self::Degraded => "degraded",
            Self::Recovered => "recovered",
            Self::RollbackNotReady => "rollback_not_ready",
            Self::RollbackReady => "rollback_ready",
            Self::DrillFailed => "drill_failed",
            Self::Test => "test",
        }
    }
}
