//! The settings that go with a release, read from a section: the host's and a `release.toml`'s
//! alike, so that a key means the same and has the same limits in both.
//!
//! Each reader takes the settings so far and overrides them with those of the section.

use std::collections::BTreeMap;
use std::time::Duration;

use super::env_file::{is_name, is_reserved};
use super::model::{Drain, SignalTo, Stop};
use super::raw::Section;

pub(super) const STOP_KEYS: &[&str] = &["signal", "signal_to", "linger", "drain", "timeout"];

pub(super) fn default_stop() -> Stop {
    let (linger, timeout) = (Duration::from_secs(5), Duration::from_secs(30));
    let (signal_to, drain) = (SignalTo::Main, Drain::default());
    Stop { signal: "TERM".to_owned(), signal_to, linger, drain, timeout }
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

/// The way to stop of the section laid over `base`.
pub(super) fn stop(section: &Section<'_>, base: Stop) -> Stop {
    Stop {
        signal: signal(section).unwrap_or(base.signal),
        signal_to: section.word("signal_to", &SIGNAL_TO).unwrap_or(base.signal_to),
        linger: section.duration("linger").unwrap_or(base.linger),
        drain: drain(section).unwrap_or(base.drain),
        timeout: section.positive_duration("timeout").unwrap_or(base.timeout),
    }
}

const SIGNAL_TO: [(&str, SignalTo); 2] = [("main", SignalTo::Main), ("group", SignalTo::Group)];

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
