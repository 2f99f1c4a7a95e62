//! Where a driver finds the data: what the service works on, or a copy.

use std::path::PathBuf;

/// Where a driver finds the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Site {
    /// What the service works on.
    Live,
    /// A copy, with a directory in the place of `shared/`. The directory's name is the backup's, and
    /// makes the names of whatever else a driver needs for the copy.
    Scratch {
        /// The directory.
        dir: PathBuf,
    },
}
