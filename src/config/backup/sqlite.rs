//! `driver = "sqlite"`.

use std::path::PathBuf;

use super::super::kinds::Kind;
use super::super::raw::Section;
use super::path;

pub(super) const KIND: Kind = Kind::new("sqlite", &["path", "query"]);

/// A SQLite database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sqlite {
    /// Its file.
    pub path: PathBuf,
    /// Must say something on a restored copy.
    pub query: Option<String>,
}

pub(super) fn read(section: &Section<'_>) -> Option<Sqlite> {
    let query = section.text("query").map(|found| found.value);
    Some(Sqlite { path: path::read(section)?, query })
}
