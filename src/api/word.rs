//! The name of an outcome on the wire and on the disk. A name that only a newer Halley has is kept
//! as it was written, so that its journals and its history can still be read.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::core::operation::outcome::Word;

/// The name of an outcome, as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum OutcomeWord {
    /// One that this Halley has.
    Known(Word),
    /// One of a newer Halley.
    Newer(String),
}

impl OutcomeWord {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Known(word) => word.name(),
            Self::Newer(name) => name,
        }
    }

    /// The outcome, when this Halley has it.
    #[must_use]
    pub fn known(&self) -> Option<Word> {
        match self {
            Self::Known(word) => Some(*word),
            Self::Newer(_) => None,
        }
    }
}

impl From<Word> for OutcomeWord {
    fn from(word: Word) -> Self {
        Self::Known(word)
    }
}

impl From<String> for OutcomeWord {
    fn from(name: String) -> Self {
        Word::parse(&name).map_or(Self::Newer(name), Self::Known)
    }
}

impl From<OutcomeWord> for String {
    fn from(word: OutcomeWord) -> Self {
        word.name().to_owned()
    }
}

impl PartialEq<Word> for OutcomeWord {
    fn eq(&self, word: &Word) -> bool {
        self.known() == Some(*word)
    }
}

impl fmt::Display for OutcomeWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_its_name_and_a_newer_one_is_kept() {
        for (text, known) in [("\"rolled_back\"", Some(Word::RolledBack)), ("\"merged\"", None)] {
            let word: OutcomeWord = serde_json::from_str(text).unwrap();
            assert_eq!(word.known(), known);
            assert_eq!(serde_json::to_string(&word).unwrap(), text);
        }
    }
}
