//! JSON objects that end with a checksum of themselves: a line of a journal, so that half a line is known
//! from a whole one, and the state, so that a disk that has changed a digit is found out.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::json;

const SUM: &str = ",\"crc\":\"";
/// The same in a pretty text of several lines.
const PRETTY_SUM: &str = ",\n  \"sum\": \"";

/// The line of a value.
///
/// # Errors
/// When it is no JSON.
pub(super) fn print(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut text = json::to_string(value)?;
    let sum = checksum(text.as_bytes());
    text.truncate(text.len() - 1);
    Ok(format!("{text}{SUM}{sum:08x}\"}}\n").into_bytes())
}

/// A line's value, `None` when it is not what was written. Of a whole line behind half a one, which
/// earlier versions wrote after a full disk had let only half of it through, it is the whole one's.
pub(super) fn parse<T: DeserializeOwned>(line: &str) -> Option<T> {
    let starts = line.match_indices("{\"at\":").map(|(at, _)| at);
    let mut parts = std::iter::once(0).chain(starts).map(|at| &line[at..]);
    json::from_slice(parts.find_map(content)?.as_bytes()).ok()
}

/// Whether all of a line is what was written.
pub(super) fn is_whole(line: &str) -> bool {
    content(line).is_some()
}

/// Whether a line lacks its end.
pub(super) fn is_half(line: &str) -> bool {
    summed(line).is_none()
}

/// Up to where a text of lines is to be gone on with: the end of the last one that was written whole.
pub(super) fn whole_bytes(text: &[u8]) -> usize {
    let ends = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    let whole = ends.scan(0, |from, end| {
        let line = std::str::from_utf8(&text[std::mem::replace(from, end)..end - 1]);
        Some((end, line.is_ok_and(|line| parse::<serde_json::Value>(line).is_some())))
    });
    whole.filter(|(_, is_whole)| *is_whole).last().map_or(0, |(end, _)| end)
}

/// What a line says, when it is what was written.
fn content(line: &str) -> Option<String> {
    let (body, sum) = summed(line)?;
    let text = format!("{body}}}");
    (checksum(text.as_bytes()) == sum).then_some(text)
}

fn summed(line: &str) -> Option<(&str, u32)> {
    let (body, tail) = line.rsplit_once(SUM)?;
    Some((body, u32::from_str_radix(tail.strip_suffix("\"}")?, 16).ok()?))
}

/// A pretty object with its checksum.
pub(super) fn sealed(mut text: String) -> String {
    let sum = checksum(text.as_bytes());
    text.truncate(text.len() - "\n}".len());
    format!("{text}{PRETTY_SUM}{sum:08x}\"\n}}")
}

/// Whether a pretty object is what was written. One without a checksum is of an earlier version.
pub(super) fn is_sealed(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let Some((body, tail)) = text.trim_end().rsplit_once(PRETTY_SUM) else { return true };
    let sum = tail.strip_suffix("\"\n}").and_then(|sum| u32::from_str_radix(sum, 16).ok());
    sum == Some(checksum(format!("{body}\n}}").as_bytes()))
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}
