//! JSON of the values that Halley writes and reads.
//!
//! A derived `Deserialize` is compiled once for each reader that it is used with, and once more inside
//! of a tagged enum, where serde first collects what it cannot name yet: half a megabyte of the binary.
//! So there is one reader, of values that were parsed before, and one writer. Both know two kinds of
//! names, which serde's own attributes would need those collections for:
//!
//! - An enum that is renamed to `tag:KEY` is an object: its variant is the value of that key, and its
//!   fields stand beside (`#[serde(tag = "KEY")]`).
//! - A field that is renamed to `flat:` or `flat:NAME` stands in its parent's object (`#[serde(flatten)]`).
//!
//! It must never know what it reads or writes.

mod read;
#[cfg(test)]
mod tests;
mod write;

use std::io::{self, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Error, Value};

/// What the name of a tagged enum begins with.
const TAG: &str = "tag:";
/// What the name of a flat field begins with.
const FLAT: &str = "flat:";

/// Reads a value.
///
/// # Errors
/// It is no JSON, or not of this type.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    from_value(serde_json::from_slice(bytes)?)
}

/// Reads a value that is parsed.
///
/// # Errors
/// It is not of this type.
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    T::deserialize(read::Reader(value))
}

/// A value on one line.
///
/// # Errors
/// It cannot be written as JSON, such as a path that is no UTF-8.
pub fn to_vec(value: &impl Serialize) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    value.serialize(&mut write::Writer::new(&mut bytes, false))?;
    Ok(bytes)
}

/// A value on several lines, indented.
///
/// # Errors
/// As [`to_vec`].
pub fn to_vec_pretty(value: &impl Serialize) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    value.serialize(&mut write::Writer::new(&mut bytes, true))?;
    Ok(bytes)
}

/// Writes a value to a file, piece by piece, on several lines.
///
/// # Errors
/// As [`to_vec`], and the file's.
pub fn to_writer_pretty(file: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    let mut writer = write::Writer::new(file, true);
    value.serialize(&mut writer).map_err(|error| writer.failed.take().unwrap_or(error.into()))
}

/// [`to_vec`] as text.
///
/// # Errors
/// As [`to_vec`].
pub fn to_string(value: &impl Serialize) -> Result<String, Error> {
    Ok(String::from_utf8_lossy(&to_vec(value)?).into_owned())
}

/// A value, parsed.
///
/// # Errors
/// As [`to_vec`].
pub fn to_value(value: &impl Serialize) -> Result<Value, Error> {
    serde_json::from_slice(&to_vec(value)?)
}
