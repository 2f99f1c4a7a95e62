//! What people see, and what machines read.

mod human;
mod json;
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

/// Tells phases that were shown from those that were not, over a change of supervisors.
#[derive(Debug, Default)]
pub struct Seen {
    shown: Vec<Event>,
    replayed: usize,
}

impl Seen {
    /// Whether an event is new.
    pub fn is_new(&mut self, event: &Event) -> bool {
        let lasting = matches!(
            event,
            Event::Set { .. } | Event::Operation { .. } | Event::Phase { .. } | Event::Member(_)
        );
        if !lasting {
            return true;
        }
        if self.shown[self.replayed..].contains(event) {
            self.replayed += 1;
            return false;
        }
        // What comes now was never shown; a replay has no more to say.
        self.shown.push(event.clone());
        self.replayed = self.shown.len();
        true
    }

    /// A replay begins.
    pub fn replay(&mut self) {
        self.replayed = 0;
    }
}
