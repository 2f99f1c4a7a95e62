//! One look at one process: the configured check, through the process's own slot.

use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use crate::config::model::{Check, Settings};
use crate::keeper::protocol::{End, Reach};
use crate::supervisor::fleet::{Crew, Instance};
use crate::supervisor::label::Label;
use crate::supervisor::listener;
use crate::supervisor::probe::{self, Probe};
use crate::supervisor::service::Service;
use crate::supervisor::start;

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
        Check::Notify => Probe::bad("it has not said READY=1 on NOTIFY_SOCKET"),
        Check::Http(path) => {
            probe::within(health.timeout, through_slot(service, instance, Some(path))).await
        }
        Check::Tcp => probe::within(health.timeout, through_slot(service, instance, None)).await,
        Check::Exec(command) => exec(service, crew, instance, command).await,
    }
}

/// Whether an instance takes connections out of its queue, for checks that do not go through it.
pub async fn takes(service: &Rc<Service>, crew: &Rc<Crew>, instance: &Rc<Instance>) -> Probe {
    let goes_through = matches!(crew.settings.health.check, Check::Http(_) | Check::Tcp);
    if goes_through || instance.slots.is_empty() {
        return Probe::good();
    }
    let timeout = crew.settings.health.timeout;
    match probe::within(timeout, through_slot(service, instance, None)).await {
        good if good.is_good() => good,
        _ => Probe::bad("it takes no connection out of its accept queue"),
    }
}

/// Probes the service where its users reach it: the kernel chooses among the live slots.
pub async fn in_public(service: &Rc<Service>, settings: &Settings) -> Probe {
    let listeners = service.slots.listeners();
    let (Check::Http(path), Some(listener)) = (&settings.health.check, listeners.first()) else {
        return Probe::good();
    };
    let look = async {
        match listener::connect(listener).await {
            Ok(stream) => probe::http(stream, &authority(service), path).await,
            Err(error) => Probe::bad(error.to_string()),
        }
    };
    probe::within(settings.health.timeout, look).await
}

async fn through_slot(
    service: &Rc<Service>,
    instance: &Rc<Instance>,
    path: Option<&String>,
) -> Probe {
    let listeners = service.slots.listeners();
    let (Some(listener), Some(slot)) = (listeners.first(), instance.slots.first().copied()) else {
        return Probe::bad("the service has no listener to probe");
    };
    let stream = match listener::probe_connect(listener, slot).await {
        Ok(stream) => stream,
        Err(error) => return Probe::bad(error.to_string()),
    };
    match path {
        Some(path) => probe::http(stream, &authority(service), path).await,
        None => probe::tcp(stream).await,
    }
}

fn authority(service: &Service) -> String {
    match service.config().listen.first() {
        Some(crate::config::model::Listen::Tcp(address)) => address.to_string(),
        None => "localhost".to_owned(),
    }
}

/// Runs a check's command beside the instance: same tree, user, environment and log.
async fn exec(
    service: &Rc<Service>,
    crew: &Rc<Crew>,
    instance: &Rc<Instance>,
    command: &[String],
) -> Probe {
    let Some((program, args)) = command.split_first() else {
        return Probe::bad("the check has no command");
    };
    let output = start::output_name(service, crew.generation, instance.index);
    let mut spec = match start::spec_of(service, crew, instance, output) {
        Ok(spec) => spec,
        Err(error) => return Probe::bad(error.to_string()),
    };
    spec.program.clone_from(program);
    spec.args = args.to_vec();
    spec.listen.clear();
    spec.env.retain(|(name, _)| name != "NOTIFY_SOCKET");
    let child = service.link().new_child();
    let label = Label::of(service, crew, instance).for_probe().print();
    let mut end = service.link().end_of(child);
    if let Err(error) = service.link().spawn(child, label, spec).await {
        return Probe::bad(error.to_string());
    }
    let guard = KillOnDrop { service: Rc::clone(service), child: Some(child) };
    let waited = within(crew.settings.health.timeout, end.wait_for(Option::is_some)).await;
    let ended = waited.and_then(|end| end.ok().and_then(|end| *end));
    drop(guard);
    match ended {
        Some(End::Exited(0)) => Probe::good(),
        Some(end) => Probe::bad(format!("{program}: {}", crate::supervisor::guard::end_text(end))),
        None => Probe::bad(format!(
            "{program}: no answer within {}",
            crate::config::duration::print(crew.settings.health.timeout)
        )),
    }
}

async fn within<T>(limit: Duration, what: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, what).await.ok()
}

/// A check's command never outlives its probe, also when the probe is cancelled.
struct KillOnDrop {
    service: Rc<Service>,
    child: Option<crate::keeper::protocol::ChildId>,
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let Some(child) = self.child.take() else { return };
        let service = Rc::clone(&self.service);
        tokio::task::spawn_local(async move {
            let link = service.link();
            let mut end = link.end_of(child);
            if let Err(error) = link.signal(child, libc::SIGKILL, Reach::Tree, Vec::new()).await {
                tracing::warn!(%error, "ending a check's command");
            }
            if end.wait_for(Option::is_some).await.is_ok() {
                link.acknowledge(child).await;
            }
        });
    }
}
