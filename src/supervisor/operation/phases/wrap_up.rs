//! What follows from a commit, forward or back: the trial is over, and the releases have verdicts.
//! Done again after a crash it ends the same.

use std::io;

use crate::core::ids::ReleaseId;
use crate::core::operation::way_back;
use crate::core::retention::Verdict;
use crate::store::release::{self, ReleaseError};
use crate::store::trial;
use crate::supervisor::operation::assignment::Assignment;
use crate::supervisor::service::Service;

/// What was committed.
#[derive(Debug)]
pub(crate) struct WrapUp {
    /// The release that is the last good one.
    pub good: ReleaseId,
    /// The release that was left, its verdict, and why.
    pub left: Option<(ReleaseId, Verdict, String)>,
}

/// Why not all of it was written down.
#[derive(Debug, thiserror::Error)]
enum WrapUpError {
    /// The trial's end.
    #[error(transparent)]
    Trial(#[from] io::Error),
    /// A verdict.
    #[error(transparent)]
    Verdict(#[from] ReleaseError),
}

impl WrapUp {
    /// What follows from the commit of a release that came forward.
    pub(crate) fn forward(assignment: &Assignment) -> Self {
        let why = format!("it was down when release {} replaced it", assignment.release);
        let left = way_back::given_up(assignment.before, &assignment.ladder)
            .map(|bad| (bad, Verdict::Bad, why));
        Self { good: assignment.release, left }
    }

    /// Writes it down. What is committed stays, so a failure is a warning.
    #[must_use]
    pub(crate) fn perform(self, service: &Service) -> Option<String> {
        self.write(service).err().map(|error| error.to_string())
    }

    fn write(self, service: &Service) -> Result<(), WrapUpError> {
        trial::clear(&service.paths)?;
        if let Some((left, verdict, why)) = self.left {
            release::set_verdict(&service.paths, left, verdict, Some(why))?;
        }
        // A rollback is to what is known to be good: the disk need not be waited for twice more.
        if !matches!(release::verdict(&service.paths, self.good), Ok((Verdict::Good, None))) {
            release::set_verdict(&service.paths, self.good, Verdict::Good, None)?;
        }
        Ok(())
    }
}
