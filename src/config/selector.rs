//! Which of a program's numbers are meant: `http_requests_total{code=~"5..", method!="GET"}`, as
//! Prometheus writes it. Quotes may be left out where no blank, comma or brace is in the value.

use serde::{Deserialize, Serialize};

use super::pattern::{BadPattern, Pattern};
use crate::core::analysis::exposition::{self, Series};

/// Why a text selects nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSelector {
    /// It is not of this form.
    #[error("not a selector: {text:?}")]
    Form {
        /// The text.
        text: String,
    },
    /// A label's expression is none.
    #[error("{source}")]
    Pattern {
        /// What is wrong with it.
        #[from]
        source: BadPattern,
    },
}

/// A metric's name and what its labels must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Selector {
    text: String,
    name: String,
    wants: Vec<Want>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Want {
    label: String,
    value: Value,
    expected: Expected,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Exact(String),
    Like(Pattern),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Match,
    NoMatch,
}

impl Selector {
    /// Reads one.
    ///
    /// # Errors
    /// [`BadSelector`].
    pub fn parse(text: &str) -> Result<Self, BadSelector> {
        let bad = || BadSelector::Form { text: text.to_owned() };
        let (name, rest) = exposition::split_name(text.trim(), ":").ok_or_else(bad)?;
        let rest = rest.trim_start();
        let mut wants = Vec::new();
        if !rest.is_empty() {
            let mut inside = rest.strip_prefix('{').ok_or_else(bad)?.trim_start();
            while !inside.starts_with('}') {
                let (want, after) = Self::want(inside).ok_or_else(bad)?;
                wants.push(want?);
                let after = after.trim_start();
                inside = after.strip_prefix(',').unwrap_or(after).trim_start();
                if !after.starts_with([',', '}']) {
                    return Err(bad());
                }
            }
            if inside != "}" {
                return Err(bad());
            }
        }
        Ok(Self { text: text.to_owned(), name: name.to_owned(), wants })
    }

    /// One `label op value`, and what follows it.
    fn want(text: &str) -> Option<(Result<Want, BadPattern>, &str)> {
        let (label, rest) = exposition::split_name(text, "")?;
        let rest = rest.trim_start();
        let operators = [("=~", true), ("!~", true), ("!=", false), ("=", false)];
        let (operator, is_like) = operators.into_iter().find(|(op, _)| rest.starts_with(op))?;
        let rest = rest[operator.len()..].trim_start();
        let (value, after) = if rest.starts_with('"') {
            let (value, after) = exposition::quoted(rest)?;
            (value.into_owned(), after)
        } else {
            let end = rest.find(|c: char| c.is_whitespace() || ",{}\"".contains(c))?;
            (rest[..end].to_owned(), &rest[end..])
        };
        let is_not = operator.starts_with('!');
        let expected = if is_not { Expected::NoMatch } else { Expected::Match };
        let value =
            if is_like { Pattern::whole(&value).map(Value::Like) } else { Ok(Value::Exact(value)) };
        let want = value.map(|value| Want { label: label.to_owned(), value, expected });
        Some((want, after))
    }

    /// Whether a number is meant.
    #[must_use]
    pub fn is_match(&self, series: &Series<'_>) -> bool {
        let fits = |want: &Want| {
            let label = series.label(&want.label);
            let matches = match &want.value {
                Value::Exact(value) => label == value,
                Value::Like(pattern) => pattern.is_match(label),
            };
            matches == (want.expected == Expected::Match)
        };
        series.name == self.name && self.wants.iter().all(fits)
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl TryFrom<String> for Selector {
    type Error = BadSelector;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<Selector> for String {
    fn from(selector: Selector) -> Self {
        selector.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "n{code=\"200\",path=\"/a b\"} 1\nn{code=\"503\"} 2\nn{code=\"504\"} 4\n\
                        m{code=\"503\"} 8\nn 16\n";

    fn check(selector: &str, expected: f64) {
        let selector = Selector::parse(selector).unwrap();
        let all = exposition::parse(TEXT).filter_map(Result::ok);
        let sum: f64 = all.filter(|one| selector.is_match(one)).map(|one| one.value).sum();
        assert!((sum - expected).abs() < 1e-9, "{selector:?}: {sum}");
    }

    #[test]
    fn it_selects_by_name_and_labels() {
        for (selector, expected) in [
            ("n", 23.0),
            ("n{}", 23.0),
            ("m", 8.0),
            ("n{code=\"503\"}", 2.0),
            ("n{code=503}", 2.0),
            ("n{code=~5..}", 6.0),
            ("n { code =~ \"5..|200\" , }", 7.0),
            ("n{code!~\"5..\"}", 17.0),
            ("n{code!=\"\", path!=\"/a b\"}", 6.0),
            ("n{code=\"\"}", 16.0),
            ("x", 0.0),
        ] {
            check(selector, expected);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "1a",
            "n{",
            "n{code}",
            "n{code=}x",
            "n{code=\"5}",
            "n{code==\"5\"}",
            "n{code=~\"(\"}",
            "n{a=b}c",
            "n{a=b c=d}",
            "n{,}",
            "n/m",
            "{code=\"5\"}",
        ] {
            assert!(Selector::parse(text).is_err(), "{text}");
        }
    }
}
