//! `status` for people: a line a service, or everything of one.

use std::time::Duration;

use super::tables::{ago, first, table, trimmed};
use crate::api::{InstanceStatus, RehearsalStatus, ServiceStatus, SetStatus, Status};
use crate::core::status::{NOTHING_OLDER, State};
use crate::text::{self, size};

/// How things stand: a service that was asked for with everything, else all in a line each.
pub fn status(status: &Status) -> String {
    let services = match &status.only {
        _ if status.services.is_empty() => "no services".to_owned(),
        Some(_) => status.services.iter().map(service).collect::<Vec<_>>().join("\n\n"),
        None => overview(&status.services),
    };
    let warnings: String =
        status.warnings.iter().map(|warning| format!("\n\n! {}", first(warning))).collect();
    match &status.set {
        Some(set) => format!("{}\n\n{services}{warnings}", running_set(set)),
        None => services + &warnings,
    }
}

/// A line a service, and below what is wrong and what is going on.
fn overview(services: &[ServiceStatus]) -> String {
    let mut table =
        table(&["service", "state", "release", "uptime", "cpu", "memory", "restarts", "rollback"]);
    for service in services {
        let live = || service.instances.iter().filter(|it| it.role == "live");
        let uptime = live().filter_map(|it| it.uptime_ms).min();
        let number = service.serving.or(service.last_good);
        table.add_row([
            short(&service.name),
            service.state.clone(),
            match (service.trial, number) {
                (Some(trial), _) => format!("{trial} (trial)"),
                (None, number) => number.map_or("-".to_owned(), |number| number.to_string()),
            },
            uptime.map_or("-".to_owned(), |ms| text::age(Duration::from_millis(ms))),
            used(service, |it| it.cpu_ms.unwrap_or(0), text::tenths),
            used(service, |it| it.rss_bytes, size),
            live().map(|it| it.restarts).sum::<u32>().to_string(),
            rollback_word(service),
        ]);
    }
    let notes: Vec<String> = services.iter().flat_map(notes).collect();
    let blank = if notes.is_empty() { "" } else { "\n\n" };
    format!("{}{blank}{}", trimmed(&table), notes.join("\n"))
}

/// The longest name that leaves a line within 80 columns.
const NAME_LENGTH: usize = 16;

/// A name that fits, cut where it is longer.
fn short(name: &str) -> String {
    match name.len() > NAME_LENGTH {
        true => format!("{}\u{2026}", &name[..NAME_LENGTH - 1]),
        false => name.to_owned(),
    }
}

/// What all processes of a service take together.
fn used(
    service: &ServiceStatus,
    of: fn(&InstanceStatus) -> u64,
    print: fn(u64) -> String,
) -> String {
    match service.instances.iter().any(|it| it.pid.is_some()) {
        true => print(service.instances.iter().map(of).sum()),
        false => "-".to_owned(),
    }
}

fn rollback_word(service: &ServiceStatus) -> String {
    let rollback = &service.rollback;
    match (rollback.ready, rollback.release, &rollback.from) {
        (true, Some(release), Some(from)) => format!("{release}, {from}"),
        _ if rollback.why.as_deref() == Some(NOTHING_OLDER) => "not yet".to_owned(),
        _ => "NOT READY".to_owned(),
    }
}

/// What a line has no room for.
fn notes(service: &ServiceStatus) -> Vec<String> {
    let name = &service.name;
    let mut notes = Vec::new();
    let why = service.why.as_ref().filter(|_| service.alarm.is_none());
    notes.extend(why.map(|why| format!("{name}: {}", first(why))));
    notes.extend(service.operation.as_ref().map(|operation| {
        format!(
            "{name}: operation {}: {} by {}, in phase {}",
            operation.op,
            operation.kind,
            operation.actor,
            text::phase(&operation.phase)
        )
    }));
    notes.extend(service.frozen.as_ref().map(|frozen| format!("{name}: {frozen}")));
    if rollback_word(service) == "NOT READY" && service.rollback.why != service.why {
        notes.push(format!("{name}: {}", rollback_text(service)));
    }
    if let Some(alarm) = &service.alarm {
        notes.push(format!("!! {}: {}", alarm.what, first(&alarm.why)));
        notes.extend(alarm.next.iter().map(|next| format!("   next: {next}")));
    }
    notes
}

fn rollback_text(service: &ServiceStatus) -> String {
    let rollback = &service.rollback;
    match (rollback.ready, rollback.release, &rollback.from) {
        (true, Some(release), Some(from)) => {
            let rehearsed = rollback.rehearsed.as_deref().map_or(String::new(), |at| {
                let depth = rollback.rehearsal.as_deref().unwrap_or_default();
                format!(", rehearsed {} ({depth})", ago(at))
            });
            format!("rollback: ready (release {release}, {from}{rehearsed})")
        }
        _ => match rollback.why.as_deref() {
            Some(NOTHING_OLDER) => format!("rollback: not ready yet: {NOTHING_OLDER}"),
            why => format!("rollback: NOT READY: {}", why.unwrap_or("unknown")),
        },
    }
}

/// A set that runs, in one line.
fn running_set(set: &SetStatus) -> String {
    let at = match (&set.kind, &set.member) {
        (Some(kind), Some(member)) => format!(": {kind} of {member}"),
        _ => String::new(),
    };
    format!(
        "set {} ({} by {}) has run since {}{at}",
        set.set,
        set.members.join(", "),
        set.actor,
        set.at
    )
}

/// What a program is kept to that is tried on a copy of the data.
fn rehearsals_text(rehearsals: &RehearsalStatus) -> String {
    let why = rehearsals.why.as_ref().map_or(String::new(), |why| format!(" ({why})"));
    let by = match (rehearsals.isolation.as_str(), rehearsals.fence) {
        ("none", _) => return format!("no program is started, this host cannot isolate it{why}"),
        (_, false) => return "no program is started, this kernel does not report connect()".into(),
        ("mounts", true) => "isolated by mounts",
        ("user_namespace", true) => "isolated by mounts in a user namespace",
        ("landlock", true) => "live data cannot be written (Landlock)",
        (other, true) => other,
    };
    format!("{by}, connections to what is live are refused{why}")
}

fn service(service: &ServiceStatus) -> String {
    let number = |n: Option<u64>| n.map_or("-".to_owned(), |n| n.to_string());
    let why = service.why.as_ref().map_or(String::new(), |why| format!(" ({})", first(why)));
    let mut text = format!(
        "{}: {}{why}\n  serving {}, last good {}",
        service.name,
        service.state,
        number(service.serving),
        number(service.last_good)
    );
    if let Some(trial) = service.trial {
        text.push_str(&format!(", on trial {trial}"));
    }
    if !service.listen.is_empty() {
        let is_closed = service.state == State::Stopped.name();
        let listens = if is_closed { "not listening (it is stopped) on" } else { "listening on" };
        text.push_str(&format!("\n  {listens} {}", service.listen.join(", ")));
    }
    text.push_str(&format!("\n  {}", rollback_text(service)));
    if let Some(kept) = &service.kept {
        text.push_str(&format!("\n  {}", super::kept::text(kept)));
    }
    if let Some(rehearsals) = &service.rehearsals {
        text.push_str(&format!("\n  rehearsals on a copy: {}", rehearsals_text(rehearsals)));
    }
    if let Some(frozen) = &service.frozen {
        text.push_str(&format!("\n  {frozen}"));
    }
    if let Some(operation) = &service.operation {
        text.push_str(&format!(
            "\n  operation {}: {} by {}, in phase {}",
            operation.op,
            operation.kind,
            operation.actor,
            text::phase(&operation.phase)
        ));
    }
    if !service.instances.is_empty() {
        text.push_str(&format!("\n{}", instances(&service.instances)));
    }
    if let Some(alarm) = &service.alarm {
        text.push_str(&format!("\n  !! {}\n     {}", alarm.what, first(&alarm.why)));
        for next in &alarm.next {
            text.push_str(&format!("\n     next: {next}"));
        }
    }
    text
}

/// How long ago a time was, in its greatest unit.
fn instances(all: &[InstanceStatus]) -> String {
    let mut table = table(&[
        "  release",
        "instance",
        "pid",
        "role",
        "state",
        "starts",
        "uptime",
        "cpu",
        "memory",
    ]);
    for instance in all {
        table.add_row([
            format!("  {}", instance.release),
            instance.instance.to_string(),
            instance.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
            instance.role.clone(),
            state(instance),
            (instance.restarts + 1).to_string(),
            instance.uptime_ms.map_or("-".to_owned(), |ms| text::age(Duration::from_millis(ms))),
            instance.cpu_ms.map_or("-".to_owned(), text::tenths),
            size(instance.rss_bytes),
        ]);
    }
    trimmed(&table)
}

/// What a process is at; on its way out, what it still has and for how long.
fn state(instance: &InstanceStatus) -> String {
    let Some(n) = instance.connections else {
        let said = instance.status.as_ref().map_or_else(String::new, |said| format!(": {said}"));
        return format!("{}{said}", instance.state);
    };
    let noun = if n == 1 { "connection" } else { "connections" };
    match instance.stop_in_ms {
        Some(ms) => format!("{}, {n} {noun}, {} s left", instance.state, ms.div_ceil(1000)),
        None => format!("{}, {n} {noun}", instance.state),
    }
}
