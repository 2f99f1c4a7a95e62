//! The settings that a release is started with, and whether what runs was started with them.

use sha2::{Digest, Sha256};

use crate::config::host::{self, Start};
use crate::config::model::{self, Settings};
use crate::core::ids::ReleaseId;
use crate::core::operation::machine::Succession;
use crate::core::ordered::Ordered as _;
use crate::store::layout::ServiceLayout;
use crate::store::release::{self, ReleaseError};
use crate::supervisor::service::Service;
use crate::supervisor::service::instances::Generation;

/// The settings that a release is started with now.
///
/// # Errors
/// When those that it ran with cannot be read.
pub(crate) fn of_start(
    service: &Service,
    release: ReleaseId,
    start: Start,
) -> Result<Settings, ReleaseError> {
    let ran = release::settings(&service.paths, release)?;
    Ok(renewed(service, release, ran, start))
}

/// The same for settings that were read already. A release of an earlier version has nothing beside
/// them, and is started as it was.
pub(crate) fn renewed(
    service: &Service,
    release: ReleaseId,
    ran: Settings,
    start: Start,
) -> Settings {
    let Ok(own) = release::own(&service.paths, release) else { return ran };
    let mut renewed = host::renew(ran, &own, &service.config().settings, start);
    // Side by side, two users cannot both have `shared/`.
    let live = service.live_generation().filter(|generation| generation.is_alive());
    if let Some(live) = live.filter(|_| service.succession() == Succession::Overlap) {
        renewed.user.clone_from(&live.settings.user);
    }
    renewed
}

/// A configuration whose `env_file` cannot be used: the host's environment is the one that the last good
/// release ran with.
pub(crate) fn with_last_env(
    mut config: model::Service,
    paths: &ServiceLayout,
    last_good: Option<ReleaseId>,
) -> model::Service {
    let ran = last_good.and_then(|release| {
        let own = release::own(paths, release).unwrap_or_default().env;
        let ran = release::settings(paths, release).ok()?.env;
        Some(ran.into_iter().filter(move |(name, _)| !own.contains(name)))
    });
    let today = std::mem::take(&mut config.settings.env);
    config.settings.env = ran.into_iter().flatten().chain(today).into_map();
    config
}

/// A number that stands for what a process is started with, in every version; 0 is unknown.
#[must_use]
pub(crate) fn mark(settings: &Settings) -> u64 {
    let Settings { command, user, group, groups, limits, env, handoff, .. } = settings;
    let mut text = format!("{:?}", (command, user, env, handoff));
    // Versions before this one knew none of these.
    if !limits.is_none() || group.is_some() || !groups.is_empty() {
        text.push_str(&format!("{:?}", (group, groups, limits)));
    }
    let digest = Sha256::digest(text);
    digest.first_chunk().map_or(0, |first| u64::from_le_bytes(*first)).max(1)
}

/// What is to be said of an `env_file` that cannot be used.
pub(crate) fn without_env(service: &Service, why: &str) -> String {
    let name = &service.name;
    format!("{name} keeps the environment that it had; mend its env_file and reload: {why}")
}

/// What is to be said when what serves was started with other settings than it would be today.
pub(crate) fn outdated(service: &Service, generation: &Generation) -> Option<String> {
    let ran = release::settings(&service.paths, generation.release).ok()?;
    let own = release::own(&service.paths, generation.release).ok()?;
    let today = host::renew(ran, &own, &service.config().settings, Start::Again);
    let is_other_user = today.user != generation.settings.user;
    let today = mark(&today);
    let differs = generation.started_with.get() != 0 && generation.started_with.get() != today;
    // Side by side they would need the same `shared/`.
    let next = match is_other_user && service.succession() == Succession::Overlap {
        true => format!("halley-sup stop {0}, then halley-sup start {0}", service.name),
        false => format!("halley-sup restart {}", service.name),
    };
    differs.then(|| {
        format!(
            "{}: it runs with other settings than are configured (env, command, user, limits or handoff); \
             they are used from its next start on: {next}",
            service.name
        )
    })
}
