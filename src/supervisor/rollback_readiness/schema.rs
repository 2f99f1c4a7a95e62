//! The schema contract: what a release declares about the data it leaves behind and the data it
//! runs on, and what follows for a rollback.

use crate::config::model::{Schema, SchemaKind, Settings};
use crate::core::ids::ReleaseId;
use crate::core::operation::way_back::WayBack;
use crate::store::release;
use crate::supervisor::service::Service;
use crate::supervisor::service::candidate::Candidate;

/// Why a release does not run on the data as it is, by its own declaration.
#[must_use]
pub(crate) fn misses(service: &Service, release: ReleaseId) -> Option<String> {
    let settings = release::settings(&service.paths, release).ok()?;
    let now = service.durable.state().schema.clone()?;
    missed(&now, settings.schema.as_ref()?, &format!("release {release}"))
}

/// Why a release that is about to begin breaks the contract; with `--no-way-back` only what it
/// cannot do without is asked for.
pub(crate) fn contract(
    service: &Service,
    candidate: &Candidate,
    settings: &Settings,
) -> Vec<String> {
    let mut failures = Vec::new();
    let Some(schema) = &settings.schema else { return failures };
    let now = service.durable.state().schema.clone();
    if settings.migrate.is_none()
        && let Some(why) = now.and_then(|now| missed(&now, schema, "this release"))
    {
        failures.push(format!("{why}, and it has no migration"));
    }
    if candidate.way_back == WayBack::Waived {
        return failures;
    }
    failures.extend(way_back(service, candidate.back_to, schema));
    failures
}

/// Why a rollback from a release with this schema would fail.
#[must_use]
pub(crate) fn way_back(
    service: &Service,
    back_to: Option<ReleaseId>,
    schema: &Schema,
) -> Option<String> {
    let target = back_to?;
    let old = release::settings(&service.paths, target).ok().and_then(|old| old.schema);
    let how = "release an expand step first, or use --no-way-back \"reason\"";
    match old {
        Some(old) => {
            let why = missed(&schema.provides, &old, &format!("release {target}"))?;
            Some(format!("a rollback after it would not work: {why}; {how}"))
        }
        None if schema.kind == SchemaKind::Contract => Some(format!(
            "a rollback after it would not work: its migration removes something (kind = \
             \"contract\"), and release {target} does not declare what it accepts; {how}"
        )),
        None => None,
    }
}

/// Why the release before one that was let through without a way back does not run on the data: by its
/// own declaration, or as it was found when it was tried.
pub(crate) fn no_way_back(service: &Service, candidate: &Candidate) -> Option<String> {
    let target = candidate.back_to.filter(|_| candidate.way_back == WayBack::Waived)?;
    let tried = || {
        let rehearsal = service.durable.state().rehearsal.clone()?;
        rehearsal.why.filter(|_| rehearsal.release == target.0)
    };
    misses(service, target).or_else(tried)
}

fn missed(now: &str, schema: &Schema, who: &str) -> Option<String> {
    let accepts = || schema.accepts.join(", ");
    let good = schema.accepts.iter().any(|version| version == now);
    (!good).then(|| format!("the data has schema {now}, {who} accepts {}", accepts()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_runs_on_what_it_accepts() {
        let schema = |accepts: &[&str]| Schema {
            provides: "7".to_owned(),
            accepts: accepts.iter().map(|text| (*text).to_owned()).collect(),
            kind: SchemaKind::Expand,
        };
        assert_eq!(missed("6", &schema(&["6", "7"]), "it"), None);
        let why = missed("8", &schema(&["6", "7"]), "release 4").unwrap();
        assert_eq!(why, "the data has schema 8, release 4 accepts 6, 7");
    }
}
