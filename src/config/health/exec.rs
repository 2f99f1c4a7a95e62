//! `exec = ["./check"]`.

use super::super::kinds::Kind;
use super::super::raw::Section;

pub(super) const KIND: Kind = Kind::new("exec", &["exec"]);

pub(super) fn read(section: &Section<'_>) -> Option<Vec<String>> {
    section.command("exec")
}
