//! `ops/N/report.md`: why an operation did not do what was wanted, to be read later by a
//! human. What happened, the phases, the last probes, what the processes held, the last lines of
//! the log, what differs between the releases, and the commands to go on with. It never holds the
//! value of a variable.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use serde_json::Value;

use crate::api::{Outcome, PhaseState};
use crate::config::model::Settings;
use crate::core::ids::{OpId, ReleaseId};
use crate::core::ordered::Ordered as _;
use crate::json;
use crate::os::fs;
use crate::store::{journal, release};
use crate::supervisor::operation::assignment::Assignment;
use crate::supervisor::operation::watching::Watching;
use crate::supervisor::processes::log_files;
use crate::supervisor::service::Service;

const FILE: &str = "report.md";
/// Lines of the release's log that a report holds.
const N_LOG_LINES: usize = 60;
/// Lines of what its commands printed.
const N_OUTPUT_LINES: usize = 40;

/// Writes the report of an operation that did not do what was wanted. A report that cannot be
/// written is a warning, nothing else.
pub(crate) fn write(
    service: &Service,
    assignment: &Assignment,
    watching: &Watching,
    outcome: &Outcome,
) -> Option<PathBuf> {
    let path = service.paths.op(assignment.op).join(FILE);
    match fs::replace(&path, text(service, assignment, watching, outcome).as_bytes(), 0o600) {
        Ok(()) => Some(path),
        Err(error) => {
            tracing::warn!(service = %service.name, %error, "writing a report");
            None
        }
    }
}

fn text(
    service: &Service,
    assignment: &Assignment,
    watching: &Watching,
    outcome: &Outcome,
) -> String {
    let mut text = String::new();
    let release = assignment.release;
    head(&mut text, service, assignment, outcome);
    section(&mut text, "Phases", &phases(service, assignment.op));
    let probes: Vec<&str> = watching.transcript.lines().collect();
    section(&mut text, "Last probes", &probes.join("\n"));
    section(&mut text, "Resources of the processes", &watching.curve.borrow().render());
    let log = log_files::tail(&service.logs.path(release), N_LOG_LINES);
    section(&mut text, &format!("Last lines of release {release}"), &log.join("\n"));
    let output = log_files::tail(&service.paths.output(assignment.op), N_OUTPUT_LINES);
    section(&mut text, "Output of its commands", &output.join("\n"));
    if let Some(before) = assignment.ladder.iter().find(|before| **before != release) {
        let title = format!("Differences from release {before}");
        section(&mut text, &title, &differences(service, *before, release));
    }
    let next: Vec<String> = outcome.next.iter().map(|next| format!("- `{next}`")).collect();
    if !next.is_empty() {
        push(&mut text, format_args!("\n## Next\n\n{}\n", next.join("\n")));
    }
    text
}

fn head(text: &mut String, service: &Service, assignment: &Assignment, outcome: &Outcome) {
    let what = outcome.trouble.as_ref().map_or_else(
        || format!("{}: {}", service.name, outcome.outcome),
        |trouble| trouble.what.clone(),
    );
    push(text, format_args!("# {what}\n\n"));
    let number = |n: Option<u64>| n.map_or("none".to_owned(), |n| n.to_string());
    let rows = [
        ("operation", format!("{} by {}", assignment.op, assignment.actor)),
        ("release", assignment.release.to_string()),
        ("source", assignment.source_name.clone()),
        ("outcome", format!("{} (exit {})", outcome.outcome, outcome.exit)),
        ("serving", number(outcome.serving)),
        ("last good", number(outcome.last_good)),
    ];
    for (name, value) in rows {
        push(text, format_args!("- {name}: {value}\n"));
    }
    if let Some(trouble) = &outcome.trouble {
        section(text, "Why", &trouble.why);
        push(text, format_args!("\nStill: {}\n", trouble.still));
    }
    for warning in &outcome.warnings {
        push(text, format_args!("- warning: {warning}\n"));
    }
}

fn phases(service: &Service, op: OpId) -> String {
    let Ok(Some((_, records))) = journal::read(&service.paths, op) else {
        return String::new();
    };
    let over = records.into_iter().filter_map(|record| Some((record.state()?, record)));
    let lines = over.filter(|(state, _)| *state != PhaseState::Start).map(|(state, record)| {
        let state = format!("{state:?}").to_ascii_lowercase();
        let detail = record.detail.lines().next().unwrap_or_default().to_owned();
        format!("{} {:<18} {state:<5} {:>7} ms  {detail}", record.at, record.phase, record.ms)
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Keys whose values differ; of variables only the names.
fn differences(service: &Service, before: ReleaseId, after: ReleaseId) -> String {
    let read = |release| release::settings(&service.paths, release).ok();
    let (Some(before), Some(after)) = (read(before), read(after)) else { return String::new() };
    differing(&before, &after).join("\n")
}

fn differing(before: &Settings, after: &Settings) -> Vec<String> {
    let (before, after) = (flat(before), flat(after));
    let keys: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).into_set();
    let line = |key: &String| match (before.get(key), after.get(key)) {
        (Some(old), Some(new)) if old == new => None,
        (Some(_), Some(_)) if key.starts_with("env.") => Some(format!("{key}: changed")),
        (Some(old), Some(new)) => Some(format!("{key}: {old} -> {new}")),
        (None, Some(_)) => Some(format!("{key}: added")),
        (Some(_), None) => Some(format!("{key}: removed")),
        (None, None) => None,
    };
    keys.into_iter().filter_map(line).collect()
}

/// Every value by its path of keys.
fn flat(settings: &Settings) -> BTreeMap<String, String> {
    let value = json::to_value(settings).unwrap_or(Value::Null);
    let mut flat = BTreeMap::new();
    walk(&value, "", &mut flat);
    flat
}

fn walk(value: &Value, path: &str, flat: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                walk(value, &below, flat);
            }
        }
        Value::Null => {}
        value => drop(flat.insert(path.to_owned(), value.to_string())),
    }
}

/// A heading with what was printed, as it was printed; nothing when there is nothing.
fn section(text: &mut String, title: &str, body: &str) {
    if body.trim().is_empty() {
        return;
    }
    // A fence that the body cannot close.
    let fence = "`".repeat(longest_run(body).max(2) + 1);
    push(text, format_args!("\n## {title}\n\n{fence}\n{}\n{fence}\n", body.trim_end()));
}

fn longest_run(body: &str) -> usize {
    body.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

fn push(text: &mut String, more: std::fmt::Arguments<'_>) {
    // Writing into a String does not fail.
    let _ = text.write_fmt(more);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_variables_are_never_told() {
        let text = r#"{"version":1,"command":["./web"],"user":null,"instances":1,
            "env":{"TOKEN":"old"},"handoff":"inherit",
            "health":{"check":"tcp","interval":"1s","rest_interval":"10s","timeout":"2s",
            "rise":3,"fall":3,"min_healthy":"2s","deadline":"30s"},
            "bake":{"for":"30s","inconclusive":"promote","min_samples":1},
            "stop":{"signal":"TERM","linger":"5s","timeout":"30s"}}"#;
        let before: Settings = json::from_slice(text.as_bytes()).unwrap();
        let mut after = before.clone();
        after.env =
            [("TOKEN".to_owned(), "secret".to_owned()), ("B".to_owned(), "x".to_owned())].into();
        after.instances = 2;
        assert_eq!(
            differing(&before, &after),
            ["env.B: added", "env.TOKEN: changed", "instances: 1 -> 2"]
        );
    }

    #[test]
    fn what_was_printed_cannot_end_its_own_fence() {
        let mut text = String::new();
        section(&mut text, "T", "a\n```\nb");
        assert!(text.contains("\n````\na\n```\nb\n````\n"), "{text}");
    }
}
