//! The settings that go with a release, read from a section: the host's and a `release.toml`'s
//! alike, so that a key means the same and has the same limits in both.
//!
//! Each reader takes the settings that hold so far and lays what the section says over them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::env_file::{is_name, is_reserved};
use super::model::{Check, Drain, Health, Stop};
use super::raw::Section;

pub(super) const HEALTH_KEYS: &[&str] = &[
    "http",
    "tcp",
    "exec",
    "notify",
    "interval",
    "rest_interval",
    "timeout",
    "rise",
    "fall",
    "min_healthy",
    "deadline",
];
pub(super) const STOP_KEYS: &[&str] = &["signal", "linger", "drain", "timeout"];

/// The health checks of a service that names none: a connection is taken for a service with
/// listeners, being alive for one without.
pub(super) fn default_health(n_listen: usize) -> Health {
    Health {
        check: if n_listen == 0 { Check::Alive } else { Check::Tcp },
        interval: Duration::from_secs(1),
        rest_interval: Duration::from_secs(10),
        timeout: Duration::from_secs(2),
        rise: 3,
        fall: 3,
        min_healthy: Duration::from_secs(2),
        deadline: Duration::from_secs(30),
    }
}

pub(super) fn default_stop() -> Stop {
    let (linger, timeout) = (Duration::from_secs(5), Duration::from_secs(30));
    Stop { signal: "TERM".to_owned(), linger, drain: Drain::default(), timeout }
}

/// The variables under `env`.
pub(super) fn env(section: &Section<'_>) -> BTreeMap<String, String> {
    let Some(table) = section.free_section("env") else {
        return BTreeMap::new();
    };
    let mut vars = BTreeMap::new();
    for name in table.keys() {
        if !is_name(name) {
            table.problem(name, "bad name of a variable (not empty, no spaces, no =)");
        } else if is_reserved(name) {
            table.problem(name, "is set by halley-sup for each process");
        } else if let Some(found) = table.text(name) {
            vars.insert(name.to_owned(), found.value);
        }
    }
    vars
}

/// The checks of the section laid over `base`.
pub(super) fn health(section: &Section<'_>, base: Health, n_listen: usize) -> Health {
    let health = Health {
        check: check(section, n_listen).unwrap_or(base.check),
        interval: section.positive_duration("interval").unwrap_or(base.interval),
        rest_interval: section.duration("rest_interval").unwrap_or(base.rest_interval),
        timeout: section.positive_duration("timeout").unwrap_or(base.timeout),
        rise: section.number("rise", 1, 1000).unwrap_or(base.rise),
        fall: section.number("fall", 1, 1000).unwrap_or(base.fall),
        min_healthy: section.duration("min_healthy").unwrap_or(base.min_healthy),
        deadline: section.positive_duration("deadline").unwrap_or(base.deadline),
    };
    if health.deadline < health.min_healthy {
        section.problem("deadline", "is shorter than min_healthy: the gate could never open");
    } else if health.deadline < health.interval.saturating_mul(health.rise - 1) {
        let message = "is too short for `rise` probes one `interval` apart: the gate could never \
                       open";
        section.problem("deadline", message);
    }
    health
}

/// The way to stop of the section laid over `base`.
pub(super) fn stop(section: &Section<'_>, base: Stop) -> Stop {
    Stop {
        signal: signal(section).unwrap_or(base.signal),
        linger: section.duration("linger").unwrap_or(base.linger),
        drain: drain(section).unwrap_or(base.drain),
        timeout: section.positive_duration("timeout").unwrap_or(base.timeout),
    }
}

fn drain(section: &Section<'_>) -> Option<Drain> {
    let text = section.text("drain")?.value;
    match Drain::try_from(text) {
        Ok(drain) => Some(drain),
        Err(error) => {
            section.problem_with_hint("drain", error.to_string(), "or write \"forever\"");
            None
        }
    }
}

fn signal(section: &Section<'_>) -> Option<String> {
    const NAMES: [&str; 7] = ["TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "WINCH"];
    let text = section.text("signal")?.value;
    let plain = text.strip_prefix("SIG").unwrap_or(&text);
    if !NAMES.contains(&plain) {
        section.problem("signal", format!("{text:?} is not one of {}", NAMES.join(", ")));
        return None;
    }
    Some(plain.to_owned())
}

/// The one check that the section names, if it names one.
fn check(section: &Section<'_>, n_listen: usize) -> Option<Check> {
    let named: Vec<_> =
        ["http", "tcp", "exec", "notify"].into_iter().filter(|key| section.has(key)).collect();
    if let [first, second, ..] = named[..] {
        let message = format!("a service has one check, and {first} is given too");
        section.problem_with_hint(second, message, "keep one of http, tcp, exec, notify");
    }
    let checks: Vec<_> =
        named.iter().filter_map(|key| Some((*key, one_check(section, key)?))).collect();
    let (key, check) = checks.into_iter().next()?;
    if n_listen == 0 && matches!(check, Check::Http(_) | Check::Tcp) {
        let hint = "use exec or notify, or give it an address in listen";
        section.problem_with_hint(key, "the service has no listener to probe", hint);
    }
    Some(check)
}

fn one_check(section: &Section<'_>, key: &str) -> Option<Check> {
    match key {
        "http" => http_path(section).map(Check::Http),
        "tcp" => section.flag("tcp").map(|_| Check::Tcp),
        "exec" => section.command("exec").map(Check::Exec),
        _ => section.flag("notify").map(|_| Check::Notify),
    }
}

fn http_path(section: &Section<'_>) -> Option<String> {
    let path = section.text("http")?.value;
    if is_http_path(&path) {
        return Some(path);
    }
    let message = format!("{path:?} is not a path");
    section.problem_with_hint(
        "http",
        message,
        "write \"/healthz\"; the request goes to the first listener",
    );
    None
}

/// Whether it can stand in a request as it is.
pub(super) fn is_http_path(path: &str) -> bool {
    path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic())
}
