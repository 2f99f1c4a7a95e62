//! `driver = "command"`.

use std::path::PathBuf;

use super::super::kinds::Kind;
use super::super::raw::Section;
use super::path;

pub(super) const KIND: Kind = Kind::new("command", &["take", "restore", "check", "paths"]);

/// Anything else, by commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Fills `HALLEY_BACKUP_DIR`.
    pub take: Vec<String>,
    /// Brings it to `HALLEY_SHARED`.
    pub restore: Vec<String>,
    /// Checks that the data in `HALLEY_SHARED` is intact.
    pub check: Option<Vec<String>>,
    /// What `restore` fills; empty: `shared/`.
    pub paths: Vec<PathBuf>,
}

pub(super) fn read(section: &Section<'_>) -> Option<Command> {
    let words = |key: &str| {
        if !section.has(key) {
            section.problem(key, "is missing");
        }
        section.command(key)
    };
    let (take, restore) = (words("take"), words("restore"));
    let check = section.command("check");
    let paths = path::read_several(section);
    Some(Command { take: take?, restore: restore?, check, paths: paths? })
}
