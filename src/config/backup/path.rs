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
    of(section, "path", &text)
}

/// The same of the key `paths`; none where it is not there.
pub(super) fn read_several(section: &Section<'_>) -> Option<Vec<PathBuf>> {
    if !section.has("paths") {
        return Some(Vec::new());
    }
    let texts = section.texts("paths")?;
    texts.iter().map(|text| of(section, "paths", &text.value)).collect()
}

fn of(section: &Section<'_>, key: &str, text: &str) -> Option<PathBuf> {
    let path = PathBuf::from(text);
    let climbs = path.components().any(|part| part == Component::ParentDir);
    if text.is_empty() || climbs || text.contains(['\'', '"', '\n']) {
        section.problem(key, format!("{text:?} is not a path without .., quotes and new lines"));
        return None;
    }
    if path == Path::new("/") {
        section.problem(key, "must not be the root directory");
        return None;
    }
    Some(path)
}
