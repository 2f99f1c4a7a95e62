//! A supervisor comes up: what runs of a service is taken over, and its open operation goes on.

use std::rc::Rc;

use crate::core::duty::Duty;
use crate::core::ids::{GenerationId, OpId, SlotId};
use crate::os::{fs, memory};
use crate::store::journal::{self, Intent, JournalError, Record};
use crate::store::layout::ServiceLayout;
use crate::store::state::StateError;
use crate::store::{intake, release, reserve, salvage};
use crate::supervisor::data::backup;
use crate::supervisor::instances::restarter::{finished_name, look_at, revive, unfinish};
use crate::supervisor::instances::scale;
use crate::supervisor::instances::sd_notify;
use crate::supervisor::instances::start;
use crate::supervisor::operation::adopt::{adopt_generations, forget_the_rest, take_mine};
use crate::supervisor::operation::boot_error::BootError;
use crate::supervisor::operation::conclude;
use crate::supervisor::operation::opened::{self};
use crate::supervisor::operation::restore_undo;
use crate::supervisor::operation::resume::{live_generation, resume};
use crate::supervisor::operation::unresumed::{self, Obstacle};
use crate::supervisor::processes::child_tag::{Label, Role};
use crate::supervisor::processes::host_command;
use crate::supervisor::processes::keeper_client::Inventory;
use crate::supervisor::service::Service;
use crate::supervisor::service::condition::Source;
use crate::supervisor::service::occupied::may_start;
use crate::supervisor::tasks::task;

/// What runs was released, so the service had a state.
fn had_a_state(service: &Service, inventory: &Inventory) -> Result<(), BootError> {
    let labels = inventory.children.iter().filter_map(|found| Label::read(&found.label));
    let is_mine = |label: &Label| label.service == service.name.as_str();
    let runs = labels.filter(is_mine).any(|label| label.role == Role::Instance);
    let (path, releases) = (service.paths.state(), service.paths.releases());
    match runs && !path.exists() {
        true => Err(StateError::Missing { path, releases }.into()),
        false => Ok(()),
    }
}

/// An operation's journal.
type Open = Option<(Intent, Vec<Record>)>;

/// The open operation; of a damaged journal what is left of it, with the damage, as long as that shows what
/// was set out to do.
fn open_operation(paths: &ServiceLayout) -> Result<(Open, Option<JournalError>), JournalError> {
    let error = match journal::open_operation(paths) {
        Ok(open) => return Ok((open, None)),
        Err(error) => error,
    };
    let newest = ServiceLayout::numbers(&paths.ops()).pop().unwrap_or_default();
    let left = salvage::read(paths, OpId(newest));
    let is_over = left.outcome().is_some();
    match left.intent {
        Some(_) if is_over => Ok((None, None)),
        Some(intent) => Ok((Some((intent, left.records)), Some(error))),
        None => Err(error),
    }
}

/// What lies around harms nobody: a disk that does not let it go keeps no service from being managed.
fn warn<E: std::fmt::Display>(service: &Service, what: &str, done: Result<(), E>) {
    if let Err(error) = done {
        tracing::warn!(service = %service.name, %error, "{what}");
    }
}

/// Takes a service over: adopts what runs, goes on with its open operation. What does not run is
/// started by [`start_last_good`](super::start_last_good).
///
/// # Errors
/// When something durable cannot be read; what runs goes on running.
pub(crate) async fn take_over(
    service: &Rc<Service>,
    inventory: &mut Inventory,
) -> Result<(), BootError> {
    had_a_state(service, inventory)?;
    have_directories(service)?;
    reserve::fill(&service.paths.reserve());
    let config = service.config();
    let lost = service.slots.adopt(&config, &mut inventory.kept)?;
    // Before anything runs for it: it may be taken over once this can be read.
    let (open, damaged) = open_operation(&service.paths)?;
    let socket = inventory.kept.remove(&service.notify_socket());
    sd_notify::open(service, socket).await?;
    let (mine, others) = take_mine(service, inventory);
    host_command::end_all(&service.shared.link, others).await;
    task::sweep(service);
    backup::sweep(service);
    let ends = adopt_generations(service, mine, inventory);
    warn(service, "removing sockets of a rehearsal", fs::remove_tree(&service.paths.relay()));
    let is_lost = !lost.is_empty();
    if is_lost {
        service.slots.restore_notes(service.link(), lost, &holders(service)).await?;
    }
    if open.is_some() && !service.durable.state().stopped {
        open_again(service).await;
    }
    if let Some(good) = service.durable.state().last_good {
        service.fleet.seen(GenerationId(good.generation));
    }
    warn(service, "removing what was staged", intake::sweep(&service.paths));
    let live = live_generation(service, open.as_ref())?;
    if let Some(generation) = live.and_then(|id| service.fleet.get(id)) {
        warn(service, "steering to what was live", service.steer_to(&generation, Duty::Live));
    }
    stay_finished(service, inventory).await;
    service.slots.park(|listener| service.owned_slots(listener))?;
    if is_lost {
        service.slots.hold_again(service.link(), |index| service.owned_slots(index)).await?;
    }
    match open {
        Some((intent, records)) => {
            let opened = opened::read(&intent, &records).map_err(Obstacle::Unknown);
            match damaged.map_or(opened, |error| Err(Obstacle::Damaged(error))) {
                Ok(opened) => resume(service, &intent, &records, opened)?,
                Err(obstacle) => unresumed::leave(service, &intent, &records, &obstacle),
            }
        }
        None => {
            let swept = release::sweep(&service.paths, &service.durable.named());
            warn(service, "removing what is left of releases", swept);
            conclude::let_go(service, None);
        }
    }
    conclude::clear(service);
    for following in ends {
        following.begin(service);
    }
    if let Some(generation) =
        service.live_generation().filter(|generation| generation.duty() == Duty::Live)
        && (generation.is_alive() || may_start(service))
    {
        revive(service, &generation);
        look_at(service, &generation);
        scale::begin(service);
    }
    service.tend();
    restore_undo::tell_left(service);
    forget_the_rest(service, inventory);
    Ok(())
}

/// A program had ended for good, unless it was started again since.
async fn stay_finished(service: &Service, inventory: &mut Inventory) {
    let Some(note) = inventory.kept.remove(&finished_name(service)) else { return };
    service.condition.finish(true);
    if service.live_generation().is_some_and(|generation| generation.is_whole()) {
        return unfinish(service).await;
    }
    let why = memory::text_of(note).unwrap_or_default();
    service.condition.report(Source::Restart, String::from_utf8_lossy(&why));
}

/// The processes that have each slot.
fn holders(service: &Service) -> Vec<(Vec<SlotId>, i32)> {
    let generations = service.fleet.all();
    let instances = generations.iter().flat_map(|generation| generation.instances());
    let seats = instances.flat_map(|instance| {
        let seats = [&instance.program, &instance.forwarder];
        let pids = seats.map(|seat| seat.run().map(|run| run.identity.pid));
        pids.into_iter().flatten().map(|pid| (instance.slots.clone(), pid)).collect::<Vec<_>>()
    });
    seats.collect()
}

/// Listeners that were lost while nobody served are there again before the operation goes on: callers
/// wait, and are not refused. What keeps one from being opened is told by its start.
async fn open_again(service: &Rc<Service>) {
    let config = service.config();
    // Nothing of it runs: it starts like any other, when those before it are up.
    if !config.after.is_empty() && service.fleet.all().is_empty() {
        service.activity.hold_back();
    }
    if let Err(error) = service.slots.open(service.link(), &config).await {
        tracing::warn!(service = %service.name, %error, "opening its listeners again");
    }
}

/// The service's directories. What is to be in `shared/` before the first release, its user puts there.
fn have_directories(service: &Service) -> std::io::Result<()> {
    service.paths.create()?;
    match service.durable.last_good() {
        None => start::give_shared(service, service.config().settings.user.as_deref()),
        Some(_) => Ok(()),
    }
}
