//! Where a phase stands, as a journal has it. A word that only a newer Halley has is kept as it was
//! written: its line is not damaged, and what it means is not guessed.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::PhaseState;
use crate::json;

/// The state of a phase, as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", untagged)]
pub enum StateWord {
    /// One that this Halley has.
    Known(PhaseState),
    /// One of a newer Halley.
    Newer(String),
}

impl From<String> for StateWord {
    fn from(word: String) -> Self {
        match json::from_value(Value::String(word.clone())) {
            Ok(state) => Self::Known(state),
            Err(_) => Self::Newer(word),
        }
    }
}

impl StateWord {
    /// The state, when this Halley has it.
    #[must_use]
    pub fn known(&self) -> Option<PhaseState> {
        match self {
            Self::Known(state) => Some(*state),
            Self::Newer(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_its_word() {
        for (text, known) in [("\"ok\"", Some(PhaseState::Ok)), ("\"sideways\"", None)] {
            let word: StateWord = serde_json::from_str(text).unwrap();
            assert_eq!((word.known(), serde_json::to_string(&word).unwrap()), (known, text.into()));
        }
    }
}
