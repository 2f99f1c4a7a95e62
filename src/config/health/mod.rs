//! `[service.NAME.health]` and `health` in `release.toml`: how a service is probed.

mod exec;
mod http;
mod notify;
mod tcp;
mod terms;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::kinds::{self, Keys, kinds};
use super::raw::Section;

pub(super) use self::http::is_path;
pub use self::terms::Terms;

/// The health checks, one line each.
macro_rules! checks {
    ($then:ident!($($with:tt)*)) => {
        $then! {
            ($($with)*)
            /// `GET` this path on the first listener; 200 to 399 is good.
            Http(path: String) = http,
            /// A connection is accepted into the slot's queue and taken out of it by the program.
            Tcp = tcp,
            /// A command in the release, as the service's user; exit 0 is good.
            Exec(command: Vec<String>) = exec,
            /// The program sends `READY=1` to `NOTIFY_SOCKET`; from then on being alive is good.
            Notify = notify,
        }
    };
}
pub(crate) use checks;

checks!(kinds!(
    /// What a probe asks.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub enum Check {
        /// Being alive is good (the default for a service without a listener).
        Alive,
    }
));

const ALL: &Keys = &Keys::new().and_of(Check::KINDS).and(&terms::KEYS).and(&[
    "interval",
    "rest_interval",
    "timeout",
    "rise",
    "fall",
    "min_healthy",
    "deadline",
    "watchdog",
]);
/// The keys of the section.
pub(super) const KEYS: &[&str] = ALL.list();

/// Health checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// What is asked.
    pub check: Check,
    /// How, when it is asked by HTTP.
    #[serde(default, skip_serializing_if = "Terms::are_usual")]
    pub terms: Terms,
    /// Time between probes in gate and bake.
    #[serde(with = "super::duration")]
    pub interval: Duration,
    /// Time between probes at rest; zero is none.
    #[serde(with = "super::duration")]
    pub rest_interval: Duration,
    /// A probe that takes longer is bad.
    #[serde(with = "super::duration")]
    pub timeout: Duration,
    /// Good probes in a row that the gate wants.
    pub rise: u32,
    /// Bad probes in a row that end a bake.
    pub fall: u32,
    /// The candidate must have run this long before the gate opens.
    #[serde(with = "super::duration")]
    pub min_healthy: Duration,
    /// The gate fails when it has not opened by then.
    #[serde(with = "super::duration")]
    pub deadline: Duration,
    /// It has to say `WATCHDOG=1` at least as often; zero is none.
    #[serde(default, with = "super::duration", skip_serializing_if = "Duration::is_zero")]
    pub watchdog: Duration,
}

/// The health checks of a service that names none: a connection is taken for a service with
/// listeners, being alive for one without.
pub(super) fn default(n_listen: usize) -> Health {
    Health {
        check: if n_listen == 0 { Check::Alive } else { Check::Tcp },
        terms: Terms::default(),
        interval: Duration::from_secs(1),
        rest_interval: Duration::from_secs(10),
        timeout: Duration::from_secs(2),
        rise: 3,
        fall: 3,
        min_healthy: Duration::from_secs(2),
        deadline: Duration::from_secs(30),
        watchdog: Duration::ZERO,
    }
}

/// The checks of the section laid over `base`.
pub(super) fn read(section: &Section<'_>, base: Health, n_listen: usize) -> Health {
    let check = check(section, n_listen).unwrap_or(base.check);
    let terms = terms::read(section, base.terms, matches!(check, Check::Http(_)));
    let health = Health {
        check,
        terms,
        interval: section.positive_duration("interval").unwrap_or(base.interval),
        rest_interval: section.duration("rest_interval").unwrap_or(base.rest_interval),
        timeout: section.positive_duration("timeout").unwrap_or(base.timeout),
        rise: section.number("rise", 1, 1000).unwrap_or(base.rise),
        fall: section.number("fall", 1, 1000).unwrap_or(base.fall),
        min_healthy: section.duration("min_healthy").unwrap_or(base.min_healthy),
        deadline: section.positive_duration("deadline").unwrap_or(base.deadline),
        watchdog: section.duration("watchdog").unwrap_or(base.watchdog),
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

/// The one check that the section names, if it names one.
fn check(section: &Section<'_>, n_listen: usize) -> Option<Check> {
    let named: Vec<_> = Check::KINDS.iter().filter(|row| section.has(row.kind.name)).collect();
    if let [first, second, ..] = named[..] {
        let message = format!("a service has one check, and {} is given too", first.kind.name);
        let names: Vec<_> = Check::KINDS.iter().map(|row| row.kind.name).collect();
        let hint = format!("keep one of {}", names.join(", "));
        section.problem_with_hint(second.kind.name, message, hint);
    }
    let checks: Vec<_> =
        named.iter().filter_map(|row| Some((&row.kind, (row.read)(section)?))).collect();
    let (kind, check) = checks.into_iter().next()?;
    if n_listen == 0 && kind.needs_listener {
        let others = Check::KINDS.iter().filter(|row| !row.kind.needs_listener);
        let others: Vec<_> = others.map(|row| row.kind.name).collect();
        let hint = format!("use {}, or give it an address in listen", kinds::one_of(&others));
        section.problem_with_hint(kind.name, "the service has no listener to probe", hint);
    }
    Some(check)
}
