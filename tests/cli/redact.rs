//! What differs from run to run and from host to host, in words that say what it was.

use regex_lite::Regex;

use crate::world::{BINARY, World};

/// Patterns and what stands for them, in the order in which they are applied.
const PATTERNS: &[(&str, &str)] = &[
    (r"(?m)^ +… .*\n", ""),
    (r#"(?m)^\{"event":"(heartbeat|progress)".*\n"#, ""),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
    (r"\b\d{8}T\d{6}\.\d{3}Z\b", "ID"),
    (r"\b\d{8}T\d{6}Z\b", "TIME"),
    (r"has crashed \d+ times", "has crashed N times"),
    (r"\b[0-9a-f]{64}\b", "DIGEST"),
    (r"\b[0-9a-f]{12}\b", "DIGEST"),
    (
        r#""(pid|ms|gap_ms|lag_ms|bytes|total_bytes|size_bytes|rss_bytes|cpu_ms|uptime_ms)":\d+"#,
        "\"$1\":N",
    ),
    (r#""lag_at":"[^"]*""#, "\"lag_at\":\"TASK\""),
    (r"\b(pid|process) \d+", "$1 N"),
    (r"\bkill \d+( \d+)*", "kill N"),
    // A row of the table of processes: release, instance, pid.
    (r"(?m)^( +\d+ +\d+ +)\d+( +[a-z])", "${1}N$2"),
    (r"\b\d+ (step|probe|bad probe)s? in ", "N ${1}s in "),
    (r"\b\d+(\.\d+)? (us|ms|s|min|h|days)\b", "DURATION"),
    (r"\b\d+(\.\d+)? (B|kB|MB|GB|TB)\b", "SIZE"),
    (r"(?m) +$", ""),
    // Columns are as wide as what they hold.
    (r"(?m)(\S)  +", "$1  "),
    // A process that crashes runs at one moment and not at the next.
    (r"(?m)^( \w+  degraded  \d+( \(trial\))?)  \S+  \S+  \S+  \d+", "$1  AGE  CPU  SIZE  N"),
];

/// The text of a run in this world, fit for a snapshot.
pub fn redacted(world: &World, text: &str) -> String {
    let dir = world.path("");
    let dir = dir.to_string_lossy();
    let mut text = text
        .replace(dir.trim_end_matches('/'), "DIR")
        .replace(&world.address.to_string(), "ADDRESS")
        .replace(BINARY, "BINARY")
        .replace(concat!("\"", env!("CARGO_PKG_VERSION"), "\""), "\"VERSION\"");
    for (pattern, stand_in) in PATTERNS {
        text = Regex::new(pattern).unwrap().replace_all(&text, *stand_in).into_owned();
    }
    text
}
