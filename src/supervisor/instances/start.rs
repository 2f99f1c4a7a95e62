//! Starting a generation: slots, output, environment, launch.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::rc::Rc;

use crate::config::model::{Handoff, Settings};
use crate::core::ids::{Generation, InstanceIndex, ReleaseId};
use crate::keeper::protocol::{LaunchSpec, LaunchUser, ListenFd};
use crate::os::{fs, proc};
use crate::supervisor::instances::restarter;
use crate::supervisor::instances::retire;
use crate::supervisor::processes::child_tag::{Label, Role};
use crate::supervisor::processes::keeper_client::LinkError;
use crate::supervisor::processes::log_files;
use crate::supervisor::service::Service;
use crate::supervisor::service::instances::{Crew, Duty, Instance, Run};
use crate::supervisor::sockets::backend_address::{self, Place};
use crate::supervisor::sockets::slots::SlotError;

/// Why a generation could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No slot.
    #[error(transparent)]
    Slot(#[from] SlotError),
    /// The launch failed.
    #[error(transparent)]
    Launch(#[from] LinkError),
    /// The user is not known.
    #[error("there is no user {user:?}")]
    User {
        /// The name.
        user: String,
    },
    /// The release names no command.
    #[error("no command: neither the configuration nor release.toml names one")]
    NoCommand,
    /// Its output could not be prepared.
    #[error("preparing the output of an instance: {source}")]
    Output {
        /// The system's error.
        #[from]
        source: std::io::Error,
    },
}

/// Starts all instances of a release as one generation. It is a candidate: nobody is steered to it.
/// How many there are, the host says, not the release.
///
/// # Errors
/// [`StartError`]; what was started of it is stopped again.
pub async fn start(
    service: &Rc<Service>,
    generation: Generation,
    release: ReleaseId,
    mut settings: Settings,
) -> Result<Rc<Crew>, StartError> {
    settings.instances = service.config().settings.instances;
    start_as(service, generation, release, settings, Duty::Candidate).await
}

/// Starts a generation with as many instances as the settings say.
///
/// # Errors
/// As [`start`].
pub async fn start_as(
    service: &Rc<Service>,
    generation: Generation,
    release: ReleaseId,
    settings: Settings,
    duty: Duty,
) -> Result<Rc<Crew>, StartError> {
    let config = service.config();
    service.slots.open(service.link(), &config).await?;
    service.fleet.seen(generation);
    if let Some(user) = settings.user.as_deref().and_then(proc::user) {
        fs::give_to(&service.paths.shared(), user.uid, user.gid)?;
    }
    let n = settings.instances;
    let crew = Crew::new(generation, release, settings, service.now(), duty);
    service.fleet.insert(Rc::clone(&crew));
    for index in 0..n {
        match start_one(service, &crew, InstanceIndex(index)).await {
            // They are gated together, before anybody is steered to them.
            Ok(instance) => instance.joined.set(true),
            Err(error) => {
                retire::stop_now(service, &crew).await;
                return Err(error);
            }
        }
    }
    Ok(crew)
}

/// Starts one more process of a generation, in slots and at a place of its own.
///
/// # Errors
/// [`StartError`].
pub async fn start_one(
    service: &Rc<Service>,
    crew: &Rc<Crew>,
    index: InstanceIndex,
) -> Result<Rc<Instance>, StartError> {
    let instances = crew.instances();
    let first = instances.first().map(|instance| instance.slots.as_slice());
    let owned = |listener: usize| service.owned_slots(listener);
    let taken = service.slots.take(service.link(), owned, first).await;
    let prepared = match taken {
        Ok(slots) => place_of(service, crew, index).map(|place| (slots, place)),
        Err(error) => Err(error.into()),
    };
    let made = prepared.map(|(slots, place)| Rc::new(Instance::new(index, slots, place)));
    if let Ok(instance) = &made {
        crew.add(Rc::clone(instance));
    }
    service.slots.handed_over();
    let instance = made?;
    launch(service, crew, &instance).await?;
    Ok(instance)
}

fn place_of(
    service: &Rc<Service>,
    crew: &Crew,
    index: InstanceIndex,
) -> Result<Option<Place>, StartError> {
    if crew.settings.handoff != Handoff::Port {
        return Ok(None);
    }
    if backend_address::wants_socket(&crew.settings) {
        std::fs::create_dir_all(service.paths.sockets())?;
        if let Some(user) = crew.settings.user.as_deref().and_then(proc::user) {
            fs::give_to(&service.paths.sockets(), user.uid, user.gid)?;
        }
        return Ok(Some(Place::Socket(service.paths.own_socket(crew.generation, index))));
    }
    Ok(Some(Place::Port(backend_address::free_port(service)?)))
}

/// Starts one instance in the slots it has, and who passes connections on to it.
///
/// # Errors
/// [`StartError`].
pub async fn launch(
    service: &Rc<Service>,
    crew: &Rc<Crew>,
    instance: &Rc<Instance>,
) -> Result<(), StartError> {
    // A forwarder goes on taking connections out of its slots while its program is away.
    if instance.forwarder.borrow().is_none() {
        service.slots.refit(&instance.slots).await?;
    }
    if let Some(Place::Socket(path)) = &instance.place {
        drop(std::fs::remove_file(path));
    }
    let output = output_of(service, crew, instance).await?;
    let spec = spec_of(service, crew, instance, output)?;
    let label = Label::of(service, crew, instance, Role::Instance);
    let run = spawn(service, crew, instance, label, spec).await?;
    instance.ready.set(false);
    instance.said_ready.set(false);
    instance.run.replace(Some(run));
    launch_forwarder(service, crew, instance).await
}

/// Starts who passes connections on, unless there is one, or none is needed.
///
/// # Errors
/// [`StartError`].
pub async fn launch_forwarder(
    service: &Rc<Service>,
    crew: &Rc<Crew>,
    instance: &Rc<Instance>,
) -> Result<(), StartError> {
    let needed = instance.place.is_some() && !instance.slots.is_empty();
    if !needed || instance.forwarder.borrow().is_some() {
        return Ok(());
    }
    let output = output_of(service, crew, instance).await?;
    let spec = forward_spec(service, crew, instance, output)?;
    let label = Label::of(service, crew, instance, Role::Forwarder);
    let run = spawn(service, crew, instance, label, spec).await?;
    instance.forwarder.replace(Some(run));
    Ok(())
}

async fn spawn(
    service: &Rc<Service>,
    crew: &Rc<Crew>,
    instance: &Rc<Instance>,
    label: Label,
    spec: LaunchSpec,
) -> Result<Run, StartError> {
    let child = service.link().new_child();
    let end = service.link().end_of(child);
    let identity = service.link().spawn(child, label.print(), spec).await?;
    restarter::follow(service, crew, instance, label.role, end);
    Ok(Run { child, identity, started: service.now() })
}

/// The name the keeper has an instance's output under.
pub fn output_name(service: &Service, generation: Generation, index: InstanceIndex) -> String {
    format!("log/{}/{generation}/{index}", service.name)
}

/// Makes the instance's FIFO, has it kept and read, once for all its restarts.
async fn output_of(
    service: &Rc<Service>,
    crew: &Rc<Crew>,
    instance: &Rc<Instance>,
) -> Result<String, StartError> {
    let name = output_name(service, crew.generation, instance.index);
    if instance.pump.borrow().is_none() {
        let path = service.paths.fifo(crew.generation, instance.index);
        fs::make_fifo(&path, 0o600)?;
        if let Some(user) = crew.settings.user.as_deref().and_then(proc::user) {
            fs::give_to(&path, user.uid, user.gid)?;
        }
        let fifo = fs::open_fifo(&path)?;
        service.link().keep(name.clone(), fifo.as_fd()).await?;
        let writer = service.logs.writer(crew.release);
        instance.pump.replace(Some(log_files::pump(fifo, instance.index.0, writer)));
    }
    Ok(name)
}

/// What a launcher does for this instance.
///
/// # Errors
/// When there is no command, or the user is not known.
pub fn spec_of(
    service: &Service,
    crew: &Crew,
    instance: &Instance,
    output: String,
) -> Result<LaunchSpec, StartError> {
    let (program, args) = crew.settings.command.split_first().ok_or(StartError::NoCommand)?;
    let user = user_of(&crew.settings)?;
    let handoff = crew.settings.handoff;
    let fill = |text: &String| match &instance.place {
        Some(place) => place.fill(text),
        None => text.clone(),
    };
    let inherits = handoff == Handoff::Inherit;
    let intercepts = handoff == Handoff::Intercept;
    Ok(LaunchSpec {
        name: None,
        program: fill(program),
        args: args.iter().map(fill).collect(),
        env: environment(service, crew, instance),
        cwd: service.paths.release(crew.release).to_string_lossy().into_owned(),
        user,
        listen: if inherits { listen_fds(service, instance) } else { Vec::new() },
        intercept: if intercepts { service.slots.catches(&instance.slots) } else { Vec::new() },
        output: Some(output),
        errors: None,
        input: None,
        no_new_privs: false,
        n_files_max: None,
        cgroup: None,
    })
}

/// Whom the settings say to become.
///
/// # Errors
/// When there is no such user.
pub fn user_of(settings: &Settings) -> Result<Option<LaunchUser>, StartError> {
    let Some(name) = &settings.user else { return Ok(None) };
    let unknown = || StartError::User { user: name.clone() };
    proc::user(name).ok_or_else(unknown).map(Some)
}

fn listen_fds(service: &Service, instance: &Instance) -> Vec<ListenFd> {
    let named = service.config().listen.len() > 1;
    let name = |n: usize| {
        if named { format!("{}-{n}", service.name) } else { service.name.to_string() }
    };
    let kept = service.slots.kept_names(&instance.slots).into_iter().enumerate();
    kept.map(|(n, kept)| ListenFd { kept, fd_name: name(n) }).collect()
}

/// What a launcher does for the process that passes connections on to this instance.
fn forward_spec(
    service: &Service,
    crew: &Crew,
    instance: &Instance,
    output: String,
) -> Result<LaunchSpec, StartError> {
    let program = spec_of(service, crew, instance, output)?;
    let forward = &service.config().forward;
    let place = instance.place.as_ref().map(Place::text).unwrap_or_default();
    let mut args = vec![crate::forward::VERB.to_owned(), "--to".to_owned(), place];
    if forward.proxy_protocol {
        args.push("--proxy-protocol".to_owned());
    }
    if let Some(n) = forward.max_clients {
        args.extend(["--max-clients".to_owned(), n.to_string()]);
    }
    Ok(LaunchSpec {
        name: Some("halley-sup".to_owned()),
        // The launcher is this same binary, also when it has been replaced on the disk.
        program: "/proc/self/exe".to_owned(),
        args,
        env: Vec::new(),
        cwd: "/".to_owned(),
        listen: listen_fds(service, instance),
        no_new_privs: true,
        ..program
    })
}

fn environment(service: &Service, crew: &Crew, instance: &Instance) -> Vec<(String, String)> {
    let mut env = environment_of(service, crew.release, &crew.settings);
    if let Some(place) = &instance.place {
        for name in crew.settings.env.keys() {
            if let Some(value) = env.get_mut(name) {
                *value = place.fill(value);
            }
        }
        env.extend([place.variable()]);
    }
    let ours = [
        ("HALLEY_INSTANCE", instance.index.to_string()),
        ("NOTIFY_SOCKET", service.paths.notify_socket().to_string_lossy().into_owned()),
    ];
    env.extend(ours.map(|(name, value)| (name.to_owned(), value)));
    env.into_iter().collect()
}

/// A clean environment: the few names that programs need to live, the settings' own, and Halley's.
pub fn environment_of(
    service: &Service,
    release: ReleaseId,
    settings: &Settings,
) -> BTreeMap<String, String> {
    let mut env: BTreeMap<String, String> = BTreeMap::new();
    for name in ["PATH", "LANG", "LC_ALL", "TZ", "HOME", "TMPDIR"] {
        if let Ok(value) = std::env::var(name) {
            env.insert(name.to_owned(), value);
        }
    }
    env.entry("PATH".to_owned()).or_insert_with(|| {
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()
    });
    if let Some(user) = &settings.user {
        env.insert("USER".to_owned(), user.clone());
        env.insert("LOGNAME".to_owned(), user.clone());
        if let Some(home) = proc::home(user) {
            env.insert("HOME".to_owned(), home);
        }
    }
    let release_dir = service.paths.release(release);
    let ours = [
        ("HALLEY_SERVICE", service.name.to_string()),
        ("HALLEY_RELEASE", release.to_string()),
        ("HALLEY_RELEASE_DIR", release_dir.to_string_lossy().into_owned()),
        ("HALLEY_SHARED", service.paths.shared().to_string_lossy().into_owned()),
    ];
    env.extend(ours.map(|(name, value)| (name.to_owned(), value)));
    // Users cannot set ours; a rehearsal on a copy of the data does.
    env.extend(settings.env.clone());
    env
}
