//! `[service.NAME.limits]`: what the programs of a service may use.

use rustix::thread::CapabilitySet;

use super::raw::Section;
use super::size;
use crate::os::limits::{ProcessLimits, RESOURCES, UNLIMITED};

/// The keys of the section.
pub(super) const KEYS: &[&str] = &[
    "umask",
    "nice",
    "ionice",
    "oom_score_adj",
    "no_new_privs",
    "capabilities",
    "open_files",
    "processes",
    "core_size",
    "locked_memory",
    "address_space",
    "file_size",
    "stack_size",
];

/// Those that are a number; the others are a size.
const COUNTS: [&str; 2] = ["open_files", "processes"];

/// The classes of ionice(1), with their numbers of `<linux/ioprio.h>`.
const IO_CLASSES: [(&str, u32); 3] = [("realtime", 1), ("best-effort", 2), ("idle", 3)];

/// The limits of the section.
pub(super) fn read(section: &Section<'_>) -> ProcessLimits {
    let resource = |name: &&str| Some(((*name).to_owned(), resource(section, name)?));
    ProcessLimits {
        umask: umask(section),
        nice: section.integer("nice", -20, 19).map(narrow),
        io_priority: io_priority(section),
        oom_score_adj: section.integer("oom_score_adj", -1000, 1000).map(narrow),
        resources: RESOURCES.iter().filter_map(resource).collect(),
        no_new_privs: section.flag("no_new_privs").is_some(),
        capabilities: capabilities(section),
    }
}

/// The bounds were checked.
fn narrow(number: i64) -> i32 {
    i32::try_from(number).unwrap_or_default()
}

fn umask(section: &Section<'_>) -> Option<u32> {
    let text = section.text("umask")?.value;
    let bits = u32::from_str_radix(&text, 8).ok().filter(|bits| *bits <= 0o777);
    if bits.is_none() {
        let message = format!("{text:?} is not between \"0000\" and \"0777\"");
        section.problem_with_hint("umask", message, "write \"0027\"");
    }
    bits
}

/// `idle`, or a class with a level: `best-effort:7`.
fn io_priority(section: &Section<'_>) -> Option<u32> {
    let text = section.text("ionice")?.value;
    let (class, level) = text.split_once(':').unwrap_or((&text, "4"));
    let class = IO_CLASSES.iter().find(|(name, _)| *name == class);
    let level = level.parse::<u32>().ok().filter(|level| *level < 8);
    match (class, level) {
        (Some(("idle", number)), _) if text == "idle" => Some(number << 13),
        (Some((name, number)), Some(level)) if *name != "idle" => Some((number << 13) | level),
        _ => {
            let message =
                format!("{text:?} is not one of idle, best-effort:0 to 7, realtime:0 to 7");
            section.problem("ionice", message);
            None
        }
    }
}

fn resource(section: &Section<'_>, key: &str) -> Option<u64> {
    let is_count = COUNTS.contains(&key);
    if is_count && !section.is_text(key) {
        return section.integer(key, 1, i64::from(u32::MAX)).map(i64::unsigned_abs);
    }
    let text = section.text(key)?.value;
    if text == "unlimited" {
        return Some(UNLIMITED);
    }
    let bytes = size::parse(&text).ok().filter(|_| !is_count);
    if bytes.is_none() {
        let example = if is_count { "4096" } else { "\"64MiB\"" };
        let hint = format!("write {example} or \"unlimited\"");
        section.problem_with_hint(key, format!("{text:?} is no limit"), hint);
    }
    bytes
}

fn capabilities(section: &Section<'_>) -> Option<u64> {
    let mut kept = CapabilitySet::empty();
    for text in section.texts("capabilities")? {
        let name = text.value.to_ascii_uppercase();
        match CapabilitySet::from_name(name.strip_prefix("CAP_").unwrap_or(&name)) {
            Some(one) => kept |= one,
            None => {
                let message = format!("{:?} is no capability", text.value);
                let path = section.path("capabilities");
                section.report().add_with_hint(
                    text.line,
                    &path,
                    message,
                    "write [\"NET_BIND_SERVICE\"]",
                );
            }
        }
    }
    Some(kept.bits())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use toml::de::DeTable;

    use super::*;
    use crate::config::problem::Report;

    fn check(text: &str) -> (ProcessLimits, Vec<String>) {
        let table = DeTable::parse(text).unwrap();
        let report = Report::new(Path::new("t.toml"), text);
        let limits = read(&Section::of("", &(0..0), table.get_ref(), KEYS, &report));
        (limits, report.into_problems().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn each_resource_has_a_key() {
        assert!(RESOURCES.iter().all(|name| KEYS.contains(name)));
        assert!(COUNTS.iter().all(|name| RESOURCES.contains(name)));
    }

    #[test]
    fn numbers_sizes_and_names_are_read() {
        let none = ProcessLimits::default();
        let resource = |name: &str, most| ProcessLimits {
            resources: vec![(name.to_owned(), most)],
            ..ProcessLimits::default()
        };
        for (text, expected) in [
            ("", none.clone()),
            ("umask = \"0027\"", ProcessLimits { umask: Some(0o027), ..none.clone() }),
            ("nice = -5", ProcessLimits { nice: Some(-5), ..none.clone() }),
            ("ionice = \"idle\"", ProcessLimits { io_priority: Some(3 << 13), ..none.clone() }),
            (
                "ionice = \"best-effort:7\"",
                ProcessLimits { io_priority: Some(2 << 13 | 7), ..none.clone() },
            ),
            (
                "ionice = \"realtime\"",
                ProcessLimits { io_priority: Some(1 << 13 | 4), ..none.clone() },
            ),
            ("oom_score_adj = 500", ProcessLimits { oom_score_adj: Some(500), ..none.clone() }),
            ("no_new_privs = true", ProcessLimits { no_new_privs: true, ..none.clone() }),
            ("capabilities = []", ProcessLimits { capabilities: Some(0), ..none.clone() }),
            (
                "capabilities = [\"CAP_CHOWN\", \"net_bind_service\"]",
                ProcessLimits { capabilities: Some(1 | 1 << 10), ..none },
            ),
            ("open_files = 4096", resource("open_files", 4096)),
            ("open_files = \"unlimited\"", resource("open_files", UNLIMITED)),
            ("core_size = \"0B\"", resource("core_size", 0)),
            ("address_space = \"1GiB\"", resource("address_space", 1 << 30)),
        ] {
            assert_eq!(check(text), (expected, Vec::new()), "{text}");
        }
    }

    #[test]
    fn each_bad_value_says_what_to_write() {
        for (text, problem) in [
            (
                "umask = \"99\"",
                "umask: \"99\" is not between \"0000\" and \"0777\"; write \"0027\"",
            ),
            ("umask = \"1777\"", "umask: \"1777\" is not between"),
            ("umask = 27", "umask: it is a whole number and should be a text"),
            ("nice = 20", "nice: 20 is not between -20 and 19"),
            ("ionice = \"idle:1\"", "ionice: \"idle:1\" is not one of idle, best-effort:0 to 7"),
            ("ionice = \"best-effort:8\"", "ionice: \"best-effort:8\" is not one of"),
            ("oom_score_adj = -1001", "oom_score_adj: -1001 is not between -1000 and 1000"),
            ("no_new_privs = false", "no_new_privs: can only be true; leave it out"),
            (
                "capabilities = [\"FLY\"]",
                "capabilities: \"FLY\" is no capability; write [\"NET_BIND",
            ),
            (
                "open_files = \"64MiB\"",
                "open_files: \"64MiB\" is no limit; write 4096 or \"unlimited\"",
            ),
            ("open_files = 0", "open_files: 0 is not between 1 and"),
            ("address_space = \"much\"", "address_space: \"much\" is no limit; write \"64MiB\" or"),
            ("adress_space = \"1GiB\"", "adress_space: unknown key; did you mean address_space?"),
        ] {
            let (_, problems) = check(text);
            let wanted = format!("t.toml:1: {problem}");
            assert!(
                problems.len() == 1 && problems[0].starts_with(&wanted),
                "{text}: {problems:?}"
            );
        }
    }
}
