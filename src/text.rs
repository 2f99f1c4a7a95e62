//! Values as text for people: sizes, spans of time, the system's errors.
//!
//! Nothing else: text about Halley's own nouns is with those nouns.

use std::io;
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

/// The time between two ticks, in seconds with one decimal: `2.4 s`.
#[must_use]
pub fn seconds(from: Tick, to: Tick) -> String {
    let ms = to.since_ms(from);
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
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
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
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
    fn seconds_have_one_decimal() {
        assert_eq!(seconds(Tick(1_000), Tick(3_449)), "2.4 s");
    }

    #[test]
    fn a_system_error_is_part_of_a_sentence() {
        let error = io::Error::from_raw_os_error(libc::ENOENT);
        assert_eq!(system_error(&error), "no such file or directory");
    }
}
