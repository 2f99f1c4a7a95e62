//! Drills: a rollback is rehearsed without a release, by hand and by schedule, so that it is known
//! before it is needed whether it would work. An operation that begins ends a drill: it is more
//! important.

use std::rc::Rc;
use std::time::Duration;

use thiserror::Error;

use crate::core::ids::ReleaseId;
use crate::core::notice::Notice;
use crate::os::clock;
use crate::supervisor::health::probe::Transcript;
use crate::supervisor::rollback_readiness::readiness;
use crate::supervisor::rollback_readiness::rehearsal::{self, RehearsalError};
use crate::supervisor::service::Service;
use crate::supervisor::service::notices;
use crate::supervisor::spawn;

/// The schedule is looked at this often at least: a suspended machine's clock jumps.
const LOOK: Duration = Duration::from_secs(60 * 60);

/// Why a drill does not show that a rollback would work.
#[derive(Debug, Error)]
pub(crate) enum DrillError {
    /// It came to no end.
    #[error("an operation began, and the drill was ended for it")]
    Superseded,
    /// A rollback would not work.
    #[error(transparent)]
    Failed(#[from] RehearsalError),
}

/// Rehearses a rollback to `target`.
///
/// # Errors
/// Why it does not show that a rollback would work.
pub(crate) async fn run(service: &Rc<Service>, target: ReleaseId) -> Result<String, DrillError> {
    let mut transcript = Transcript::default();
    tokio::select! {
        biased;
        () = service.activity.began() => Err(DrillError::Superseded),
        tried = rehearsal::target_now(service, target, service.succession(), &mut transcript) => {
            match tried? {
                (_, Some(changed)) => Err(changed.into()),
                (said, None) => Ok(said),
            }
        }
    }
}

/// Drills on schedule, from here on. A supervisor that comes up reads when the last one was.
pub(crate) fn schedule(service: &Rc<Service>) {
    let attended = Rc::clone(service);
    let task = spawn::local(async move {
        let service = attended;
        let begun = clock::tick();
        let due = || {
            let scheduled = Duration::from_millis(clock::tick().since_ms(begun));
            readiness::due(&service, scheduled)
        };
        let mut was = Was::Early;
        loop {
            let every = service.config().drill.unwrap_or(LOOK);
            tokio::time::sleep(pause(due(), every, was)).await;
            readiness::look(&service);
            let is_due = due().is_some_and(|due| due.is_zero());
            was = if is_due { Was::Due } else { Was::Early };
            let idle = service.activity.is_at_rest() && service.live_generation().is_some();
            if !is_due || !idle || service.shared.stopping.get() {
                continue;
            }
            let Some(target) = readiness::target(&service) else { continue };
            // Boxed: each service has this task, and few of them drill.
            if let Err(error) = Box::pin(run(&service, target)).await {
                tracing::error!(service = %service.name, release = %target, why = %error, "drill");
                notify(&service, target, &error);
            }
            readiness::look(&service);
        }
    });
    service.attendants.add(task);
}

/// How it was when it was looked at last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Was {
    /// It was not due yet.
    Early,
    /// It was due: it was done, or cannot be done at the moment, for want of a release to go back to, or for an
    /// operation.
    Due,
}

/// How long until it is looked at again: what was due and could not be done is not asked for without a pause.
fn pause(due: Option<Duration>, every: Duration, was: Was) -> Duration {
    let soonest = match was {
        Was::Early => Duration::ZERO,
        Was::Due => every.min(LOOK),
    };
    due.unwrap_or(LOOK).min(LOOK).max(soonest)
}

/// A scheduled drill runs unattended: a failure is a notification.
fn notify(service: &Service, target: ReleaseId, error: &DrillError) {
    let DrillError::Failed(why) = error else { return };
    let what = format!(
        "{}: rollback rehearsal failed: a rollback to {target} would not work",
        service.name
    );
    let next = vec![format!("halley-sup drill {}", service.name)];
    let message = notices::at_rest(service, &what, &why.to_string(), next);
    notices::tell(service, Notice::DrillFailed, message);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drill_that_is_due_and_cannot_be_done_is_not_asked_for_without_a_pause() {
        let (zero, second) = (Duration::ZERO, Duration::from_secs(1));
        for (due, every, was, expected) in [
            (Some(second), LOOK, Was::Early, second),
            (Some(zero), LOOK, Was::Early, zero),
            (Some(zero), 100 * LOOK, Was::Due, LOOK),
            (Some(zero), second, Was::Due, second),
            (Some(100 * LOOK), 100 * LOOK, Was::Due, LOOK),
            (None, LOOK, Was::Early, LOOK),
        ] {
            assert_eq!(pause(due, every, was), expected, "{due:?} {every:?} {was:?}");
        }
    }
}
