//! The backup of a release, and the rehearsal of its restore.

use std::rc::Rc;

use crate::core::exit::Exit;
use crate::store::receipt::Receipt;
use crate::store::release;
use crate::supervisor::data::first_contact;
use crate::supervisor::data::trial_migration::{self, Taken};
use crate::supervisor::health::probe::Transcript;
use crate::supervisor::service::Service;
use crate::supervisor::service::candidate::Candidate;
use crate::supervisor::service::phase_result::PhaseResult;

/// Takes a backup, or uses one that is fresh enough, and keeps its receipt.
pub(crate) async fn take(
    service: &Rc<Service>,
    candidate: &Candidate,
    kept: &mut Option<Receipt>,
) -> PhaseResult {
    match trial_migration::backup(service, candidate).await {
        Ok(Taken::Backup(receipt)) => {
            let detail = trial_migration::receipt_text(&receipt);
            *kept = Some(*receipt);
            PhaseResult::ok(detail)
        }
        Ok(Taken::Kept(fresh)) => {
            let detail =
                format!("{}; {}", trial_migration::receipt_text(&fresh.receipt), fresh.text());
            let settings = release::settings(&service.paths, candidate.release);
            let migrates = settings.is_ok_and(|settings| settings.migrate.is_some());
            let warning = migrates.then(|| fresh.warning());
            *kept = Some(fresh.receipt);
            PhaseResult::ok(detail).with_warnings(warning)
        }
        Ok(Taken::Off) => PhaseResult::skip("none is configured"),
        Ok(Taken::NoData(why)) => {
            let said = format!(
                "there is no data yet, so no backup ({why}); the first one is taken when the next \
                 release begins, or by halley-sup backup {}",
                service.name
            );
            PhaseResult::skip(said.clone()).with_warnings([said])
        }
        Err(why) => PhaseResult::refused(Exit::BackupFailed, format!("no backup: {why}")),
    }
}

/// Restores the backup to scratch and tries the releases on it; where there is no data yet, its
/// migration on nothing.
pub(crate) async fn rehearse(
    service: &Rc<Service>,
    candidate: &Candidate,
    receipt: Option<&Receipt>,
    transcript: &mut Transcript,
) -> PhaseResult {
    let Some(receipt) = receipt.cloned() else {
        return first_contact::rehearse(service, candidate).await;
    };
    trial_migration::rehearse(service, candidate, receipt, transcript).await
}
