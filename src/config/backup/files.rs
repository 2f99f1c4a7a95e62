//! `driver = "files"`.

use std::path::PathBuf;

use super::super::kinds::Kind;
use super::super::raw::Section;
use super::path;

pub(super) const KIND: Kind = Kind::new("files", &["path"]);

/// A tree of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Its top.
    pub path: PathBuf,
}

pub(super) fn read(section: &Section<'_>) -> Option<Files> {
    Some(Files { path: path::read(section)? })
}
