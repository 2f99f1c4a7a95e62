//! All that can be known before the first side effect, and all failures at once.

use std::fs::{self};
use std::rc::Rc;

use crate::api::{Event, Plan};
use crate::config::model::{self, Strategy};
use crate::core::exit::Exit;
use crate::core::operation::machine::Event as Step;
use crate::os::{fs as disk, proc};
use crate::supervisor::data::{backup, fencing, fresh};
use crate::supervisor::instances::belongings;
use crate::supervisor::instances::outside_proxy;
use crate::supervisor::instances::start::keeper_of_shared;
use crate::supervisor::operation::assignment::Assignment;
use crate::supervisor::operation::dry_run;
use crate::supervisor::operation::intake::Staged;
use crate::supervisor::operation::phases::in_turn;
use crate::supervisor::processes::program_check;
use crate::supervisor::proxy;
use crate::supervisor::rollback_readiness::schema;
use crate::supervisor::service::Service;
use crate::supervisor::service::occupied;
use crate::supervisor::service::operation::Operation;
use crate::supervisor::service::phase_result::PhaseResult;
use crate::supervisor::service::terms::{Extent, Force};
use crate::text;

/// Disk space that an operation leaves to others.
const SPARE_BYTES: u64 = 16 * 1024 * 1024;
/// Files that it leaves to others.
const SPARE_INODES: u64 = 1_000;

/// Looks, and refuses with everything that is wrong.
pub(crate) async fn preflight(
    service: &Rc<Service>,
    operation: &Rc<Operation>,
    assignment: &Assignment,
    staged: Option<&Staged>,
) -> PhaseResult {
    let Some(staged) = staged else {
        return PhaseResult::refused(Exit::ArtifactRejected, "nothing was staged");
    };
    let mut failures: Vec<(Exit, String)> = Vec::new();
    if let Some(why) = frozen(service, assignment.terms.force, &staged.listing.digest) {
        failures.push((Exit::Busy, why));
    }
    failures.extend(
        occupied::frozen(service, assignment.terms.force).into_iter().map(|why| (Exit::Busy, why)),
    );
    failures
        .extend(room(service, staged.listing.n_files).into_iter().map(|why| (Exit::NoSpace, why)));
    failures.extend(
        program_check::program(&staged.dir, &staged.settings)
            .into_iter()
            .map(|why| (Exit::PreflightRefused, why)),
    );
    for hook in &staged.settings.hooks {
        let (settings, point) = (&staged.settings, hook.point.name());
        let missing = program_check::not_there(&staged.dir, &hook.command, settings, point);
        failures.extend(missing.into_iter().map(|why| (Exit::PreflightRefused, why)));
    }
    failures.extend(wrong_user(service, assignment, staged));
    let config = service.config();
    failures.extend(without_env(&config));
    // The address is taken before the start, so that a stranger on it stops nothing but this.
    if let Err(error) = service.slots.open(service.link(), &config).await {
        failures.push((Exit::PreflightRefused, error.to_string()));
    }
    if assignment.strategy == Strategy::Hold {
        failures.extend(
            in_turn::too_many(service).await.into_iter().map(|why| (Exit::PreflightRefused, why)),
        );
    }
    if let Some(proxy) = &config.proxy
        && let Err(error) = proxy::check(
            proxy,
            usize::from(config.settings.instances),
            &outside_proxy::host(service),
        )
        .await
    {
        failures.push((Exit::PreflightRefused, error.to_string()));
    }
    failures.extend(
        fresh::no_room(service, assignment.release).into_iter().map(|why| (Exit::NoSpace, why)),
    );
    failures.extend(
        backup::obstacles(service).await.into_iter().map(|why| (Exit::PreflightRefused, why)),
    );
    failures.extend(
        schema::contract(service, &assignment.candidate(), &staged.settings)
            .into_iter()
            .map(|w| (Exit::PreflightRefused, w)),
    );
    if failures.is_empty() {
        return planned(service, operation, assignment, staged).await;
    }
    let exit = Exit::of_all(failures.iter().map(|(exit, _)| *exit));
    let texts: Vec<String> = failures.into_iter().map(|(_, why)| why).collect();
    PhaseResult::refused(exit, texts.join("\n"))
}

/// Nobody knows what its environment would be.
fn without_env(config: &model::Service) -> Option<(Exit, String)> {
    let why = config.no_env.as_ref()?;
    let text = format!("its env_file cannot be used; mend it and reload: {why}");
    Some((Exit::PreflightRefused, text))
}

/// Side by side, two users cannot both have the one directory.
fn wrong_user(
    service: &Service,
    assignment: &Assignment,
    staged: &Staged,
) -> Option<(Exit, String)> {
    let user = staged.settings.user.as_deref()?;
    if proc::user(user).is_none() {
        return Some((Exit::PreflightRefused, format!("there is no user {user:?}")));
    }
    if matches!(assignment.strategy, Strategy::Hold | Strategy::Replace) {
        return None;
    }
    let present = keeper_of_shared(service, user)?;
    let text = format!(
        "shared/ belongs to {present}, the user of the release that serves, and this release is to \
         run as {user}: use strategy = \"hold\", which stops the old release before the start"
    );
    Some((Exit::PreflightRefused, text))
}

async fn plan(service: &Rc<Service>, assignment: &Assignment, staged: &Staged) -> Plan {
    let means = backup::means(service).await;
    let size = staged.listing.size_bytes;
    dry_run::of(service, assignment, &staged.settings, size, means.as_ref())
}

/// Nothing stands against it. A dry run ends here.
async fn planned(
    service: &Rc<Service>,
    operation: &Rc<Operation>,
    assignment: &Assignment,
    staged: &Staged,
) -> PhaseResult {
    let plan = plan(service, assignment, staged).await;
    let detail = dry_run::text(&plan);
    operation.tell(Event::Plan(Box::new(plan)));
    let result = match assignment.terms.extent {
        Extent::Plan => PhaseResult::not(Step::Abort, detail),
        Extent::Whole => PhaseResult::ok(detail),
    };
    let foreign = program_check::foreign_interpreter(&staged.dir, &staged.settings);
    let left = belongings::left_in_shared(service, staged.settings.user.as_deref());
    result
        .with_warnings(foreign)
        .with_warnings(left)
        .with_warnings(fencing::foreseen(service).await)
}

fn frozen(service: &Service, force: Force, digest: &str) -> Option<String> {
    let state = service.durable.state();
    let frozen = state.frozen(digest).filter(|_| force == Force::No)?;
    Some(format!(
        "this artifact was release {} and is frozen since {}: {}; --force releases it anyway",
        frozen.release, frozen.at, frozen.why
    ))
}

/// Room on the disk and in memory for one more.
fn room(service: &Service, n_files: u64) -> Vec<String> {
    let mut failures = Vec::new();
    match disk::free(service.paths.dir()) {
        Ok(free) => {
            if free.bytes < SPARE_BYTES {
                failures.push(format!("the disk has {} left", text::size(free.bytes)));
            }
            if free.inodes < n_files.saturating_add(SPARE_INODES) {
                failures.push(format!("the disk has room for {} more files", free.inodes));
            }
        }
        Err(error) => failures.push(format!("{}: {error}", service.paths.dir().display())),
    }
    let needed: u64 = service.live_generation().map_or(0, |generation| {
        generation.instances().iter().filter_map(|i| i.pid()).map(proc::rss_bytes).sum()
    });
    if let Some(available) = memory_available().filter(|available| *available < needed) {
        failures.push(format!(
            "memory for two: {} are free, the running release uses {}",
            text::size(available),
            text::size(needed)
        ));
    }
    failures
}

fn memory_available() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemAvailable:"))?;
    let kib: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}
