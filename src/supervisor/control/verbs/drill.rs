//! Drills: a rollback is rehearsed without a release, by hand and by schedule, so that it is known
//! before it is needed whether it would work. An operation that begins ends a drill: it is more
//! important.

use std::rc::Rc;
use std::time::Duration;

use crate::api::{Event, PhaseState, Trouble};
use crate::core::ids::ReleaseId;
use crate::core::notice::Notice;
use crate::os::clock;
use crate::supervisor::control::server::Client;
use crate::supervisor::health::probe::Transcript;
use crate::supervisor::rollback_readiness::readiness;
use crate::supervisor::rollback_readiness::rehearsal;
use crate::supervisor::service::Service;
use crate::supervisor::service::notices;
use crate::supervisor::service::outcome;
use crate::supervisor::service::refusal;

/// The schedule is looked at this often at least: a suspended machine's clock jumps.
const LOOK: Duration = Duration::from_secs(60 * 60);

/// Why a drill came to no end.
const SUPERSEDED: &str = "an operation has begun, and a drill gives way to it";

/// Rehearses a rollback now.
///
/// # Errors
/// Why one could not roll back, exit 14; or why it was not tried.
pub async fn by_hand(service: &Rc<Service>, client: &mut Client) -> Result<(), Trouble> {
    if let Some(running) = service.operation.borrow().clone() {
        return Err(refusal::busy(service, &running));
    }
    let none = || {
        let why = "there is no good release before the one that serves";
        refusal::refusal(service, "drilled", why, 31, &["releases"])
    };
    let target = readiness::target(service).ok_or_else(none)?;
    let phase = |state, ms, detail: &str| Event::Phase {
        phase: "drill".to_owned(),
        state,
        ms,
        detail: detail.to_owned(),
    };
    let begun = clock::tick();
    client.tell(&phase(PhaseState::Start, 0, "")).await;
    let tried = run(service, target).await;
    let ms = clock::tick().since_ms(begun);
    match tried {
        Ok(detail) => {
            client.tell(&phase(PhaseState::Ok, ms, &detail)).await;
            client.tell(&Event::Result(Box::new(outcome::outcome(service, "drilled", 0)))).await;
            Ok(())
        }
        Err(why) => {
            client.tell(&phase(PhaseState::Fail, ms, &why)).await;
            let exit = if why == SUPERSEDED { 23 } else { 14 };
            let why = format!("release {target}: {why}");
            Err(refusal::refusal(service, "drilled", &why, exit, &["releases", "status"]))
        }
    }
}

async fn run(service: &Rc<Service>, target: ReleaseId) -> Result<String, String> {
    let mut transcript = Transcript::default();
    tokio::select! {
        biased;
        () = service.busy.notified() => Err(SUPERSEDED.to_owned()),
        tried = rehearsal::target_now(service, target, &mut transcript) => tried,
    }
}

/// Nobody watches a drill by schedule.
fn tell(service: &Service, target: ReleaseId, why: &str) {
    if why == SUPERSEDED {
        return;
    }
    let what = format!("{}: a drill has failed: one could not go back to {target}", service.name);
    let next = vec![format!("halley-sup drill {}", service.name)];
    let message = notices::at_rest(service, &what, why, next);
    notices::tell(service, Notice::DrillFailed, message);
}

/// Drills on schedule, from here on. A supervisor that comes up reads when the last one was.
pub fn watch(service: &Rc<Service>) {
    let service = Rc::clone(service);
    tokio::task::spawn_local(async move {
        loop {
            let due = readiness::due(&service);
            tokio::time::sleep(due.map_or(LOOK, |due| due.min(LOOK))).await;
            readiness::look(&service);
            let is_due = readiness::due(&service).is_some_and(|due| due.is_zero());
            let idle = service.operation.borrow().is_none() && service.live_crew().is_some();
            if !is_due || !idle || service.shared.stopping.get() {
                continue;
            }
            let Some(target) = readiness::target(&service) else { continue };
            if let Err(why) = run(&service, target).await {
                tracing::error!(service = %service.name, release = %target, why, "drill");
                tell(&service, target, &why);
            }
            readiness::look(&service);
        }
    });
}
