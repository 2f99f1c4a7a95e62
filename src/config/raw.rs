//! What was typed in: a TOML table read key by key, each value with its line.
//!
//! Every section has its list of known keys; whatever else stands there is a problem, with the key
//! that was probably meant. A reader returns `None` both for an absent key and for a
//! bad value, which it has reported by then, so that reading goes on and finds the next problem.
//! Nothing here knows what a value means; that is `check`.

mod lists;

use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Report, Sections};
use super::{duration, size, suggest};

/// A value with its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found<T> {
    pub(super) value: T,
    pub(super) line: usize,
}

/// One table of a file.
#[derive(Clone)]
pub(super) struct Section<'a> {
    path: String,
    line: usize,
    table: &'a DeTable<'a>,
    report: &'a Report<'a>,
}

impl<'a> Section<'a> {
    /// A table whose keys may be anything.
    pub(super) fn free(
        path: &str,
        span: &Range<usize>,
        table: &'a DeTable<'a>,
        report: &'a Report<'a>,
    ) -> Self {
        Self { path: path.to_owned(), line: report.line(span), table, report }
    }

    /// A table that may have these keys; reports each other one.
    pub(super) fn of(
        path: &str,
        span: &Range<usize>,
        table: &'a DeTable<'a>,
        known: &[&str],
        report: &'a Report<'a>,
    ) -> Self {
        let section = Self::free(path, span, table, report);
        section.refuse_unknown(known);
        section
    }

    pub(super) fn path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    pub(super) fn report(&self) -> &'a Report<'a> {
        self.report
    }

    /// The line of a key, or of the section where the key is absent.
    pub(super) fn line(&self, key: &str) -> usize {
        self.find(key).map_or(self.line, |(key_span, _)| self.report.line(&key_span))
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// Whether a key has a text, and no list.
    pub(super) fn is_text(&self, key: &str) -> bool {
        self.find(key).is_some_and(|(_, value)| matches!(value.get_ref(), DeValue::String(_)))
    }

    pub(super) fn keys(&self) -> Vec<&'a str> {
        self.table.iter().map(|(key, _)| key.get_ref().as_ref()).collect()
    }

    /// Reports something about a key.
    pub(super) fn problem(&self, key: &str, message: impl Into<String>) {
        self.report.add(self.line(key), &self.path(key), message);
    }

    /// Reports something about a key, with what to do about it.
    pub(super) fn problem_with_hint(
        &self,
        key: &str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.report.add_with_hint(self.line(key), &self.path(key), message, hint);
    }

    /// A section below this one, with its known keys.
    pub(super) fn section(&self, key: &str, known: &[&str]) -> Option<Section<'a>> {
        let (span, table) = self.table_of(key)?;
        Some(Section::of(&self.path(key), &span, table, known, self.report))
    }

    /// A table below this one whose keys may be anything.
    pub(super) fn free_section(&self, key: &str) -> Option<Section<'a>> {
        let (span, table) = self.table_of(key)?;
        Some(Section::free(&self.path(key), &span, table, self.report))
    }

    pub(super) fn text(&self, key: &str) -> Option<Found<String>> {
        let (_, value) = self.find(key)?;
        self.text_of(key, value, "a text")
    }

    /// A list of strings, each with its line.
    pub(super) fn texts(&self, key: &str) -> Option<Vec<Found<String>>> {
        let (_, value) = self.find(key)?;
        let DeValue::Array(items) = value.get_ref() else {
            let hint = match value.get_ref() {
                DeValue::String(one) => format!("write [{one:?}]"),
                _ => "write [\"…\", \"…\"]".to_owned(),
            };
            self.wrong_type(key, value, "a list of texts", Some(hint));
            return None;
        };
        let texts: Vec<_> =
            items.iter().map(|item| self.text_of(key, item, "a text in this list")).collect();
        texts.into_iter().collect()
    }

    /// A program with its arguments, not empty.
    pub(super) fn command(&self, key: &str) -> Option<Vec<String>> {
        let words: Vec<_> = self.texts(key)?.into_iter().map(|found| found.value).collect();
        if words.first().is_none_or(String::is_empty) {
            self.problem_with_hint(key, "names no program", "write [\"./bin/web\"]");
            return None;
        }
        Some(words)
    }

    /// A key that may only be `true`.
    pub(super) fn flag(&self, key: &str) -> Option<Found<()>> {
        let (_, value) = self.find(key)?;
        match value.get_ref() {
            DeValue::Boolean(true) => Some(Found { value: (), line: self.line(key) }),
            DeValue::Boolean(false) => {
                self.problem_with_hint(key, "can only be true", "leave it out");
                None
            }
            _ => {
                self.wrong_type(key, value, "true", None);
                None
            }
        }
    }

    /// A whole number between two bounds, both allowed.
    pub(super) fn number(&self, key: &str, least: u32, most: u32) -> Option<u32> {
        let number = self.integer(key, i64::from(least), i64::from(most))?;
        u32::try_from(number).ok()
    }

    /// The same, also below zero.
    pub(super) fn integer(&self, key: &str, least: i64, most: i64) -> Option<i64> {
        let (_, value) = self.find(key)?;
        let DeValue::Integer(integer) = value.get_ref() else {
            self.wrong_type(key, value, "a whole number", None);
            return None;
        };
        let number = i128::from_str_radix(integer.as_str(), integer.radix());
        let fits = number.ok().and_then(|number| i64::try_from(number).ok());
        let inside = fits.filter(|number| (least..=most).contains(number));
        if inside.is_none() {
            self.problem(key, format!("{integer} is not between {least} and {most}"));
        }
        inside
    }

    /// A part of the whole, from 0 to 1, in millionths.
    pub(super) fn ratio_ppm(&self, key: &str) -> Option<u32> {
        let (_, value) = self.find(key)?;
        let text = match value.get_ref() {
            DeValue::Float(float) => float.as_str(),
            DeValue::Integer(integer) => integer.as_str(),
            _ => {
                self.wrong_type(key, value, "a number with a point", None);
                return None;
            }
        };
        let ratio = text.replace('_', "").parse::<f64>().ok();
        let ratio = ratio.filter(|ratio| (0.0..=1.0).contains(ratio));
        if ratio.is_none() {
            self.problem(key, format!("{text} is not between 0 and 1"));
        }
        ratio.map(|ratio| (ratio * 1e6).round() as u32)
    }

    /// A duration, zero allowed.
    pub(super) fn duration(&self, key: &str) -> Option<Duration> {
        let (_, value) = self.find(key)?;
        if let DeValue::Integer(integer) = value.get_ref() {
            let unit = if integer.as_str() == "0" { "" } else { "s" };
            let hint = format!("write \"{integer}{unit}\"");
            self.wrong_type(key, value, "a duration", Some(hint));
            return None;
        }
        let text = self.text_of(key, value, "a duration")?;
        duration::parse(&text.value).map_err(|error| self.problem(key, error.to_string())).ok()
    }

    /// A duration greater than zero.
    pub(super) fn positive_duration(&self, key: &str) -> Option<Duration> {
        let duration = self.duration(key)?;
        if duration.is_zero() {
            self.problem(key, "must be greater than zero");
            return None;
        }
        Some(duration)
    }

    /// A size in bytes, greater than zero.
    pub(super) fn size(&self, key: &str) -> Option<u64> {
        let text = self.text(key)?;
        match size::parse(&text.value) {
            Ok(0) => self.problem(key, "must be greater than zero"),
            Ok(bytes) => return Some(bytes),
            Err(error) => self.problem(key, error.to_string()),
        }
        None
    }

    /// One word of a list of words.
    pub(super) fn word<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        self.pick(key, &text, words)
    }

    /// A list of words of a list of words.
    pub(super) fn words<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Option<Vec<T>> {
        let texts = self.texts(key)?;
        let picked: Vec<_> = texts.iter().map(|text| self.pick(key, text, words)).collect();
        picked.into_iter().collect()
    }

    fn pick<T: Copy>(&self, key: &str, text: &Found<String>, words: &[(&str, T)]) -> Option<T> {
        let found = words.iter().find(|(word, _)| *word == text.value);
        if found.is_none() {
            let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            let message = format!("{:?} is not one of {}", text.value, known.join(", "));
            self.report.add(text.line, &self.path(key), message);
        }
        found.map(|(_, value)| *value)
    }

    fn find(&self, key: &str) -> Option<(Range<usize>, &'a Spanned<DeValue<'a>>)> {
        let mut entries = self.table.iter();
        entries.find(|(name, _)| name.get_ref() == key).map(|(name, value)| (name.span(), value))
    }

    fn table_of(&self, key: &str) -> Option<(Range<usize>, &'a DeTable<'a>)> {
        let (span, value) = self.find(key)?;
        match value.get_ref() {
            DeValue::Table(table) => Some((span, table)),
            _ => {
                self.wrong_type(key, value, "a table", None);
                None
            }
        }
    }

    fn text_of(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        wanted: &str,
    ) -> Option<Found<String>> {
        let line = self.report.line(&value.span());
        match value.get_ref() {
            DeValue::String(text) if text.contains('\0') => {
                self.report.add(line, &self.path(key), "has a NUL character in it");
                None
            }
            DeValue::String(text) => Some(Found { value: text.clone().into_owned(), line }),
            _ => {
                self.wrong_type(key, value, wanted, None);
                None
            }
        }
    }

    fn wrong_type(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        wanted: &str,
        hint: Option<String>,
    ) {
        let line = self.report.line(&value.span());
        let message = format!("it is {} and should be {wanted}", type_name(value.get_ref()));
        let mut problem = self.report.problem(line, &self.path(key), message);
        problem.hint = hint;
        self.report.push(problem);
    }

    fn refuse_unknown(&self, known: &[&str]) {
        for (key, _) in self.table {
            let name = key.get_ref().as_ref();
            if known.contains(&name) {
                continue;
            }
            let hint = unknown_hint(name, known, self.report.sections());
            let line = self.report.line(&key.span());
            self.report.add_with_hint(line, &self.path(name), "unknown key", hint);
        }
    }
}

/// What was probably meant: a near key, the section the key belongs in, or the list of keys.
fn unknown_hint(name: &str, known: &[&str], sections: Sections) -> String {
    if let Some(meant) = suggest::nearest(name, known.iter().copied()) {
        return format!("did you mean {meant}?");
    }
    let elsewhere = sections.iter().find(|(_, keys)| keys.contains(&name));
    match elsewhere {
        Some((section, _)) if section.starts_with("service") => {
            format!("it belongs in [{section}]")
        }
        _ => format!("known here: {}", known.join(", ")),
    }
}

/// What a value is, for people.
fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::health;
    use crate::config::sections::{KEYS, SERVICE};
    use crate::config::settings::STOP_KEYS;

    /// Reads `text` with `read` and gives what it returned and the problems.
    fn check<T>(text: &str, read: impl Fn(&Section<'_>) -> T) -> (T, Vec<String>) {
        let file = Path::new("t.toml");
        let table = DeTable::parse(text).unwrap();
        let report = Report::new(file, text);
        let value = read(&Section::free("", &(0..0), table.get_ref(), &report));
        (value, report.into_problems().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_wrong_type_names_the_one_found() {
        for (text, message) in [
            ("k = 1", "it is a whole number and should be a text"),
            ("k = 1.5", "it is a number with a point and should be a text"),
            ("k = true", "it is true or false and should be a text"),
            ("k = [\"a\"]", "it is a list and should be a text"),
            ("k.a = 1", "it is a table and should be a text"),
            ("k = 2020-01-01", "it is a date and should be a text"),
            ("k = \"a\\u0000b\"", "has a NUL character in it"),
        ] {
            let (value, problems) = check(text, |section| section.text("k"));
            assert_eq!(value, None, "{text}");
            assert_eq!(problems, [format!("t.toml:1: k: {message}")], "{text}");
        }
    }

    #[test]
    fn the_line_is_that_of_the_item() {
        let (value, problems) =
            check("k = [\n  \"a\",\n  7,\n  8,\n]", |section| section.texts("k"));
        assert_eq!(value, None);
        let message = "k: it is a whole number and should be a text in this list";
        assert_eq!(problems, [format!("t.toml:3: {message}"), format!("t.toml:4: {message}")]);
    }

    #[test]
    fn a_bare_string_or_number_is_answered_with_the_right_spelling() {
        let (_, problems) = check("k = \"./web\"", |section| section.texts("k"));
        assert!(
            problems[0].ends_with("should be a list of texts; write [\"./web\"]"),
            "{problems:?}"
        );
        let (_, problems) = check("k = 5", |section| section.duration("k"));
        assert!(problems[0].ends_with("should be a duration; write \"5s\""), "{problems:?}");
        let (_, problems) = check("k = false", |section| section.flag("k"));
        assert!(problems[0].ends_with("can only be true; leave it out"), "{problems:?}");
    }

    #[test]
    fn numbers_stay_between_their_bounds() {
        for (text, expected) in [
            ("k = 1", Some(1)),
            ("k = 0x40", Some(64)),
            ("k = 64", Some(64)),
            ("k = 6_4", Some(64)),
        ] {
            assert_eq!(check(text, |section| section.number("k", 1, 64)).0, expected, "{text}");
        }
        for text in ["k = 0", "k = -1", "k = 65", "k = 99999999999999999999999"] {
            let (value, problems) = check(text, |section| section.number("k", 1, 64));
            assert_eq!(value, None, "{text}");
            assert!(problems[0].ends_with("is not between 1 and 64"), "{problems:?}");
        }
    }

    #[test]
    fn an_unknown_key_is_answered_by_what_was_meant() {
        for (key, known, hint) in [
            ("intervall", health::KEYS, "did you mean interval?"),
            ("rise", SERVICE, "it belongs in [service.NAME.health]"),
            ("colour", STOP_KEYS, "known here: signal, signal_to, linger, drain, timeout"),
        ] {
            assert_eq!(unknown_hint(key, known, KEYS), hint);
        }
    }
}
