//! What people see, and what machines read.

mod human;
mod json;
mod seen;
mod tables;

use std::process::ExitCode;

use crate::api::{Event, Trouble, Verb};
use crate::cli::{exit, out};

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

/// An error of the client itself, as the supervisor's own are shown, and its exit code.
pub fn refused(json: bool, trouble: &Trouble) -> ExitCode {
    if json {
        json::refused(trouble);
    } else {
        out::say(out::four_lines(trouble));
    }
    exit::of_answer(trouble.exit)
}
