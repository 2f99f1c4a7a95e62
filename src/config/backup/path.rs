//! The path of a database or of a tree of files.

use std::path::{Component, Path, PathBuf};

use super::super::raw::Section;

/// A path below `shared/`, or an absolute one.
pub(super) fn read(section: &Section<'_>) -> Option<PathBuf> {
    if !section.has("path") {
        section.problem_with_hint("path", "is missing", "a path below shared/, or an absolute one");
        return None;
    }
    let text = section.text("path")?.value;
    let path = PathBuf::from(&text);
    let climbs = path.components().any(|part| part == Component::ParentDir);
    if text.is_empty() || climbs || text.contains(['\'', '"', '\n']) {
        section.problem("path", format!("{text:?} is not a path without .., quotes and new lines"));
        return None;
    }
    if path == Path::new("/") {
        section.problem("path", "must not be the root directory");
        return None;
    }
    Some(path)
}
