//! Whether a rollback would work now: known at any moment, from what is on the disk, what runs, and
//! the result of the last rehearsal.

use std::rc::Rc;
use std::time::Duration;

use crate::api::RollbackStatus;
use crate::core::duty::Duty;
use crate::core::ids::ReleaseId;
use crate::core::notice::Notice;
use crate::core::retention;
use crate::core::status::NOTHING_OLDER;
use crate::core::status::RollbackFrom;
use crate::os::clock;
use crate::store::release;
use crate::store::state::Rehearsal;
use crate::supervisor::rollback_readiness::schema;
use crate::supervisor::service::Service;
use crate::supervisor::service::notices;

/// Drills of several services, and of several machines, do not fall together: each is due within
/// this part of the interval before its time.
const JITTER: u32 = 10;

/// The release that a rollback would go to.
#[must_use]
pub(crate) fn target(service: &Service) -> Option<ReleaseId> {
    let known: Vec<_> =
        release::all(&service.paths).iter().map(|known| (known.release, known.verdict)).collect();
    let from = service.serving().or(service.durable.last_good());
    let targets = retention::targets(&known, from);
    let runs_on_it = |target: &&ReleaseId| schema::misses(service, **target).is_none();
    targets.iter().find(runs_on_it).or(targets.first()).copied()
}

/// Whether a rollback would work now, to what, and why not.
#[must_use]
pub(crate) fn status(service: &Service) -> RollbackStatus {
    let Some(target) = target(service) else {
        let why = NOTHING_OLDER.to_owned();
        return RollbackStatus { why: Some(why), ..RollbackStatus::default() };
    };
    let generations = service.fleet.all();
    let warm = generations.iter().any(|generation| {
        generation.release == target && generation.duty() == Duty::Standby && generation.is_whole()
    });
    let rehearsal = service.durable.state().rehearsal.clone();
    let rehearsal = rehearsal.filter(|rehearsal| rehearsal.release == target.0);
    let said = rehearsal.as_ref().and_then(|rehearsal| rehearsal.why.clone());
    let why = schema::misses(service, target)
        .or_else(|| missing(service, target).filter(|_| !warm))
        .or(said.map(|why| format!("its last rehearsal failed: {why}")));
    let shown = |rehearsal: &Rehearsal| match &rehearsal.why {
        None => rehearsal.depth.name().to_owned(),
        Some(why) => why.clone(),
    };
    RollbackStatus {
        ready: why.is_none(),
        release: Some(target.0),
        from: why
            .is_none()
            .then(|| if warm { RollbackFrom::Warm } else { RollbackFrom::Cold }.name().to_owned()),
        why,
        rehearsed: rehearsal.as_ref().map(|rehearsal| rehearsal.at.clone()),
        rehearsal: rehearsal.as_ref().map(shown),
    }
}

/// What a cold start would miss, as far as a quick check shows.
fn missing(service: &Service, target: ReleaseId) -> Option<String> {
    let settings = match release::settings(&service.paths, target) {
        Ok(settings) => settings,
        Err(error) => return Some(error.to_string()),
    };
    let program = settings.command.first()?;
    let path = service.paths.release(target).join(program);
    let gone = program.contains('/') && !path.is_file();
    gone.then(|| format!("release {target}: {program} is not there"))
}

/// Checks, and reports when a rollback has stopped or begun to be possible.
pub(crate) fn look(service: &Rc<Service>) {
    let status = status(service);
    let before = service.condition.note_ready(status.ready);
    let why = status.why.unwrap_or_default();
    match (before, status.ready) {
        // The first release has none behind it, and that is no news.
        (_, false) if status.release.is_none() => {}
        (Some(true) | None, false) => {
            tracing::error!(service = %service.name, why, "a rollback would not work");
            let what = format!("{}: a rollback would not work", service.name);
            let next = vec![
                format!("halley-sup drill {}", service.name),
                format!("halley-sup releases {}", service.name),
            ];
            let message = notices::at_rest(service, &what, &why, next);
            notices::tell(service, Notice::RollbackNotReady, message);
        }
        (Some(false), true) => {
            tracing::info!(service = %service.name, "a rollback would work");
            let what = format!("{}: a rollback would work again", service.name);
            let message = notices::at_rest(service, &what, "", Vec::new());
            notices::tell(service, Notice::RollbackReady, message);
        }
        _ => {}
    }
}

/// How long until the next drill, on a schedule that has gone on for so long; `None` when there are none.
#[must_use]
pub(crate) fn due(service: &Service, scheduled: Duration) -> Option<Duration> {
    let every = service.config().drill?;
    let state = service.durable.state();
    let part = jitter(&service.shared.boot_id, service.name.as_str());
    let age = state.rehearsal.as_ref().and_then(|rehearsal| clock::age(&rehearsal.at));
    Some(due_in(every, part, age, scheduled))
}

/// The same for a rehearsal of this age, if there was one: up to a tenth earlier, by `part`.
fn due_in(every: Duration, part: u8, age: Option<Duration>, scheduled: Duration) -> Duration {
    let spread = every / JITTER;
    // Never all of it: a boot is not disturbed.
    let early = spread * u32::from(part) / 256;
    match age {
        Some(age) => every.saturating_sub(early).saturating_sub(age),
        None => spread.saturating_sub(early).saturating_sub(scheduled),
    }
}

/// A number that is as good as chance and the same for a whole boot.
fn jitter(boot_id: &str, name: &str) -> u8 {
    let mut crc = flate2::Crc::new();
    crc.update(boot_id.as_bytes());
    crc.update(name.as_bytes());
    crc.sum().to_le_bytes()[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_rehearsed_is_due_soon_after_a_boot_and_not_at_once() {
        let day = Duration::from_secs(24 * 3600);
        for part in [0, 1, 128, 254, 255] {
            let due = |scheduled| due_in(7 * day, part, None, scheduled);
            assert!(due(Duration::ZERO) >= Duration::from_secs(60), "{part}");
            assert_eq!(due(day), Duration::ZERO, "{part}");
            let due = due_in(7 * day, part, Some(day), day);
            assert!((5 * day..=6 * day).contains(&due), "{part}: {due:?}");
        }
    }
}
