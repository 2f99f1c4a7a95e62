//! An error as people see it.

use serde::{Deserialize, Serialize};

use crate::core::exit::Exit;

/// An error for people: four lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// What did not happen: `web: release 42 was not put live`.
    pub what: String,
    /// Why; may have several lines (the last lines of a failed candidate).
    pub why: String,
    /// What is true for the user's users now.
    pub still: String,
    /// The exact commands to go on with.
    pub next: Vec<String>,
    /// The exit code.
    pub exit: u8,
}

impl Trouble {
    /// What its code means. A code that only a newer Halley gives is an error like any other.
    #[must_use]
    pub fn meaning(&self) -> Exit {
        Exit::of_code(self.exit).unwrap_or(Exit::Internal)
    }
}
