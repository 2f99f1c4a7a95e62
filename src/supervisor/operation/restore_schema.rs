//! A backup on which the release that serves cannot run: why, and the ways out.

use crate::api::Trouble;
use crate::core::exit::Exit;
use crate::core::ids::ReleaseId;
use crate::store::receipt::{self, Receipt};
use crate::store::release;
use crate::supervisor::data::backup_schema::Missed;
use crate::supervisor::rollback_readiness::schema;
use crate::supervisor::service::{Service, refusal};

/// The refusal, with another backup that fits, and a release that fits this one.
pub(crate) fn refused(
    service: &Service,
    receipt: &Receipt,
    missed: &Missed,
    release: ReleaseId,
) -> Trouble {
    let why = format!(
        "{}; it can be restored under a release that accepts schema {has}, or whose migration leads \
         from it",
        missed.why,
        has = missed.has
    );
    let verbs = ["backup --list", "releases"];
    let mut trouble = refusal::refusal(service, "restored", &why, Exit::PreflightRefused, &verbs);
    let name = &service.name;
    let other = fitting(&receipt::list(&service.paths), &receipt.id, &accepts(service, release));
    let other = other.map(|id| format!("halley-sup restore {name} --backup {id} --dry-run"));
    let back = back_to(service, release, &missed.has);
    let back = back.map(|release| format!("halley-sup rollback {name} --to {release}"));
    trouble.next.splice(0..0, other.into_iter().chain(back));
    trouble
}

fn accepts(service: &Service, release: ReleaseId) -> Vec<String> {
    let settings = release::settings(&service.paths, release).ok();
    settings.and_then(|settings| settings.schema).map(|schema| schema.accepts).unwrap_or_default()
}

/// The newest other backup of a schema that is accepted.
fn fitting(newest_first: &[Receipt], not: &str, accepts: &[String]) -> Option<String> {
    let fits = |receipt: &&Receipt| {
        receipt.id != not && receipt.schema.as_ref().is_some_and(|has| accepts.contains(has))
    };
    newest_first.iter().find(fits).map(|receipt| receipt.id.clone())
}

/// The newest other release that runs on the data as it is, and on the backup.
fn back_to(service: &Service, not: ReleaseId, has: &String) -> Option<ReleaseId> {
    let all = release::all(&service.paths);
    let mut others = all.iter().rev().map(|known| known.release).filter(|n| *n != not);
    others.find(|release| {
        accepts(service, *release).contains(has) && schema::misses(service, *release).is_none()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_backup_is_named_that_is_accepted() {
        let receipt = |(id, schema): &(&str, &str)| Receipt {
            schema: (!schema.is_empty()).then(|| (*schema).to_owned()),
            ..Receipt::example(id)
        };
        let all = [("d", ""), ("c", "2"), ("b", "2"), ("a", "0")].map(|one| receipt(&one));
        let accepts = ["1".to_owned(), "2".to_owned()];
        assert_eq!(fitting(&all, "a", &accepts).as_deref(), Some("c"));
        assert_eq!(fitting(&all, "c", &accepts).as_deref(), Some("b"));
        assert_eq!(fitting(&all, "a", &["3".to_owned()]), None);
    }
}
