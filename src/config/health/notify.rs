//! `notify = true`.

use super::super::kinds::Kind;
use super::super::raw::Section;

pub(super) const KIND: Kind = Kind::new("notify", &["notify"]);

pub(super) fn read(section: &Section<'_>) -> Option<()> {
    section.flag("notify").map(|found| found.value)
}
