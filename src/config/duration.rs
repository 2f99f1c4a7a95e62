//! Durations as people write them: `500ms`, `30s`, `15m`, `2h`, `7d`; `0` and `off` are none.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer};

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a duration: {0:?} (write 500ms, 30s, 15m, 2h or 7d)")]
pub struct BadDuration(pub String);

/// Reads `500ms`, `30s`, `15m`, `2h`, `7d`, `0`, `off`.
///
/// # Errors
/// [`BadDuration`] when it is none of these or does not fit.
pub fn parse(text: &str) -> Result<Duration, BadDuration> {
    let bad = || BadDuration(text.to_owned());
    if text == "0" || text == "off" {
        return Ok(Duration::ZERO);
    }
    let n_digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(n_digits);
    let number: u64 = number.parse().map_err(|_| bad())?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(bad()),
    };
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(bad)
}

/// Writes the shortest form that [`parse`] reads back.
#[must_use]
pub fn print(duration: Duration) -> String {
    let ms = duration.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let whole = units.iter().find(|(unit_ms, _)| ms > 0 && ms.is_multiple_of(*unit_ms));
    match whole {
        Some((unit_ms, name)) => format!("{}{name}", ms / unit_ms),
        None => format!("{ms}ms"),
    }
}

/// For `#[serde(with = ...)]`.
///
/// # Errors
/// The serializer's.
pub fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&print(*duration))
}

/// For `#[serde(with = ...)]`.
///
/// # Errors
/// The deserializer's, and [`BadDuration`].
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    parse(&text).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_unit_and_writes_the_shortest_back() {
        for (text, ms) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("15m", 900_000),
            ("2h", 7_200_000),
            ("7d", 604_800_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)));
            assert_eq!(print(Duration::from_millis(ms)), text);
        }
        assert_eq!(parse("off"), Ok(Duration::ZERO));
        assert_eq!(parse(&print(Duration::ZERO)), Ok(Duration::ZERO));
    }

    #[test]
    fn refuses_what_has_no_unit_or_does_not_fit() {
        for text in
            ["", "5", "s", "-1s", "1.5s", "1 s", "99999999999999999999s", "9999999999999999d"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
