//! Drills: a rollback is rehearsed without a release, by hand and by schedule, so that it is known
//! before it is needed whether it would work. An operation that begins ends a drill: it is more
//! important.

use std::rc::Rc;
use std::time::Duration;

use thiserror::Error;

use crate::core::ids::ReleaseId;
use crate::core::notice::Notice;
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
        loop {
            let due = readiness::due(&service);
            tokio::time::sleep(due.map_or(LOOK, |due| due.min(LOOK))).await;
            readiness::look(&service);
            let is_due = readiness::due(&service).is_some_and(|due| due.is_zero());
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
