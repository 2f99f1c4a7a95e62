//! What a program reports of itself at `/metrics`: Prometheus' text format, version 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
//!
//! A line is `name{label="value",…} number [timestamp]`, or begins with `#`, or is empty. A text
//! with any other line is refused as a whole: half a reading is none.

use std::borrow::Cow;

/// Why a text is not in this format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is not in Prometheus' text format")]
pub struct BadLine {
    /// Counted from 1.
    pub line: usize,
}

/// One number with its name and labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Series<'a> {
    /// The metric's name.
    pub name: &'a str,
    /// Names and values of its labels.
    pub labels: Vec<(&'a str, Cow<'a, str>)>,
    /// Its number.
    pub value: f64,
}

impl Series<'_> {
    /// A label's value; one that is not there is empty.
    #[must_use]
    pub fn label(&self, name: &str) -> &str {
        let found = self.labels.iter().find(|(label, _)| *label == name);
        found.map_or("", |(_, value)| value.as_ref())
    }
}

/// All numbers of a text, one after another.
pub fn parse(text: &str) -> impl Iterator<Item = Result<Series<'_>, BadLine>> {
    let lines = (1..).zip(text.lines().map(str::trim));
    let said = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    said.map(|(line, text)| series(text).ok_or(BadLine { line }))
}

fn series(line: &str) -> Option<Series<'_>> {
    let (name, rest) = split_name(line, ":")?;
    let mut labels = Vec::new();
    let mut rest = rest.trim_start();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside.trim_start();
        loop {
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            let (label, after) = split_name(rest, "")?;
            let after = after.trim_start().strip_prefix('=')?.trim_start();
            let (value, after) = quoted(after)?;
            labels.push((label, value));
            let after = after.trim_start();
            // The last label may have a comma behind it.
            rest = match after.strip_prefix(',') {
                Some(next) => next.trim_start(),
                None if after.starts_with('}') => after,
                None => return None,
            };
        }
    }
    let mut words = rest.split_ascii_whitespace();
    let value = number(words.next()?)?;
    let has_timestamp = words.next().is_none_or(|word| word.parse::<i64>().is_ok());
    (has_timestamp && words.next().is_none()).then_some(Series { name, labels, value })
}

/// A name at the start of a text, and what follows it.
pub fn split_name<'a>(text: &'a str, more: &str) -> Option<(&'a str, &'a str)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || more.contains(c);
    let end = text.find(|c| !is_name(c)).unwrap_or(text.len());
    let begins_well = text.starts_with(|c: char| !c.is_ascii_digit());
    (end > 0 && begins_well).then(|| text.split_at(end))
}

/// A quoted text at the start of a text, and what follows it. `\\`, `\"` and `\n` are one
/// character; a backslash before any other stands for itself.
pub fn quoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let inside = text.strip_prefix('"')?;
    let stop = inside.find(['"', '\\'])?;
    if inside[stop..].starts_with('"') {
        return Some((Cow::Borrowed(&inside[..stop]), &inside[stop + 1..]));
    }
    let mut value = inside[..stop].to_owned();
    let mut chars = inside[stop..].char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((Cow::Owned(value), &inside[stop + at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                c @ ('"' | '\\') => value.push(c),
                other => value.extend(['\\', other]),
            },
            _ => value.push(c),
        }
    }
    None
}

fn number(text: &str) -> Option<f64> {
    // Rust reads Inf, +Inf, -Inf, NaN in any case, as Go does; and nothing that Go would not.
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_programs_write() {
        let text = "# HELP http_requests_total The total.\n# TYPE http_requests_total counter\n\
            http_requests_total{method=\"post\",code=\"200\"} 1027 1395066363000\n\
            http_requests_total{method=\"post\",code=\"400\",}    3\n\n\
            msdos_file_access_time_seconds{path=\"C:\\\\DIR\\\\FILE.TXT\",error=\"no:\\n\\\"F\\\"\"} \
            1.458255915e9\n\
            metric_without_timestamp_and_labels 12.47\n\
            something_weird{problem=\"division by zero\"} +Inf -3982045\n\
            a:b { x = \"}\" } 1e-3\n";
        let all: Vec<_> = parse(text).collect::<Result<_, _>>().unwrap();
        assert_eq!(all.len(), 6);
        assert_eq!((all[0].name, all[0].label("code")), ("http_requests_total", "200"));
        assert_eq!(all[0].label("none"), "");
        assert!((all[0].value - 1027.0).abs() < 1e-9);
        assert_eq!(all[2].label("path"), "C:\\DIR\\FILE.TXT");
        assert_eq!(all[2].label("error"), "no:\n\"F\"");
        assert!(all[4].value.is_infinite());
        assert_eq!((all[5].name, all[5].label("x")), ("a:b", "}"));
    }

    #[test]
    fn anything_else_is_refused_with_its_line() {
        for text in [
            "<html>",
            "a",
            "a b",
            "1a 2",
            "a{ 1",
            "a{b} 1",
            "a{b=c} 1",
            "a{b=\"c} 1",
            "a{b=\"c\" d=\"e\"} 1",
            "a{b=\"c\\",
            "a 1 2 3",
            "a 1 x",
            "{a=\"b\"} 1",
        ] {
            let text = format!("ok 1\n{text}");
            let last = parse(&text).last().unwrap();
            assert_eq!(last, Err(BadLine { line: 2 }), "{text}");
        }
    }
}
