//! Probes at rest: a live release that no longer answers is reported, never stopped for it.

use std::rc::Rc;
use std::time::Duration;

use crate::config::model::Check;
use crate::core::duty::Duty;
use crate::core::health::{Found, Looks, Sample};
use crate::supervisor::health::probe_all::{Round, probe_all};
use crate::supervisor::instances::outside_proxy;
use crate::supervisor::proxy;
use crate::supervisor::service::Service;
use crate::supervisor::service::condition::Source;
use crate::supervisor::service::instances::Generation;
use crate::supervisor::service::notices;
use crate::supervisor::sockets::listener;
use crate::supervisor::spawn;

/// A proxy that was restarted may have forgotten where it led. To send the same again changes
/// nothing; commands of the user's are not run again and again.
async fn remind_proxy(service: &Rc<Service>, generation: &Generation) {
    let config = service.config();
    if !config.proxy.as_ref().is_some_and(proxy::forgets) || generation.duty() != Duty::Live {
        return;
    }
    if let Err(error) = outside_proxy::point(service, generation).await {
        tracing::error!(service = %service.name, why = %error, "the proxy does not send connections to the live release");
    }
}

/// A process of the same user may have joined the group of a listener: the kernel lets it.
fn note_stranger(service: &Service) {
    let found = service.slots.listeners().iter().find_map(|listener| {
        let group = listener.stream_group()?.borrow();
        let who = listener::stranger(&group)?;
        Some(format!("{who} listens on {} as well: it may get connections", group.address()))
    });
    match found {
        Some(why) => {
            notices::degraded(service, &why);
            service.condition.report(Source::Listener, why);
        }
        None => drop(service.condition.resolve(Source::Listener)),
    }
}

/// Reports what was found, as often as it is found: others may have taken the report back.
fn note(service: &Service, found: Found, why: &str) {
    match found {
        Found::Well => {
            notices::recovered(service);
            if service.condition.resolve(Source::Liveness) {
                tracing::info!(service = %service.name, "the live release answers again");
            }
        }
        Found::InDoubt => {}
        Found::Ill | Found::StillIll => {
            if found == Found::Ill {
                tracing::error!(service = %service.name, why, "the live release does not answer");
            }
            notices::degraded(service, why);
            service.condition.report(Source::Liveness, why);
            service.condition.want(service.config().on_unhealthy);
        }
    }
}

/// Whether a release has anything to ask about: an answer, an address, a proxy. That a process ended
/// is reported anyway.
fn is_asked(service: &Service, generation: &Generation) -> bool {
    generation.settings.health.check != Check::Alive
        || !service.slots.listeners().is_empty()
        || service.config().proxy.is_some()
}

/// Looks at the live release every `rest_interval` of its own settings, unless an operation looks already.
/// Without an interval nothing wakes up until another release serves.
pub(crate) fn watch(service: &Rc<Service>) {
    let watched = Rc::clone(service);
    let task = spawn::local(async move {
        let service = watched;
        let mut looks = Looks::default();
        loop {
            let live = service.live_generation();
            let interval = live.map_or(Duration::ZERO, |live| live.settings.health.rest_interval);
            if interval.is_zero() {
                service.condition.changed().await;
                continue;
            }
            tokio::time::sleep(interval).await;
            // Boxed: each service has this task, and most of the time it waits.
            if Box::pin(look(&service, &mut looks)).await == Next::AfterChange {
                service.condition.changed().await;
            }
        }
    });
    service.attendants.add(task);
}

/// When to look again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    AfterInterval,
    AfterChange,
}

async fn look(service: &Rc<Service>, looks: &mut Looks) -> Next {
    if service.activity.operation().is_some() {
        return Next::AfterInterval;
    }
    let Some(generation) = service.live_generation() else { return Next::AfterChange };
    note_stranger(service);
    remind_proxy(service, &generation).await;
    let probe = probe_all(service, &generation, Round::Every, |instance, probe| {
        instance.note_ready(probe.is_good());
    })
    .await;
    // What was begun meanwhile looks itself, and at what it steers to.
    let is_live = service.routing.live() == Some(generation.id);
    if service.activity.operation().is_some() || !is_live {
        return Next::AfterInterval;
    }
    let sample = if probe.is_good() { Sample::Good } else { Sample::Bad };
    let found = looks.observe(generation.id, sample, generation.settings.health.fall);
    note(service, found, probe.why().unwrap_or_default());
    match found {
        Found::Well if !is_asked(service, &generation) => Next::AfterChange,
        _ => Next::AfterInterval,
    }
}
