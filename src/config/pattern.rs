//! Regular expressions of the configuration, compiled once, known by their text.

use regex_lite::Regex;
use serde::{Deserialize, Serialize};

/// Why a text is not a regular expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a regular expression: {0}")]
pub struct BadPattern(String);

/// A regular expression. Matching takes time linear in the text, whatever the expression.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    text: String,
    regex: Regex,
}

impl Pattern {
    /// One that may match anywhere in a text.
    ///
    /// # Errors
    /// [`BadPattern`].
    pub fn anywhere(text: &str) -> Result<Self, BadPattern> {
        let regex = Regex::new(text).map_err(|error| BadPattern(error.to_string()))?;
        Ok(Self { text: text.to_owned(), regex })
    }

    /// One that must match a text as a whole.
    ///
    /// # Errors
    /// [`BadPattern`].
    pub fn whole(text: &str) -> Result<Self, BadPattern> {
        // On its own first: `a)(b` becomes good only by what stands around it.
        let own = Self::anywhere(text)?;
        Ok(Self { text: own.text, ..Self::anywhere(&format!("^(?:{text})$"))? })
    }

    /// Whether it matches.
    #[must_use]
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.regex.as_str() == other.regex.as_str()
    }
}

impl Eq for Pattern {}

impl TryFrom<String> for Pattern {
    type Error = BadPattern;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::anywhere(&text)
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_is_the_whole() {
        let whole = Pattern::whole("5..|4").unwrap();
        for (text, expected) in [("503", true), ("4", true), ("1503", false), ("404", false)] {
            assert_eq!(whole.is_match(text), expected, "{text}");
        }
        assert!(Pattern::anywhere("(?i)error|panic").unwrap().is_match("an ERROR came"));
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in ["(", "[a", "a)(b", "*"] {
            assert!(Pattern::whole(text).is_err() && Pattern::anywhere(text).is_err(), "{text}");
        }
    }
}
