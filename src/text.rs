//! Values as text for people: sizes, spans of time, the system's errors.
//!
//! Nothing else: text about Halley's own nouns is with those nouns.

use std::fmt::Display;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::core::time::Tick;

/// A size in the units that people use: `18.2 MB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// A number of things, with the noun as the number asks: `1 service`, `2 services`.
#[must_use]
pub fn count(n: impl Display, noun: &str) -> String {
    let n = n.to_string();
    match (n.as_str(), noun.strip_suffix('y')) {
        ("1", _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{n} {stem}ies"),
        (_, None) if noun.ends_with('s') => format!("{n} {noun}es"),
        (_, None) => format!("{n} {noun}s"),
    }
}

/// A text whose control characters are shown as escapes: none of them reaches a terminal.
#[must_use]
pub fn in_one_line(text: &str) -> String {
    let shown = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(shown).collect()
}

/// A path in one line: in quotes and escaped when its name could be mistaken for something else.
#[must_use]
pub fn path(path: &Path) -> String {
    match path.to_str().filter(|text| !text.contains(char::is_control)) {
        Some(text) => text.to_owned(),
        None => format!("{path:?}"),
    }
}

/// The first of a long list, and how many more there are.
#[must_use]
pub fn first_of(all: &[String], n_shown: usize) -> String {
    let shown = all.get(..n_shown).unwrap_or(all).join(", ");
    match all.len().saturating_sub(n_shown) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// A phase for people: `rehearse_old` is `rehearse old`. On the way back the rung is shown where
/// there is a choice: `back_gate:0` is `rollback gate`, `back_gate:1` is `rollback gate 1`.
#[must_use]
pub fn phase(name: &str) -> String {
    let name = name.strip_prefix("back_").map_or(name.to_owned(), |rest| {
        format!("rollback {}", rest.strip_suffix(":0").unwrap_or(rest))
    });
    name.replace(['_', ':'], " ")
}

/// The time between two ticks: [`tenths`].
#[must_use]
pub fn seconds(from: Tick, to: Tick) -> String {
    tenths(to.since_ms(from))
}

/// Milliseconds as seconds with one decimal, rounded down: `2.4 s`.
#[must_use]
pub fn tenths(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}

/// Milliseconds as whole seconds, rounded down: `2 s`.
#[must_use]
pub fn whole_seconds(ms: u64) -> String {
    format!("{} s", ms / 1000)
}

/// How long something took, in the unit that suits it: `812 ms`, `12.3 s`.
#[must_use]
pub fn took(ms: u64) -> String {
    if ms < 10_000 { format!("{ms} ms") } else { tenths(ms) }
}

/// Milliseconds with one decimal, for latencies: `3.2 ms`.
#[must_use]
pub fn latency(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}

/// How long ago something was, in its greatest unit: `90 s ago`, `5 min ago`.
#[must_use]
pub fn ago(age: Duration) -> String {
    format!("{} ago", self::age(age))
}

/// How long something is, in its two or three leading digits: `3 h`.
#[must_use]
pub fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Whole milliseconds of a duration; the greatest number when there are more.
#[must_use]
pub fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The system's error without its number, for the middle of a sentence.
#[must_use]
pub fn system_error(error: &io::Error) -> String {
    let text = error.to_string();
    let mut text = text.split(" (os error").next().unwrap_or_default().to_owned();
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_unit_people_use() {
        for (bytes, text) in
            [(0, "0 B"), (999, "999 B"), (1_500, "1.5 kB"), (18_200_000, "18.2 MB")]
        {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn one_thing_is_singular() {
        for (n, noun, text) in [
            (0, "service", "0 services"),
            (1, "service", "1 service"),
            (2, "service", "2 services"),
            (1, "process", "1 process"),
            (2, "process", "2 processes"),
            (2, "entry", "2 entries"),
            (11, "good probe", "11 good probes"),
        ] {
            assert_eq!(count(n, noun), text);
        }
    }

    #[test]
    fn a_phase_is_in_words() {
        for (name, text) in [
            ("bake", "bake"),
            ("rehearse_old", "rehearse old"),
            ("hook:before_flip", "hook before flip"),
            ("back_gate:0", "rollback gate"),
            ("back_verify:2", "rollback verify 2"),
        ] {
            assert_eq!(phase(name), text);
        }
    }

    #[test]
    fn seconds_have_one_decimal() {
        assert_eq!(seconds(Tick(1_000), Tick(3_449)), "2.4 s");
        assert_eq!((tenths(99).as_str(), tenths(61_960).as_str()), ("0.0 s", "61.9 s"));
    }

    #[test]
    fn whole_seconds_are_rounded_down() {
        assert_eq!((whole_seconds(999).as_str(), whole_seconds(61_999).as_str()), ("0 s", "61 s"));
    }

    #[test]
    fn what_took_long_is_in_seconds() {
        for (ms, text) in [(0, "0 ms"), (9_999, "9999 ms"), (10_000, "10.0 s"), (12_345, "12.3 s")]
        {
            assert_eq!(took(ms), text);
        }
    }

    #[test]
    fn latencies_have_one_decimal() {
        assert_eq!(latency(Duration::from_micros(3_240)), "3.2 ms");
        assert_eq!(latency(Duration::ZERO), "0.0 ms");
    }

    #[test]
    fn ages_are_in_their_greatest_unit() {
        for (seconds, text) in [
            (0, "0 s ago"),
            (119, "119 s ago"),
            (120, "2 min ago"),
            (7_199, "119 min ago"),
            (7_200, "2 h ago"),
            (172_800, "2 days ago"),
        ] {
            assert_eq!(ago(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn milliseconds_never_overflow() {
        assert_eq!((ms(Duration::from_micros(1_999)), ms(Duration::MAX)), (1, u64::MAX));
    }

    #[test]
    fn a_system_error_is_part_of_a_sentence() {
        let error = io::Error::from_raw_os_error(libc::ENOENT);
        assert_eq!(system_error(&error), "no such file or directory");
    }
}
