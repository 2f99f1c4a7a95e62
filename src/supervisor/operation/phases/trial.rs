//! A release that gets connections and is not committed is on trial, and the disk says so.

use std::io;

use crate::core::operation::machine::Kind;
use crate::store::trial::{self, Trial};
use crate::supervisor::operation::assignment::Assignment;
use crate::supervisor::service::Service;

/// Why a release cannot be put on trial.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrialError {
    /// Whether there is a trial cannot be seen.
    #[error("reading the trial: {0}")]
    Read(#[source] io::Error),
    /// It cannot be written down.
    #[error("beginning the trial: {0}")]
    Begin(#[source] io::Error),
}

/// Puts the candidate on trial. Begun again after a crash it keeps the tries it has left; another
/// operation's trial, left over when there was nothing to go back to, is replaced.
///
/// # Errors
/// When the trial cannot be written down.
pub(crate) fn begin(
    service: &Service,
    assignment: &Assignment,
    kind: Kind,
) -> Result<(), TrialError> {
    let present = trial::read(&service.paths).map_err(TrialError::Read)?;
    if kind == Kind::Release && present.is_none_or(|trial| trial.op != assignment.op.0) {
        let trial = Trial {
            version: 1,
            release: assignment.release.0,
            generation: assignment.generation.0,
            op: assignment.op.0,
            n_tries_left: trial::N_TRIES,
        };
        trial::begin(&service.paths, &trial).map_err(TrialError::Begin)?;
    }
    Ok(())
}
