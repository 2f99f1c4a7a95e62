//! The verb `status`: how things stand.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::api::status::{
    Args, InstanceStatus, OperationStatus, RollbackStatus, ServiceStatus, Status,
};
use crate::api::{Event, SetStatus, Trouble};
use crate::core::ids::{GenerationId, InstanceIndex};
use crate::core::status::{self, Facts, InstanceState, Life, State, Why};
use crate::core::time::Tick;
use crate::os::clock;
use crate::os::fs;
use crate::os::usage::{self, Usage};
use crate::store::release;
use crate::supervisor::control::client::Client;
use crate::supervisor::data::fencing;
use crate::supervisor::instances::connections;
use crate::supervisor::processes::child_tag::Label;
use crate::supervisor::rollback_readiness::readiness;
use crate::supervisor::service::Service;
use crate::supervisor::service::instances::Generation;
use crate::supervisor::service::occupied;
use crate::supervisor::service::refusal;
use crate::supervisor::service::settings;
use crate::supervisor::service::stack::Stack;
use crate::supervisor::service::terms::Force;
use crate::supervisor::spawn;

/// Connections that processes on their way out still have.
type Open = BTreeMap<(GenerationId, InstanceIndex), u64>;

/// What is measured before the answer is put together.
#[derive(Default)]
struct Measured {
    open: Open,
    /// By the pid of the first of an instance's processes.
    usage: BTreeMap<i32, Usage>,
}

/// Answers with one service, or all.
///
/// # Errors
/// When there is no such service.
pub(crate) async fn perform(stack: &Stack, args: Args, client: &mut Client) -> Result<(), Trouble> {
    let only = args.service.as_deref();
    if let Some(name) = only {
        stack.known(name)?;
    }
    let services: Vec<_> = stack.services.borrow().values().cloned().collect();
    let mut measured = Measured::default();
    let mut pids = Vec::new();
    for service in services.iter().filter(|s| only.is_none_or(|only| s.name.as_str() == only)) {
        fencing::rehearsals(service).await;
        let all = service.fleet.all();
        pids.extend(all.iter().flat_map(|it| it.instances()).filter_map(|it| it.pid()));
        let leaving = service.fleet.all().into_iter().filter(|it| it.leaving().is_some());
        for (id, instance) in
            leaving.flat_map(|it| it.instances().into_iter().map(move |i| (it.id, i)))
        {
            let n = connections::of_instances(service, std::slice::from_ref(&instance)).await;
            measured.open.insert((id, instance.index), u64::try_from(n).unwrap_or(0));
        }
    }
    // Reading of every process on a host takes its time.
    let roots = pids.clone();
    let usage = spawn::blocking(move || usage::of_trees(&roots)).await.unwrap_or_default();
    measured.usage = pids.into_iter().zip(usage).collect();
    client.tell(&Event::Status(Box::new(of_stack(stack, only, &measured)))).await;
    Ok(())
}

fn of_stack(stack: &Stack, only: Option<&str>, measured: &Measured) -> Status {
    let services = stack.services.borrow();
    let broken = stack.broken.borrow();
    let names = stack.names();
    let wanted = names.iter().filter(|name| only.is_none_or(|only| name.as_str() == only));
    let entries = wanted.filter_map(|name| match (services.get(name), broken.get(name)) {
        (Some(service), _) if stack.is_configured(name) => Some(of_service(service, measured)),
        (Some(service), _) => Some(ServiceStatus {
            why: Some(format!("not configured any more; halley-sup stop {name} ends it")),
            ..of_service(service, measured)
        }),
        (None, Some(broken)) => {
            Some(of_broken(name.as_str(), &broken.why, &stack.left_alone(name)))
        }
        (None, None) => None,
    });
    let set = stack.set.borrow().as_ref().map(|set| set.status());
    let shown = |set: &SetStatus| only.is_none_or(|only| set.members.iter().any(|m| m == only));
    let mut warnings = stack.shared.outbox.warnings();
    let root = stack.shared.layout.root();
    if fs::is_read_only(root) {
        let why = "services keep running, and nothing can be changed or recorded";
        warnings.push(format!("{} is read-only: {why}", root.display()));
    }
    warnings.extend(stack.shared.last_config.trouble());
    warnings.extend(stack.unknown());
    for service in
        services.values().filter(|service| only.is_none_or(|n| service.name.as_str() == n))
    {
        let no_env = service.config().no_env.clone();
        warnings.extend(no_env.map(|why| settings::without_env(service, &why)));
        let doubts = release::doubts(&service.paths);
        warnings.extend(doubts.into_iter().map(|doubt| format!("{}: {doubt}", service.name)));
        warnings.extend(
            service
                .live_generation()
                .and_then(|generation| settings::outdated(service, &generation)),
        );
        let trial = service.durable.trial().err();
        warnings.extend(trial.map(|error| format!("{}: {error}", service.name)));
    }
    let lag = spawn::worst_lag();
    Status {
        lag_ms: lag.map(|lag| lag.ms),
        lag_at: lag.map(|lag| lag.task.to_string()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        only: only.map(str::to_owned),
        services: entries.collect(),
        set: set.filter(shown),
        warnings,
    }
}

fn of_service(service: &Rc<Service>, measured: &Measured) -> ServiceStatus {
    let state = service.durable.state();
    let live = service.live_generation();
    let serving = service.serving();
    let trouble = service.condition.trouble();
    let unresumed =
        service.activity.unresumed().map(|unresumed| refusal::unresumed(service, &unresumed));
    // What it did is what happened, what runs is what runs by then.
    let recorded = || Some(Trouble { still: refusal::still(service), ..state.alarm.clone()? });
    let alarm = unresumed.or_else(recorded);
    let (word, explained) = status::state(Facts {
        is_stopped: state.stopped,
        has_alarm: alarm.is_some(),
        has_trouble: trouble.is_some(),
        is_operated: service.activity.operation().is_some(),
        has_good: state.last_good.is_some(),
        live: live.map(|generation| Life::of(generation.is_whole(), generation.is_alive())),
    });
    let why = match explained {
        Why::Nothing => None,
        Why::Alarm => alarm.as_ref().map(|alarm| alarm.what.clone()),
        Why::Trouble => trouble,
        Why::TroubleOr(text) => trouble.or(some(text)),
        Why::Plain(text) => some(text),
    };
    let rollback = readiness::status(service);
    let why = why.map(|why| match rollback.release {
        Some(to) if rollback.ready && !state.stopped && service.condition.is_of_what_serves() => {
            format!("{why}; halley-sup rollback {} goes back to release {to}", service.name)
        }
        _ => why,
    });
    ServiceStatus {
        name: service.name.to_string(),
        state: word.name().to_owned(),
        why,
        serving: serving.map(|release| release.0),
        last_good: service.durable.last_good().map(|release| release.0),
        trial: service.durable.trial().ok().flatten().map(|release| release.0),
        listen: service.config().listen.iter().map(ToString::to_string).collect(),
        instances: service
            .fleet
            .all()
            .iter()
            .flat_map(|generation| instances(service, generation, measured))
            .collect(),
        rollback,
        operation: service.activity.operation().map(|operation| OperationStatus {
            op: operation.id.0,
            kind: operation.kind.name().to_owned(),
            phase: operation.phase_name(),
            actor: operation.actor.clone(),
            at: operation.at.borrow().clone(),
        }),
        alarm,
        frozen: occupied::frozen(service, Force::No),
        kept: service.kept_status(),
        rehearsals: service.config().backup.as_ref().and(service.rehearsals.get()).cloned(),
    }
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// What runs of it goes on; which of several releases has the connections is not known.
fn of_broken(name: &str, why: &str, left_alone: &[(Label, i32)]) -> ServiceStatus {
    let releases: BTreeSet<u64> = left_alone.iter().map(|(label, _)| label.release).collect();
    let serving = releases.first().copied().filter(|_| releases.len() == 1);
    let (state, goes_on) = match left_alone {
        [] => (State::Down, ""),
        _ => (State::Degraded, "its processes keep running; "),
    };
    let why = format!("{goes_on}{why}");
    let rollback = RollbackStatus { why: Some(why.clone()), ..RollbackStatus::default() };
    let of = |(label, pid): &(Label, i32)| InstanceStatus {
        release: label.release,
        instance: label.instance,
        pid: Some(*pid),
        role: serving.map_or("unmanaged", |_| "live").to_owned(),
        state: InstanceState::Unmanaged.name().to_owned(),
        restarts: label.restarts,
        rss_bytes: 0,
        cpu_ms: None,
        uptime_ms: Some(clock::tick().since_ms(Tick(label.started_ms))),
        status: None,
        connections: None,
        stop_in_ms: None,
    };
    ServiceStatus {
        name: name.to_owned(),
        state: state.name().to_owned(),
        why: Some(why.clone()),
        serving,
        last_good: None,
        trial: None,
        listen: Vec::new(),
        instances: left_alone.iter().map(of).collect(),
        rollback,
        operation: None,
        alarm: None,
        frozen: None,
        kept: None,
        rehearsals: None,
    }
}

fn instances(
    service: &Service,
    generation: &Generation,
    measured: &Measured,
) -> Vec<InstanceStatus> {
    let leaving = generation.leaving();
    let role = status::role(generation.duty(), leaving.is_some());
    let of = |instance: &Rc<crate::supervisor::service::instances::Instance>| {
        let pid = instance.pid();
        let usage = pid.and_then(|pid| measured.usage.get(&pid)).copied().unwrap_or_default();
        let state = InstanceState::of(pid.is_some(), generation.duty(), instance.health());
        InstanceStatus {
            release: generation.release.0,
            instance: instance.index.0,
            pid,
            role: role.to_owned(),
            state: state.name().to_owned(),
            restarts: instance.restarts(),
            rss_bytes: usage.rss_bytes,
            cpu_ms: Some(usage.cpu_ms),
            uptime_ms: instance.program.run().map(|run| service.now().since_ms(run.started)),
            status: instance.heard.status.borrow().clone(),
            connections: leaving.and(measured.open.get(&(generation.id, instance.index)).copied()),
            stop_in_ms: leaving
                .and_then(|leaving| leaving.until)
                .map(|until| until.since_ms(service.now())),
        }
    };
    generation.instances().iter().map(of).collect()
}
