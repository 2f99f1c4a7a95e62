//! Why data was not restored, or nothing may be started on it.

use std::io;

use crate::core::ids::ReleaseId;
use crate::store::release::ReleaseError;
use crate::supervisor::data::error::DataError;
use crate::supervisor::instances::start::StartError;

/// Why data was not restored, or nothing may be started on it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestoreError {
    /// That it was begun, or is over, could not be written down.
    #[error(transparent)]
    Record(io::Error),
    /// What says that it was begun could not be removed.
    #[error("the record of the restore cannot be removed: {0}")]
    Mark(#[source] io::Error),
    /// What was written down by one that did not end.
    #[error("the record of an unfinished restore cannot be read: {0}")]
    Unreadable(#[source] io::Error),
    /// One did not end, and there is nothing to end it with.
    #[error("a restore is unfinished, and backup is no longer configured")]
    NotConfigured,
    /// A migration of the restored data goes on.
    #[error("the migration of an unfinished restore does not end: {left}")]
    Migrating {
        /// Its processes.
        left: String,
    },
    /// What was there before could not be put back.
    #[error("undoing a restore of backup {backup}: {source}")]
    Undo {
        /// The backup that was to be restored.
        backup: String,
        /// The reason.
        #[source]
        source: DataError,
    },
    /// The settings of the release that served.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// It could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It was started, and its gate did not open.
    #[error("release {release} does not run on it: {why}")]
    DoesNotRun {
        /// The release.
        release: ReleaseId,
        /// What its probes or its last lines said.
        why: String,
    },
}
