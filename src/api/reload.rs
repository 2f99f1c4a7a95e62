//! `reload`: read the configuration again, in one [`Event::Reload`](super::Event::Reload).

use serde::{Deserialize, Serialize};

/// The arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Args {
    /// Only say what is different.
    pub dry_run: bool,
}

/// What the files say that was not in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reload {
    /// Whether it is in use now.
    pub applied: bool,
    /// A line a key: `+` it is new, `-` it is gone, `~` its value is another one.
    pub changes: Vec<String>,
    /// What takes effect later, or is not done.
    pub warnings: Vec<String>,
}
