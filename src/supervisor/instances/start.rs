//! Starting a generation: slots, output, environment, launch.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::rc::Rc;

use crate::config::model::{Handoff, Listen, Settings};
use crate::core::duty::Duty;
use crate::core::ids::{GenerationId, InstanceIndex, ReleaseId};
use crate::core::ordered::Ordered as _;
use crate::core::restart::Process;
use crate::keeper::protocol::{LaunchSpec, Reach};
use crate::os::beneath::Dir;
use crate::os::spool::Spool;
use crate::os::{fs, local, proc};
use crate::store::seal;
use crate::supervisor::instances::belongings;
use crate::supervisor::instances::claim::{self, Claim};
use crate::supervisor::instances::restarter;
use crate::supervisor::instances::retire;
use crate::supervisor::processes::child_tag::Role;
use crate::supervisor::processes::keeper_client::LinkError;
use crate::supervisor::processes::log_pipe::Pump;
use crate::supervisor::service::Service;
use crate::supervisor::service::child_spec::{self, SpecError};
use crate::supervisor::service::confinement::Confinement;
use crate::supervisor::service::instances::{Generation, Instance};
use crate::supervisor::sockets::backend_address::{self, BackendAddress};
use crate::supervisor::sockets::slots::SlotError;
use crate::supervisor::spawn;

/// Why a generation could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// No slot.
    #[error(transparent)]
    Slot(#[from] SlotError),
    /// The launch failed.
    #[error(transparent)]
    Launch(#[from] LinkError),
    /// It was to be stopped before it ran.
    #[error("it was stopped while it was being started")]
    Leaving,
    /// The settings.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// Its output could not be prepared.
    #[error("preparing the output of an instance: {source}")]
    Output {
        /// The system's error.
        #[from]
        source: std::io::Error,
    },
}

/// Starts all instances of a release as one generation. It is a candidate: no connections are
/// steered to it. The host's settings decide how many there are, not the release.
///
/// # Errors
/// [`StartError`]; what was started of it is stopped again.
pub(crate) async fn start(
    service: &Rc<Service>,
    id: GenerationId,
    release: ReleaseId,
    mut settings: Settings,
) -> Result<Rc<Generation>, StartError> {
    settings.instances = service.config().settings.instances;
    let confinement = Confinement::default();
    start_as(service, id, release, settings, Duty::Candidate, confinement).await
}

/// Starts a generation with as many instances as the settings ask for, kept to what is given.
///
/// # Errors
/// As [`start`].
pub(crate) async fn start_as(
    service: &Rc<Service>,
    id: GenerationId,
    release: ReleaseId,
    settings: Settings,
    duty: Duty,
    confinement: Confinement,
) -> Result<Rc<Generation>, StartError> {
    let config = service.config();
    service.slots.open(service.link(), &config).await?;
    service.fleet.seen(id);
    give_shared(service, settings.user.as_deref())?;
    if let Some(user) = settings.user.as_deref().and_then(proc::user) {
        // It may be another one than when the tree was sealed.
        seal::open_to(&service.paths.release(release), user.gid)?;
        belongings::give_writable(&service.paths.writable(release), &user)?;
    }
    let n = settings.instances;
    let generation = Generation::confined(id, release, settings, service.now(), duty, confinement);
    service.fleet.insert(Rc::clone(&generation));
    for index in 0..n {
        match start_one(service, &generation, InstanceIndex(index)).await {
            // They are gated together, before connections are steered to any of them.
            Ok(instance) => instance.join(),
            Err(error) => {
                retire::stop_now(service, &generation).await;
                return Err(error);
            }
        }
    }
    Ok(generation)
}

/// Gives `shared/` to a user, unless the release that serves has it.
pub(crate) fn give_shared(service: &Service, user: Option<&str>) -> std::io::Result<()> {
    let Some(user) = user.filter(|user| keeper_of_shared(service, user).is_none()) else {
        return Ok(());
    };
    let known = proc::user(user);
    known.map_or(Ok(()), |user| fs::give_to(&service.paths.shared(), user.uid, user.gid))
}

/// The user of the release that serves, when that is another one: it keeps `shared/` meanwhile. Root
/// needs no directory of its own.
pub(crate) fn keeper_of_shared(service: &Service, user: &str) -> Option<String> {
    let live = service.live_generation().filter(|generation| generation.is_alive())?;
    live.settings.user.clone().filter(|present| present != user)
}

/// Starts one more process of a generation, in slots and at a place of its own.
///
/// # Errors
/// [`StartError`].
pub(crate) async fn start_one(
    service: &Rc<Service>,
    generation: &Rc<Generation>,
    index: InstanceIndex,
) -> Result<Rc<Instance>, StartError> {
    if claim::is_dismissed(service, generation) {
        return Err(StartError::Leaving);
    }
    let instances = generation.instances();
    let first = instances.first().map(|instance| instance.slots.as_slice());
    let owned = |listener: usize| service.owned_slots(listener);
    let taken = service.slots.take(service.link(), owned, first).await;
    let prepared = match taken {
        Ok(slots) => place_of(service, generation, index).map(|place| (slots, place)),
        Err(error) => Err(error.into()),
    };
    let made = prepared.map(|(slots, place)| Rc::new(Instance::new(index, slots, place)));
    if let Ok(instance) = &made {
        generation.add(Rc::clone(instance));
    }
    service.slots.handed_over();
    let instance = made?;
    launch(service, generation, &instance).await?;
    Ok(instance)
}

fn place_of(
    service: &Rc<Service>,
    generation: &Generation,
    index: InstanceIndex,
) -> Result<Option<BackendAddress>, StartError> {
    if generation.settings.handoff != Handoff::Port {
        return Ok(None);
    }
    if backend_address::wants_socket(&generation.settings) {
        let sockets = Dir::have(&service.paths.sockets(), 0o755)?;
        if let Some(user) = generation.settings.user.as_deref().and_then(proc::user) {
            sockets.give_to(user.uid, user.gid)?;
        }
        return Ok(Some(BackendAddress::Socket(service.paths.own_socket(generation.id, index))));
    }
    Ok(Some(BackendAddress::Port(free_port(service)?)))
}

/// Starts one instance in the slots it has, and the forwarder that passes connections on to it. One
/// that is being started already is left to whoever does so.
///
/// # Errors
/// [`StartError`]; the program may run all the same, without its forwarder.
pub(crate) async fn launch(
    service: &Rc<Service>,
    generation: &Rc<Generation>,
    instance: &Rc<Instance>,
) -> Result<(), StartError> {
    let child = service.link().new_child();
    let Some(claim) = Claim::hold(child, Process::Program, generation, instance) else {
        return Ok(());
    };
    // A forwarder goes on taking connections out of its slots while its program is away.
    if instance.forwarder.is_empty() {
        service.slots.refit(&instance.slots).await?;
    }
    if let Some(BackendAddress::Socket(path)) = &instance.place {
        drop(local::remove(path));
    }
    let output = output_of(service, generation, instance).await?;
    let spec = child_spec::spec_of(service, generation, instance, output)?;
    instance.begin_start();
    spawn(service, claim, spec).await?;
    launch_forwarder(service, generation, instance).await
}

/// Starts the forwarder that passes connections on, unless there is one, is about to be one, or none
/// is needed.
///
/// # Errors
/// [`StartError`].
pub(crate) async fn launch_forwarder(
    service: &Rc<Service>,
    generation: &Rc<Generation>,
    instance: &Rc<Instance>,
) -> Result<(), StartError> {
    let needed = instance.place.is_some() && !instance.slots.is_empty();
    if !needed {
        return Ok(());
    }
    let child = service.link().new_child();
    let Some(claim) = Claim::hold(child, Process::Forwarder, generation, instance) else {
        return Ok(());
    };
    let output = output_of(service, generation, instance).await?;
    let spec = child_spec::forward_spec(service, generation, instance, output)?;
    spawn(service, claim, spec).await
}

/// Has the keeper start a process in the place that is held for it. What was asked of the keeper
/// comes to its end, whatever becomes of the one who asked: a process that runs has its place, and
/// one that is not wanted any more is ended.
async fn spawn(
    service: &Rc<Service>,
    claim: Claim,
    mut spec: LaunchSpec,
) -> Result<(), StartError> {
    let service = Rc::clone(service);
    let spawned = spawn::local(async move {
        let Claim { child, process, ref generation, ref instance } = claim;
        if claim::is_leaving(&service, generation, instance) {
            return Err(StartError::Leaving);
        }
        let role = match process {
            Process::Program => {
                generation.confinement.surround(service.link(), child, &mut spec);
                spec.mark = Some(child_spec::tree_of(&service, generation, child, None).mark);
                if let (Some(fence), Some(BackendAddress::Port(port))) =
                    (&mut spec.fence, &instance.place)
                {
                    fence.given.push(*port);
                }
                Role::Instance
            }
            Process::Forwarder => Role::Forwarder,
        };
        let label = child_spec::label_of(&service, generation, instance, role);
        let identity = service.link().spawn(child, label.print(), spec).await?;
        claim.fill(identity, service.now());
        restarter::follow(&service, generation, instance, process, child);
        if !claim::is_leaving(&service, generation, instance) {
            return Ok(());
        }
        tracing::info!(service = %service.name, generation = %generation.id,
            "a process is ended that was being started when it was to stop");
        service.link().signal(child, libc::SIGKILL, Reach::Tree, Vec::new()).await?;
        Err(StartError::Leaving)
    });
    spawned.await.unwrap_or(Err(StartError::Leaving))
}

/// Makes the pipe of the instance's output, has it kept and read, once for all its restarts.
async fn output_of(
    service: &Rc<Service>,
    generation: &Rc<Generation>,
    instance: &Rc<Instance>,
) -> Result<String, StartError> {
    let name = child_spec::output_name(&service.name, generation.id, instance.index);
    if !instance.is_pumped() {
        let user = generation.settings.user.as_deref().and_then(proc::user);
        let pipe = fs::output_pipe(user.map(|user| (user.uid, user.gid)))?;
        service.link().keep(name.clone(), pipe.as_fd()).await?;
        let spool = Spool::new()?;
        let kept = child_spec::spool_name(&service.name, generation.id, instance.index);
        service.link().keep(kept, spool.as_fd()).await?;
        let writer = service.logs.writer(generation.release);
        instance.pump(Pump::begin(&pipe, spool, instance.index.0, writer)?);
    }
    Ok(name)
}

/// A port that no listener and no instance has.
fn free_port(service: &Service) -> std::io::Result<u16> {
    backend_address::free_port(&taken(service), &service.shared.next_port)
}

/// Ports of all listeners and instances of this service; other services' show when they are bound.
fn taken(service: &Service) -> BTreeSet<u16> {
    let config = service.config();
    let listeners = config.listen.iter().filter_map(|listen| match listen {
        Listen::Tcp(address) | Listen::Udp(address) => Some(address.port()),
        Listen::Unix(_) => None,
    });
    let generations = service.fleet.all();
    let instances = generations.iter().flat_map(|generation| generation.instances());
    let places = instances.filter_map(|instance| match instance.place {
        Some(BackendAddress::Port(port)) => Some(port),
        Some(BackendAddress::Socket(_)) | None => None,
    });
    listeners.chain(places).into_set()
}
