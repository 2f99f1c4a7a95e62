//! Starting a generation: slots, output, environment, launch.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::rc::Rc;

use tokio::sync::watch;

use crate::config::model::Settings;
use crate::core::ids::{Generation, InstanceIndex, ReleaseId};
use crate::keeper::protocol::{LaunchSpec, ListenFd};
use crate::os::{fs, proc};
use crate::supervisor::fleet::{Crew, Duty, Instance, Run};
use crate::supervisor::guard;
use crate::supervisor::label::Label;
use crate::supervisor::leave;
use crate::supervisor::link::LinkError;
use crate::supervisor::logs;
use crate::supervisor::service::Service;
use crate::supervisor::slots::SlotError;

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
///
/// # Errors
/// [`StartError`]; what was started of it is stopped again.
pub async fn start(
    service: &Rc<Service>,
    generation: Generation,
    release: ReleaseId,
    settings: Settings,
) -> Result<Rc<Crew>, StartError> {
    let config = service.config();
    service.slots.open(service.link(), &config.listen, config.backlog).await?;
    service.fleet.seen(generation);
    if let Some(user) = settings.user.as_deref().and_then(proc::user) {
        fs::give_to(&service.paths.shared(), user.uid, user.gid)?;
    }
    let mut instances = Vec::new();
    for index in 0..settings.instances {
        let taken: Vec<Rc<Instance>> = instances.clone();
        let owned = |listener: usize| {
            let mine = taken.iter().filter_map(|i: &Rc<Instance>| i.slots.get(listener).copied());
            service.owned_slots(listener).into_iter().chain(mine).collect()
        };
        let slots = service.slots.take(service.link(), owned).await?;
        instances.push(Rc::new(Instance::new(InstanceIndex(index), slots)));
    }
    let crew = Rc::new(Crew {
        generation,
        release,
        settings,
        started: service.now(),
        instances,
        n_ends: watch::channel(0).0,
        duty: Cell::new(Duty::Candidate),
    });
    service.fleet.insert(Rc::clone(&crew));
    for instance in &crew.instances {
        if let Err(error) = launch(service, &crew, instance).await {
            leave::stop_now(service, &crew).await;
            return Err(error);
        }
    }
    Ok(crew)
}

/// Starts one instance in the slots it has.
///
/// # Errors
/// [`StartError`].
pub async fn launch(
    service: &Rc<Service>,
    crew: &Rc<Crew>,
    instance: &Rc<Instance>,
) -> Result<(), StartError> {
    service.slots.refit(&instance.slots).await?;
    let output = output_of(service, crew, instance).await?;
    let spec = spec_of(service, crew, instance, output)?;
    let child = service.link().new_child();
    let label = Label::of(service, crew, instance).print();
    let end = service.link().end_of(child);
    let identity = service.link().spawn(child, label, spec).await?;
    instance.ready.set(false);
    instance.said_ready.set(false);
    instance.run.replace(Some(Run { child, identity, started: service.now() }));
    guard::follow(service, crew, instance, end);
    Ok(())
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
        instance.pump.replace(Some(logs::pump(fifo, instance.index.0, writer)));
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
    let user = match &crew.settings.user {
        Some(name) => {
            let unknown = || StartError::User { user: name.clone() };
            Some(proc::user(name).ok_or_else(unknown)?)
        }
        None => None,
    };
    let listen = service.slots.kept_names(&instance.slots);
    let named = service.config().listen.len() > 1;
    let listen = listen.into_iter().enumerate().map(|(n, kept)| ListenFd {
        kept,
        fd_name: if named { format!("{}-{n}", service.name) } else { service.name.to_string() },
    });
    Ok(LaunchSpec {
        program: program.clone(),
        args: args.to_vec(),
        env: environment(service, crew, instance),
        cwd: service.paths.release(crew.release).to_string_lossy().into_owned(),
        user,
        listen: listen.collect(),
        output: Some(output),
        no_new_privs: false,
        n_files_max: None,
        cgroup: None,
    })
}

/// A clean environment: the few names that programs need to live, the settings' own, and Halley's.
fn environment(service: &Service, crew: &Crew, instance: &Instance) -> Vec<(String, String)> {
    let mut env: BTreeMap<String, String> = BTreeMap::new();
    for name in ["PATH", "LANG", "LC_ALL", "TZ", "HOME", "TMPDIR"] {
        if let Ok(value) = std::env::var(name) {
            env.insert(name.to_owned(), value);
        }
    }
    env.entry("PATH".to_owned()).or_insert_with(|| {
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()
    });
    if let Some(user) = &crew.settings.user {
        env.insert("USER".to_owned(), user.clone());
        env.insert("LOGNAME".to_owned(), user.clone());
        if let Some(home) = proc::home(user) {
            env.insert("HOME".to_owned(), home);
        }
    }
    env.extend(crew.settings.env.clone());
    let release_dir = service.paths.release(crew.release);
    let ours = [
        ("HALLEY_SERVICE", service.name.to_string()),
        ("HALLEY_RELEASE", crew.release.to_string()),
        ("HALLEY_RELEASE_DIR", release_dir.to_string_lossy().into_owned()),
        ("HALLEY_SHARED", service.paths.shared().to_string_lossy().into_owned()),
        ("HALLEY_INSTANCE", instance.index.to_string()),
        ("NOTIFY_SOCKET", service.paths.notify_socket().to_string_lossy().into_owned()),
    ];
    env.extend(ours.map(|(name, value)| (name.to_owned(), value)));
    env.into_iter().collect()
}
