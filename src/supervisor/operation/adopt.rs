//! A supervisor comes up: what the keeper holds of a service is put together to generations.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use crate::config::host::Start;
use crate::core::duty::Duty;
use crate::core::restart::Process;
use crate::core::time::Tick;
use crate::keeper::protocol::{ChildId, End};
use crate::os::spool::Spool;
use crate::supervisor::instances::ownership;
use crate::supervisor::instances::restarter;
use crate::supervisor::processes::child_tag::{Label, Role};
use crate::supervisor::processes::keeper_client::{Found, Inventory};
use crate::supervisor::processes::log_pipe::Pump;
use crate::supervisor::service::Service;
use crate::supervisor::service::child_spec;
use crate::supervisor::service::instances::{Generation, Instance};
use crate::supervisor::service::seat::Run;
use crate::supervisor::service::settings;
use crate::supervisor::spawn;

/// An output and its spool.
type Kept = (Option<OwnedFd>, Option<OwnedFd>);

/// A child, and how it has ended.
type Child = (ChildId, Option<End>);

/// This service's children that belong to a generation, and those that are to be ended: commands,
/// because nothing waits for them any more, and rehearsed instances. Processes that relay
/// connections go on.
pub(super) fn take_mine(
    service: &Rc<Service>,
    inventory: &mut Inventory,
) -> (Vec<(Label, Found)>, Vec<Child>) {
    let (mine, others): (Vec<_>, Vec<_>) = std::mem::take(&mut inventory.children)
        .into_iter()
        .map(|found| (Label::read(&found.label), found))
        .partition(|(label, _)| {
            label.as_ref().is_some_and(|label| label.service == service.name.as_str())
        });
    inventory.children = others.into_iter().map(|(_, found)| found).collect();
    let (mut instances, mut others) = (Vec::new(), Vec::new());
    for (label, found) in mine {
        let Some(label) = label else { continue };
        match (label.role, &label.purpose) {
            (Role::Instance | Role::Forwarder, None) => instances.push((label, found)),
            (Role::Passer, _) => service.slots.passers().adopt(found),
            (Role::Follower, _) => service.kept.adopt(found),
            // Ended or not, the work that it was run for collects its end when resumed.
            (Role::Oneshot, Some(purpose)) if purpose.outlives_a_supervisor() => {
                if let Some(end) = found.end {
                    service.link().child_ended(found.child, end);
                }
                service.activity.leave_over(purpose.clone(), found.child);
            }
            (Role::Probe | Role::Oneshot, _) | (Role::Instance | Role::Forwarder, Some(_)) => {
                others.push((found.child, found.end));
            }
        }
    }
    (instances, others)
}

/// Whose end is to be followed.
pub(super) struct Following {
    generation: Rc<Generation>,
    instance: Rc<Instance>,
    process: Process,
    child: ChildId,
}

impl Following {
    pub(super) fn begin(self, service: &Rc<Service>) {
        restarter::follow(service, &self.generation, &self.instance, self.process, self.child);
    }
}

/// The last child in a place: earlier ones have ended and been replaced.
type Places = BTreeMap<(u16, bool), (Label, Found)>;

/// Puts generations together from their children. Returns whose end is to be followed.
pub(super) fn adopt_generations(
    service: &Rc<Service>,
    mine: Vec<(Label, Found)>,
    inventory: &mut Inventory,
) -> Vec<Following> {
    let mut by_generation: BTreeMap<u64, Places> = BTreeMap::new();
    let mut stale = Vec::new();
    for (label, found) in mine {
        let places = by_generation.entry(label.generation).or_default();
        let place = (label.instance, label.role == Role::Forwarder);
        match places.remove(&place) {
            Some((old_label, old)) if old.child > found.child => {
                stale.push(found);
                places.insert(place, (old_label, old));
            }
            before => {
                stale.extend(before.map(|(_, old)| old));
                places.insert(place, (label, found));
            }
        }
    }
    end_stale(service, stale);
    by_generation
        .into_values()
        .flat_map(|places| adopt_generation(service, places, inventory))
        .collect()
}

/// Earlier children of a place have ended; one that has not is nobody's.
fn end_stale(service: &Rc<Service>, stale: Vec<Found>) {
    let (ended, running): (Vec<_>, Vec<_>) =
        stale.into_iter().partition(|found| found.end.is_some());
    let service = Rc::clone(service);
    spawn::local(async move {
        for found in ended {
            service.link().acknowledge(found.child).await;
        }
        ownership::end(&service, running.into_iter().map(|found| found.child).collect()).await;
    });
}

fn adopt_generation(
    service: &Rc<Service>,
    places: Places,
    inventory: &mut Inventory,
) -> Vec<Following> {
    let Some((label, _)) = places.values().next() else { return Vec::new() };
    let (id, release) = (label.generation(), label.release());
    let mut settings = settings::of_start(service, release, Start::Again)
        .unwrap_or_else(|_| service.config().settings.clone());
    let n = places.values().map(|(label, _)| label.instances).max().unwrap_or(0);
    settings.instances = if n == 0 { settings.instances } else { n };
    let started = Tick(label.started_ms);
    let generation = Generation::new(id, release, settings, started, Duty::Standby);
    generation.started_with.set(label.started_with);
    let mut following = Vec::new();
    for (label, found) in places.into_values() {
        let known = generation.instances().into_iter().find(|known| known.index == label.index());
        let instance = known.unwrap_or_else(|| {
            let new = Rc::new(Instance::new(
                label.index(),
                label.slot_ids(),
                child_spec::place_of(&label),
            ));
            generation.add(Rc::clone(&new));
            new
        });
        let started = Tick(label.started_ms);
        let run = Run { child: found.child, identity: found.identity, started };
        let process = match label.role {
            Role::Forwarder => Process::Forwarder,
            _ => {
                instance.found(label.restarts);
                Process::Program
            }
        };
        instance.seat(process).fill(run);
        if let Some(end) = found.end {
            service.link().child_ended(found.child, end);
        }
        let (generation, child) = (Rc::clone(&generation), found.child);
        following.push(Following { generation, instance, process, child });
    }
    for instance in &generation.instances() {
        let name = child_spec::output_name(&service.name, generation.id, instance.index);
        let spool = child_spec::spool_name(&service.name, generation.id, instance.index);
        let kept = (inventory.kept.remove(&name), inventory.kept.remove(&spool));
        let kept = with_a_spool(service, kept, spool);
        let writer = service.logs.writer(release);
        match Pump::resume(kept, instance.index.0, writer) {
            Ok(pump) => pump.into_iter().for_each(|pump| instance.pump(pump)),
            Err(error) => tracing::error!(service = %service.name, %error, "reading its output"),
        }
    }
    service.fleet.insert(generation);
    following
}

/// A spool is lost with the keeper and the supervisor; the FIFO is not, the program has it.
fn with_a_spool(service: &Rc<Service>, kept: Kept, name: String) -> Kept {
    let (Some(fifo), None) = &kept else { return kept };
    let made = Spool::new().and_then(|spool| spool.as_fd().try_clone_to_owned());
    let copied = fifo.try_clone().and_then(|fifo| Ok((fifo, made?)));
    let Ok((fifo, spool)) = copied else { return kept };
    if let Ok(copy) = spool.try_clone() {
        let service = Rc::clone(service);
        spawn::local(async move {
            if let Err(error) = service.link().keep(name, copy.as_fd()).await {
                tracing::warn!(service = %service.name, %error, "having a spool kept");
            }
        });
    }
    (Some(fifo), Some(spool))
}

/// Descriptors of this service without an owner: outputs of processes that are gone, slots
/// of an address it no longer has.
pub(super) fn forget_the_rest(service: &Rc<Service>, inventory: &mut Inventory) {
    let mine = |name: &str| name.split('/').nth(1) == Some(service.name.as_str());
    let names: Vec<String> = inventory.kept.keys().filter(|name| mine(name)).cloned().collect();
    for name in names {
        inventory.kept.remove(&name);
        let service = Rc::clone(service);
        spawn::local(async move {
            if let Err(error) = service.link().forget(name).await {
                tracing::warn!(service = %service.name, %error, "closing unused descriptors");
            }
        });
    }
}
