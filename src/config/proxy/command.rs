//! `kind = "command"`.

use super::super::kinds::Kind;
use super::super::raw::Section;
use super::fields;

pub(super) const KIND: Kind = Kind::new("command", &["flip", "check"]);

/// Any other proxy, by command; upstreams are in `HALLEY_UPSTREAMS` (space-separated) and for
/// `{upstreams}` in its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Points the proxy at the upstreams.
    pub flip: Vec<String>,
    /// Checks that the flip succeeded.
    pub check: Option<Vec<String>>,
}

pub(super) fn read(section: &Section<'_>) -> Option<Command> {
    let example = "[\"/usr/local/bin/flip\", \"{upstreams}\"]";
    fields::require(section, KIND.name, &[("flip", example)]);
    let (flip, check) = (section.command("flip"), section.command("check"));
    if section.has("check") && check.is_none() {
        return None;
    }
    Some(Command { flip: flip?, check })
}
