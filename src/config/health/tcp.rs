//! `tcp = true`.

use super::super::kinds::Kind;
use super::super::raw::Section;

pub(super) const KIND: Kind = Kind::new("tcp", &["tcp"]).through_listener();

pub(super) fn read(section: &Section<'_>) -> Option<()> {
    section.flag("tcp").map(|found| found.value)
}
