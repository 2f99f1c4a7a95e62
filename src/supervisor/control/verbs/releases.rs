//! The verb `releases`: the releases on disk.

use crate::api::releases::{Args, ReleaseEntry};
use crate::api::{Event, Trouble};
use crate::core::ids::ReleaseId;
use crate::store::release;
use crate::supervisor::control::client::Client;
use crate::supervisor::service::Service;
use crate::supervisor::service::stack::Stack;

/// Answers with the releases on disk, newest first.
///
/// # Errors
/// When there is no such service.
pub(crate) async fn perform(stack: &Stack, args: Args, client: &mut Client) -> Result<(), Trouble> {
    let service = stack.find(&args.service)?;
    client.tell(&Event::Releases { releases: releases(&service) }).await;
    Ok(())
}

fn releases(service: &Service) -> Vec<ReleaseEntry> {
    let state = service.durable.state();
    let trial = service.durable.trial().ok().flatten();
    let standby = state.standby.as_ref().map(|standby| ReleaseId(standby.release));
    let roles = |release: ReleaseId| {
        let all = [
            (service.serving() == Some(release), "serving"),
            (service.durable.last_good() == Some(release), "last_good"),
            (trial == Some(release), "trial"),
            (standby == Some(release), "standby"),
            (state.pinned.contains(&release.0), "pinned"),
        ];
        all.into_iter().filter(|(holds, _)| *holds).map(|(_, role)| role.to_owned()).collect()
    };
    let entry = |known: release::Known| ReleaseEntry {
        release: known.release.0,
        verdict: known.verdict.name().to_owned(),
        why: known.why,
        roles: roles(known.release),
        label: known.manifest.label,
        digest: known.manifest.digest,
        size_bytes: known.manifest.size_bytes,
        at: known.manifest.at,
    };
    release::all(&service.paths).into_iter().rev().map(entry).collect()
}
