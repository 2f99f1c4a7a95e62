//! Why the hooks of a point have not done their work.

use std::path::PathBuf;

use crate::core::operation::point::Point;
use crate::store::journal::JournalError;
use crate::store::release::ReleaseError;
use crate::supervisor::tasks::task::{CommandError, Ended};

/// Why the hooks of a point have not done their work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HookError {
    /// One was not run to its end.
    #[error("{source}\nits output: {output}", output = output.display())]
    Task {
        /// The reason.
        #[source]
        source: CommandError,
        /// Where its output is.
        output: PathBuf,
    },
    /// One was, and reported a failure.
    #[error("{hook}: {}\nits output: {output}", ended.why(), output = output.display())]
    Command {
        /// Its point and its command.
        hook: String,
        /// How it ended.
        ended: Ended,
        /// Where its output is.
        output: PathBuf,
    },
    /// Each of these, of those that do not wait for each other.
    #[error("{}", lines(.0))]
    Several(Vec<Self>),
    /// The settings that name them.
    #[error(transparent)]
    Settings(#[from] ReleaseError),
    /// That they begin could not be written down.
    #[error("hook {}: not run: {source}", point.name())]
    NotRun {
        /// Which.
        point: Point,
        /// The reason.
        #[source]
        source: JournalError,
    },
    /// They were begun by a supervisor before this one.
    #[error("hook {}: interrupted when the supervisor went down, and not run again", point.name())]
    Interrupted {
        /// Which.
        point: Point,
    },
    /// They were not waited for.
    #[error("hook {}: ended by abort", point.name())]
    Aborted {
        /// Which.
        point: Point,
    },
    /// As the journal has it.
    #[error("{0}")]
    Recorded(String),
}

fn lines(errors: &[HookError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
