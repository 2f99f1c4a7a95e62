//! The terms on which a release is requested.

/// On what terms a release is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Terms {
    /// Also when it is frozen.
    pub force: Force,
    /// Why a rollback from it will not be wanted.
    pub no_way_back: Option<String>,
    /// How far it goes.
    pub extent: Extent,
}

impl Terms {
    /// The usual ones, but for frozen artifacts.
    #[must_use]
    pub(crate) fn with(force: Force) -> Self {
        Self { force, ..Self::default() }
    }
}

/// How far a release goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Extent {
    /// To its end.
    #[default]
    Whole,
    /// To its plan: nothing is changed.
    Plan,
}

/// Whether a frozen artifact may be released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Force {
    /// It may not.
    #[default]
    No,
    /// `--force` was given.
    Yes,
}
