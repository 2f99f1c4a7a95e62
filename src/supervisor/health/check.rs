//! One look at one process: the configured check, through the process's own slot.

use std::rc::Rc;
use std::time::Duration;

use crate::config::model::{Check, Listen, Settings};
use crate::keeper::protocol::End;
use crate::supervisor::health::probe::{self, FetchError, Probe};
use crate::supervisor::health::route::Way;
use crate::supervisor::processes::keeper_child::{KeeperChild, Waited};
use crate::supervisor::service::child_spec;

use crate::supervisor::processes::child_tag::Role;
use crate::supervisor::service::Service;
use crate::supervisor::service::instances::{Crew, Instance};
use crate::supervisor::sockets::backend_address::Place;
use crate::supervisor::sockets::http_client::{BodyLimit, Limits};
use crate::supervisor::sockets::listener;
use crate::supervisor::sockets::stream::Wire;

/// Most that is read of a text.
const TEXT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Probes one instance in its own slot, within the timeout of its settings. What answers is that
/// process and no other.
pub async fn at(service: &Rc<Service>, crew: &Rc<Crew>, instance: &Rc<Instance>) -> Probe {
    let health = &crew.settings.health;
    if instance.run.borrow().is_none() {
        return Probe::bad("its process has ended");
    }
    match &health.check {
        Check::Alive => Probe::good(),
        Check::Notify if instance.said_ready.get() => Probe::good(),
        Check::Notify => Probe::bad("it has not sent READY=1 to NOTIFY_SOCKET"),
        Check::Http(path) => path_at(service, crew, instance, path).await,
        Check::Tcp => taken(service, crew, instance).await,
        Check::Exec(command) => exec(service, crew, instance, command).await,
    }
}

/// The configured check, and whether connections are taken at all.
pub(crate) async fn thoroughly(
    service: &Rc<Service>,
    crew: &Rc<Crew>,
    instance: &Rc<Instance>,
) -> Probe {
    match at(service, crew, instance).await {
        good if good.is_good() => takes(service, crew, instance).await,
        bad => bad,
    }
}

/// Whether an instance takes connections out of its queue, for checks that do not go through it.
pub async fn takes(service: &Rc<Service>, crew: &Rc<Crew>, instance: &Rc<Instance>) -> Probe {
    let goes_through = matches!(crew.settings.health.check, Check::Http(_) | Check::Tcp);
    if goes_through || !service.config().is_called_by_streams() {
        return Probe::good();
    }
    match taken(service, crew, instance).await {
        good if good.is_good() => good,
        _ => Probe::bad("it accepts no connection from its accept queue"),
    }
}

/// Whether an instance answers this path well, in its own slot.
pub async fn path_at(
    service: &Rc<Service>,
    crew: &Rc<Crew>,
    instance: &Rc<Instance>,
    path: &str,
) -> Probe {
    let limit = crew.settings.health.timeout;
    probe::http(connect(service, instance), &authority(service), path, limit).await
}

/// What an instance says at this path, in its own slot.
///
/// # Errors
/// Why it says nothing, for people.
pub async fn text_at(
    service: &Rc<Service>,
    crew: &Rc<Crew>,
    instance: &Rc<Instance>,
    path: &str,
) -> Result<String, String> {
    let limit = crew.settings.health.timeout;
    let limits = Limits { deadline: limit, body: BodyLimit::First(TEXT_BYTES_MAX) };
    let body = probe::fetch(connect(service, instance), &authority(service), path, limits).await;
    let body = body.map_err(|error| match error {
        FetchError::Late => format!("GET {path}: {}", probe::too_late(limit)),
        FetchError::Failed(why) => why,
    })?;
    if body.len() > TEXT_BYTES_MAX {
        return Err(format!("GET {path}: the answer is longer than {TEXT_BYTES_MAX} bytes"));
    }
    String::from_utf8(body).map_err(|_| format!("GET {path}: the answer is not UTF-8"))
}

/// Probes the service where its users reach it: the kernel chooses among the live slots.
pub async fn in_public(service: &Rc<Service>, settings: &Settings) -> Probe {
    let listeners = service.slots.listeners();
    let listener = listeners.iter().find(|listener| listener.is_stream());
    let (Check::Http(path), Some(listener)) = (&settings.health.check, listener) else {
        return Probe::good();
    };
    let connect = async { listener::connect(listener).await.map_err(|error| error.to_string()) };
    probe::http(connect, &authority(service), path, settings.health.timeout).await
}

/// Whether the instance takes a connection out of its own slot's queue.
async fn taken(service: &Rc<Service>, crew: &Rc<Crew>, instance: &Rc<Instance>) -> Probe {
    let look = async {
        match connect(service, instance).await {
            Ok(wire) => probe::taken(&wire).await,
            Err(why) => Probe::bad(why),
        }
    };
    probe::within(crew.settings.health.timeout, look).await
}

/// Through the instance's slot in the first listener that takes connections, or, behind a proxy, at
/// its own place.
pub async fn connect(service: &Service, instance: &Instance) -> Result<Wire, String> {
    let listeners = service.slots.listeners();
    let mut slots = listeners.iter().zip(&instance.slots);
    if let Some((listener, slot)) = slots.find(|(listener, _)| listener.is_stream()) {
        let connected = listener::probe_connect(listener, *slot).await;
        return connected.map_err(|error| error.to_string());
    }
    match &instance.place {
        Some(Place::Port(port)) => {
            let address = Place::address(*port);
            let connected = Wire::tcp(address).await;
            connected.map_err(|error| format!("{address}: {error}"))
        }
        Some(Place::Socket(path)) => {
            let connected = Wire::unix(path).await;
            connected.map_err(|error| format!("{}: {error}", path.display()))
        }
        None => Err("the service has no listener to probe".to_owned()),
    }
}

fn authority(service: &Service) -> String {
    let config = service.config();
    let address = config.listen.iter().find_map(|listen| match listen {
        Listen::Tcp(address) => Some(address.to_string()),
        Listen::Udp(_) | Listen::Unix(_) => None,
    });
    address.unwrap_or_else(|| "localhost".to_owned())
}

async fn exec(
    service: &Rc<Service>,
    crew: &Rc<Crew>,
    instance: &Rc<Instance>,
    command: &[String],
) -> Probe {
    let program = command.first().map_or("", String::as_str);
    match run(service, crew, instance, command, crew.settings.health.timeout, &[]).await {
        Ran::Ended(End::Exited(0)) => Probe::good(),
        Ran::Ended(end) => Probe::bad(format!("{program}: {}", end)),
        Ran::TooLate(limit) => Probe::bad(format!("{program}: {}", probe::too_late(limit))),
        Ran::NotRun(why) => Probe::bad(why),
    }
}

/// What came of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ran {
    /// It ended by itself.
    Ended(End),
    /// It took longer than this.
    TooLate(Duration),
    /// It could not be run, because.
    NotRun(String),
}

/// Runs a command beside the instance: same tree, user, environment (and more of it) and log. It is
/// ended when it takes longer than `limit`, or when nobody waits for it any more.
pub async fn run(
    service: &Rc<Service>,
    crew: &Rc<Crew>,
    instance: &Rc<Instance>,
    command: &[String],
    limit: Duration,
    env: &[(String, String)],
) -> Ran {
    let Some((program, args)) = command.split_first() else {
        return Ran::NotRun("there is no command".to_owned());
    };
    let output = child_spec::output_name(service, crew.generation, instance.index);
    let mut spec = match child_spec::spec_of(service, crew, instance, output) {
        Ok(spec) => spec,
        Err(error) => return Ran::NotRun(error.to_string()),
    };
    spec.env.extend_from_slice(env);
    spec.program.clone_from(program);
    let fill = |arg: &String| instance.place.as_ref().map_or(arg.clone(), |place| place.fill(arg));
    spec.args = args.iter().map(fill).collect();
    spec.listen.clear();
    spec.intercept.clear();
    spec.env.retain(|(name, _)| name != "NOTIFY_SOCKET");
    let child = service.link().new_child();
    let way = match Way::open(service, instance, child.0).await {
        Ok(way) => way,
        Err(why) => return Ran::NotRun(why),
    };
    way.tell(&mut spec);
    let label = child_spec::label_of(service, crew, instance, Role::Probe).print();
    // A check's command never outlives its probe, also when the probe is cancelled; what it left in
    // the background is ended with it.
    let mut child = match KeeperChild::spawn(&service.shared.link, child, label, spec).await {
        Ok(child) => child,
        Err(error) => return Ran::NotRun(error.to_string()),
    };
    let waited = child.wait(limit).await;
    drop(child);
    drop(way);
    match waited {
        Waited::Ended(end) => Ran::Ended(end),
        Waited::TooLate => Ran::TooLate(limit),
    }
}
