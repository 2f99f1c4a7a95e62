//! What a child of this service is started with: its command, environment, descriptors, label.

use std::collections::BTreeMap;

use crate::config::model::{Handoff, Settings};
use crate::core::duty::Duty;
use crate::core::ids::{GenerationId, InstanceIndex, ReleaseId, ServiceName};
use crate::keeper::protocol::{ChildId, Identity, LaunchSpec, LaunchUser, ListenFd, OUTPUT, SPOOL};
use crate::os::limits::ProcessLimits;
use crate::os::proc;
use crate::supervisor::processes::child_tag::{Label, Purpose, Role};
use crate::supervisor::processes::program_check;
use crate::supervisor::processes::whole_tree::WholeTree;
use crate::supervisor::service::Service;
use crate::supervisor::service::instances::{Generation, Instance};
use crate::supervisor::sockets::backend_address::BackendAddress;

/// Why a child cannot be started with its settings.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpecError {
    /// The user is not known.
    #[error("there is no user {user:?}")]
    User {
        /// The name.
        user: String,
    },
    /// A group is not known.
    #[error("there is no group {group:?}")]
    Group {
        /// The name.
        group: String,
    },
    /// Groups are root's to give.
    #[error("only root can run a program with other groups than its own")]
    Groups,
    /// The release names no command.
    #[error("no command: neither the configuration nor release.toml names one")]
    NoCommand,
}

/// The name the keeper has an instance's output under.
pub(crate) fn output_name(service: &ServiceName, id: GenerationId, index: InstanceIndex) -> String {
    format!("{OUTPUT}{service}/{id}/{index}")
}

/// Under which the keeper holds what was read of an output and is not in the log yet.
pub(crate) fn spool_name(service: &ServiceName, id: GenerationId, index: InstanceIndex) -> String {
    format!("{SPOOL}{service}/{id}/{index}")
}

/// The label of an instance that is about to be started.
pub(crate) fn label_of(
    service: &Service,
    generation: &Generation,
    instance: &Instance,
    role: Role,
) -> Label {
    let (port, socket) = match &instance.place {
        Some(BackendAddress::Port(port)) => (Some(*port), None),
        Some(BackendAddress::Socket(path)) => (None, Some(path.clone())),
        None => (None, None),
    };
    Label {
        version: 1,
        service: service.name.to_string(),
        release: generation.release.0,
        generation: generation.id.0,
        instance: instance.index.0,
        slots: instance.slots.iter().map(|slot| slot.0).collect(),
        started_ms: service.now().0,
        restarts: instance.restarts(),
        role,
        instances: generation.settings.instances,
        started_with: generation.started_with.get(),
        port,
        socket,
        // The next supervisor ends what was only tried out.
        purpose: (generation.duty() == Duty::Rehearsal).then_some(Purpose::Rehearsal),
    }
}

/// The label of a command that runs once.
pub(crate) fn oneshot_label(service: &Service, release: ReleaseId, purpose: &Purpose) -> Label {
    let plain = Label::command(service.name.as_str(), service.now(), purpose.clone());
    Label { release: release.0, ..plain }
}

/// The address that the child was given to listen on.
pub(crate) fn place_of(label: &Label) -> Option<BackendAddress> {
    let socket = label.socket.clone().map(BackendAddress::Socket);
    socket.or(label.port.map(BackendAddress::Port))
}

/// What a launcher does for this instance.
///
/// # Errors
/// When there is no command, or the user is not known.
pub(crate) fn spec_of(
    service: &Service,
    generation: &Generation,
    instance: &Instance,
    output: String,
) -> Result<LaunchSpec, SpecError> {
    let (program, args) = generation.settings.command.split_first().ok_or(SpecError::NoCommand)?;
    let user = user_of(&generation.settings)?;
    let handoff = generation.settings.handoff;
    let fill = |text: &String| match &instance.place {
        Some(place) => place.fill(text),
        None => text.clone(),
    };
    let inherits = handoff == Handoff::Inherit;
    let intercepts = handoff == Handoff::Intercept;
    let mut spec = LaunchSpec {
        program: fill(program),
        args: args.iter().map(fill).collect(),
        env: environment(service, generation, instance),
        cwd: service.paths.release(generation.release).to_string_lossy().into_owned(),
        sealed: Some(service.paths.release(generation.release)),
        user,
        own_limits: generation.settings.limits.clone(),
        listen: if inherits { listen_fds(service, instance) } else { Vec::new() },
        intercept: if intercepts { service.slots.catches(&instance.slots) } else { Vec::new() },
        output: Some(output),
        ..LaunchSpec::default()
    };
    generation.confinement.apply(&mut spec);
    Ok(spec)
}

/// What a launcher does for the process that passes connections on to this instance.
pub(crate) fn forward_spec(
    service: &Service,
    generation: &Generation,
    instance: &Instance,
    output: String,
) -> Result<LaunchSpec, SpecError> {
    let program = spec_of(service, generation, instance, output)?;
    let forward = &service.config().forward;
    let place = instance.place.as_ref().map(BackendAddress::text).unwrap_or_default();
    let mut args = vec![crate::forward::VERB.to_owned(), "--to".to_owned(), place];
    if forward.proxy_protocol {
        args.push("--proxy-protocol".to_owned());
    }
    // Without root, Halley itself could not look into it either.
    if rustix::process::geteuid().is_root() {
        args.push("--private".to_owned());
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
        own_limits: ProcessLimits::default(),
        isolation: None,
        writes: None,
        sealed: None,
        ..program
    })
}

/// What all processes of an instance are known by, wherever they run to.
pub(crate) fn tree_of(
    service: &Service,
    generation: &Generation,
    child: ChildId,
    leader: Option<Identity>,
) -> WholeTree {
    let dir = service.paths.dir().display();
    WholeTree { mark: format!("{dir}/{}.{}", generation.id, child.0), leader }
}

/// The user to run as, from the settings.
///
/// # Errors
/// When there is no such user.
pub(crate) fn user_of(settings: &Settings) -> Result<Option<LaunchUser>, SpecError> {
    let has_groups = settings.group.is_some() || !settings.groups.is_empty();
    if has_groups && !rustix::process::geteuid().is_root() {
        return Err(SpecError::Groups);
    }
    let mut user = match &settings.user {
        Some(name) => proc::user(name).ok_or_else(|| SpecError::User { user: name.clone() })?,
        None if has_groups => proc::own_user(),
        None => return Ok(None),
    };
    let group =
        |name: &String| proc::group(name).ok_or_else(|| SpecError::Group { group: name.clone() });
    if let Some(name) = &settings.group {
        user.gid = group(name)?;
    }
    for name in &settings.groups {
        user.groups.push(group(name)?);
    }
    Ok(Some(user))
}

fn listen_fds(service: &Service, instance: &Instance) -> Vec<ListenFd> {
    let named = service.config().listen.len() > 1;
    let name = |n: usize| {
        if named { format!("{}-{n}", service.name) } else { service.name.to_string() }
    };
    let kept = service.slots.kept_names(&instance.slots).into_iter().enumerate();
    kept.map(|(n, kept)| ListenFd { kept, fd_name: name(n) }).collect()
}

fn environment(
    service: &Service,
    generation: &Generation,
    instance: &Instance,
) -> Vec<(String, String)> {
    let mut env = environment_of(service, generation.release, &generation.settings);
    if let Some(place) = &instance.place {
        for name in generation.settings.env.keys() {
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
    let watchdog = generation.settings.health.watchdog;
    if !watchdog.is_zero() {
        env.insert("WATCHDOG_USEC".to_owned(), watchdog.as_micros().to_string());
    }
    env.into_iter().collect()
}

/// A clean environment: the few names that programs need to live, the settings' own, and Halley's.
pub(crate) fn environment_of(
    service: &Service,
    release: ReleaseId,
    settings: &Settings,
) -> BTreeMap<String, String> {
    let mut env: BTreeMap<String, String> = BTreeMap::new();
    for name in ["LANG", "LC_ALL", "TZ", "TMPDIR"] {
        if let Ok(value) = std::env::var(name) {
            env.insert(name.to_owned(), value);
        }
    }
    env.insert("PATH".to_owned(), program_check::search_path(settings));
    if let Some(account) = proc::account(settings.user.as_deref()) {
        let of_account = [
            ("USER", &account.name),
            ("LOGNAME", &account.name),
            ("HOME", &account.home),
            ("SHELL", &account.shell),
        ];
        env.extend(of_account.map(|(name, value)| (name.to_owned(), value.clone())));
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
