//! What people see, and what machines read.

mod human;
mod json;
mod kept;
mod seen;
mod status;
mod tables;

use std::process::ExitCode;

use serde_json::Value;

use crate::api::{Event, Trouble, Verb};
use crate::cli::{exit, out};
use crate::core::exit::Exit;

/// Shows events as they come.
pub enum Renderer {
    /// For people.
    Human(human::Human),
    /// For machines.
    Json(json::Json),
}

impl Renderer {
    /// For the answers to this verb.
    pub fn new(json: bool, verb: &Verb) -> Self {
        if json { Self::Json(json::Json::new()) } else { Self::Human(human::Human::new(verb)) }
    }

    /// Shows an event; the exit code when it was the last.
    pub fn show(&mut self, event: &Event) -> Option<u8> {
        match self {
            Self::Human(human) => human.show(event),
            Self::Json(json) => json.show(event),
        }
    }

    /// The events come again from the first: those that were shown are passed over.
    pub fn reconnected(&mut self) {
        match self {
            Self::Human(human) => human.reconnected(),
            Self::Json(json) => json.reconnected(),
        }
    }
}

/// The result of a check that needs no supervisor, with more about it.
pub fn checked(ended: Exit, mut more: Value) {
    more["event"] = "result".into();
    more["outcome"] = "checked".into();
    more["exit"] = ended.code().into();
    out::json(more);
}

/// The result of what was written without a supervisor, with more about it.
pub fn written(mut more: Value) {
    more["event"] = "result".into();
    more["outcome"] = "written".into();
    more["exit"] = Exit::Done.code().into();
    out::json(more);
}

/// An error of the client itself, as the supervisor's own are shown, and its exit code.
pub fn refused(json: bool, trouble: &Trouble) -> ExitCode {
    if json {
        json::refused(trouble);
    } else {
        out::say(out::four_lines(trouble));
    }
    exit::of_answer(trouble.exit)
}
