//! Durable truth: every path, the state, the journal, the releases, the history, and how an
//! artifact comes in.
//!
//! All formats carry a version. A file that cannot be read is an error that names it: this room
//! must never take it for an empty one.

pub mod aside;
pub mod content;
pub mod damage;
pub mod history;
pub mod intake;
pub mod intake_error;
pub mod intent;
pub mod journal;
pub mod last_config;
pub mod layout;
pub mod leads;
mod line;
pub mod migration;
pub mod outbox;
pub mod rebuild;
pub mod receipt;
pub mod record;
pub mod release;
pub mod reserve;
pub mod restoration;
pub mod salvage;
pub mod seal;
pub mod set;
pub mod state;
pub mod state_word;
pub mod tree;
pub mod trial;
