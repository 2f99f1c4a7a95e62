//! NDJSON on stdout, as received; the last line is the result.

use serde_json::{Value, json};

use crate::api::{Event, Trouble};
use crate::cli::out;
use crate::cli::render::seen::Seen;
use crate::core::exit::Exit;
use crate::json;

/// Shows events to machines.
#[derive(Debug, Default)]
pub struct Json {
    seen: Seen,
}

impl Json {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn reconnected(&mut self) {
        self.seen.replay();
    }

    pub fn show(&mut self, event: &Event) -> Option<u8> {
        if !self.seen.is_new(event) {
            return None;
        }
        match event {
            // A program's own words.
            Event::Log { .. } => {
                drop(json::to_string(event).map(out::verbatim));
                None
            }
            Event::Env(surroundings) => {
                drop(json::to_string(surroundings).map(out::verbatim));
                Some(0)
            }
            Event::Status(status) => {
                print(status);
                Some(0)
            }
            Event::History { operations } => list(operations),
            Event::Releases { releases } => list(releases),
            Event::Backups { backups } => list(backups),
            Event::Reload(reload) => {
                print(reload);
                Some(0)
            }
            Event::Result(outcome) => {
                print(event);
                Some(outcome.exit)
            }
            Event::Error(trouble) => {
                refused(trouble);
                Some(trouble.exit)
            }
            // Each line says whose it is.
            Event::Logs { .. } => None,
            Event::Operation { .. }
            | Event::Set { .. }
            | Event::Member(_)
            | Event::Phase { .. }
            | Event::Progress { .. }
            | Event::Heartbeat { .. }
            | Event::Plan(_)
            | Event::Restore(_)
            | Event::Repair(_)
            | Event::Backup(_) => {
                print(event);
                None
            }
        }
    }
}

/// The result of a request that was not accepted, or that found nothing to do.
pub fn refused(trouble: &Trouble) {
    let mut value = json::to_value(trouble).unwrap_or(Value::Null);
    if let Value::Object(fields) = &mut value {
        fields.insert("event".to_owned(), json!("result"));
        let is_done = trouble.meaning() == Exit::Done;
        let outcome = if is_done { "nothing_to_do" } else { "refused" };
        fields.insert("outcome".to_owned(), json!(outcome));
    }
    print(&value);
}

/// Each in a line; of none the result says so.
fn list(entries: &[impl serde::Serialize]) -> Option<u8> {
    entries.iter().for_each(print);
    if entries.is_empty() {
        print(&json!({ "event": "result", "outcome": "listed", "n": 0, "exit": 0 }));
    }
    Some(0)
}

fn print(value: &impl serde::Serialize) {
    if let Ok(text) = json::to_string(value) {
        out::json(text);
    }
}
