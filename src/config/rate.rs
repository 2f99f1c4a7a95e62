//! Rates as people write them: `1/s`, `30/m`, `5/h`, `10/30s`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer};

use super::duration;
use crate::core::analysis::rate::Rate;

/// Why a text is not a rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a rate: {0:?} (write 1/s, 30/m or 10/30s)")]
pub struct BadRate(pub String);

/// Reads a whole number, `/`, and a unit or a duration that is not zero.
///
/// # Errors
/// [`BadRate`] when it is none of these.
pub fn parse(text: &str) -> Result<Rate, BadRate> {
    let bad = || BadRate(text.to_owned());
    let (n, per) = text.split_once('/').ok_or_else(bad)?;
    let is_number = n.bytes().all(|byte| byte.is_ascii_digit());
    let n = Some(n).filter(|_| is_number).and_then(|n| n.parse().ok()).ok_or_else(bad)?;
    let is_unit = per.starts_with(|c: char| c.is_ascii_lowercase()) && per != "off";
    let per = if is_unit { format!("1{per}") } else { per.to_owned() };
    let per = duration::parse(&per).map_err(|_| bad())?;
    let per_ms = u64::try_from(per.as_millis()).map_err(|_| bad())?;
    if per_ms == 0 { Err(bad()) } else { Ok(Rate { n, per_ms }) }
}

/// Writes the form that [`parse`] reads back.
#[must_use]
pub fn print(rate: Rate) -> String {
    let per = duration::print(Duration::from_millis(rate.per_ms));
    let unit = per.strip_prefix('1').filter(|unit| unit.starts_with(|c: char| !c.is_ascii_digit()));
    format!("{}/{}", rate.n, unit.unwrap_or(&per))
}

/// For `#[serde(with = ...)]`.
///
/// # Errors
/// The serializer's.
pub fn serialize<S: Serializer>(rate: &Rate, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&print(*rate))
}

/// For `#[serde(with = ...)]`.
///
/// # Errors
/// The deserializer's, and [`BadRate`].
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Rate, D::Error> {
    let text = String::deserialize(from)?;
    parse(&text).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_the_shortest_is_written() {
        for (text, n, per_ms, printed) in [
            ("1/s", 1, 1000, "1/s"),
            ("30/m", 30, 60_000, "30/m"),
            ("0/h", 0, 3_600_000, "0/h"),
            ("10/30s", 10, 30_000, "10/30s"),
            ("2/15s", 2, 15_000, "2/15s"),
            ("7/1500ms", 7, 1500, "7/1500ms"),
            ("1/60s", 1, 60_000, "1/m"),
        ] {
            assert_eq!(parse(text), Ok(Rate { n, per_ms }), "{text}");
            assert_eq!(print(Rate { n, per_ms }), printed);
            assert_eq!(parse(printed), Ok(Rate { n, per_ms }));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "1", "/s", "1/", "-1/s", "+1/s", "1.5/s", "1/0s", "1/off", "1/0", "1/x"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
