//! What an HTTP check asks with, and which answers are good: the keys beside `http`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::pattern::Pattern;
use super::super::raw::Section;

/// Keys that are only for `http`.
pub(super) const KEYS: [&str; 6] = ["host", "method", "headers", "expect", "body", "redirects"];

/// The terms of an HTTP check.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Terms {
    /// `Host`; `localhost` when absent.
    pub host: Option<String>,
    /// `GET` when absent.
    pub method: Option<String>,
    /// More headers.
    pub headers: BTreeMap<String, String>,
    /// Statuses that are good, from and to; 200 to 399 when there are none.
    pub expect: Vec<(u16, u16)>,
    /// What the body has to match.
    pub body: Option<Pattern>,
    /// How many redirects are followed, within the service.
    pub redirects: u32,
}

impl Terms {
    /// Whether a status is good.
    #[must_use]
    pub fn is_good(&self, status: u16) -> bool {
        let usual = [(200, 399)];
        let good = if self.expect.is_empty() { &usual[..] } else { &self.expect };
        good.iter().any(|(from, to)| (*from..=*to).contains(&status))
    }

    /// Whether nothing is asked for beside the path.
    #[must_use]
    pub fn are_usual(&self) -> bool {
        *self == Self::default()
    }
}

/// Those of the section laid over `base`.
pub(super) fn read(section: &Section<'_>, base: Terms, is_http: bool) -> Terms {
    if let Some(key) = KEYS.iter().find(|key| section.has(key) && !is_http) {
        section.problem_with_hint(key, "is only for http", "add http = \"/healthz\"");
    }
    let mut terms = base;
    let word = |key: &str, is_good: &dyn Fn(char) -> bool| {
        let text = section.text(key)?.value;
        if text.is_empty() || !text.chars().all(is_good) {
            section.problem(key, format!("{text:?} cannot stand in a request"));
        }
        Some(text)
    };
    terms.host = word("host", &|c| c.is_ascii_graphic() && c != '/').or(terms.host);
    terms.method = word("method", &|c| c.is_ascii_uppercase()).or(terms.method);
    if let Some(table) = section.free_section("headers") {
        for name in table.keys() {
            let is_token = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            let value = table.text(name).map(|found| found.value).unwrap_or_default();
            if !name.chars().all(is_token) || value.contains(char::is_control) {
                table.problem(name, "cannot stand in a request");
            }
            terms.headers.insert(name.to_owned(), value);
        }
    }
    if let Some(texts) = section.texts("expect") {
        let hint = "write [\"2xx\", \"301\", \"400-404\"]";
        let mut statuses = Vec::new();
        for text in texts {
            match statuses_of(&text.value) {
                Some(range) => statuses.push(range),
                None => {
                    let message = format!("{:?} is no status", text.value);
                    let key = section.path("expect");
                    section.report().add_with_hint(text.line, &key, message, hint);
                }
            }
        }
        terms.expect = statuses;
    }
    if let Some(text) = section.text("body") {
        match Pattern::anywhere(&text.value) {
            Ok(pattern) => terms.body = Some(pattern),
            Err(error) => section.problem("body", error.to_string()),
        }
    }
    terms.redirects = section.number("redirects", 0, 10).unwrap_or(terms.redirects);
    terms
}

/// `2xx`, `204`, `200-299`.
fn statuses_of(text: &str) -> Option<(u16, u16)> {
    let status = |text: &str| text.parse().ok().filter(|n| (100..600).contains(n));
    if let Some(class) = text.strip_suffix("xx") {
        let from = status(&format!("{class}00"))?;
        return Some((from, from + 99));
    }
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let range = (status(from)?, status(to)?);
    (range.0 <= range.1).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_one_a_class_or_a_range() {
        for (text, expected) in [
            ("2xx", Some((200, 299))),
            ("404", Some((404, 404))),
            ("200-204", Some((200, 204))),
            ("204-200", None),
            ("6xx", None),
            ("20", None),
            ("ok", None),
        ] {
            assert_eq!(statuses_of(text), expected, "{text}");
        }
    }
}
