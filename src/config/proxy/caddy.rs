//! `kind = "caddy"`.

use super::super::kinds::Kind;
use super::super::raw::Section;
use super::fields::{self, Admin};

pub(super) const KIND: Kind = Kind::new("caddy", &["admin", "id"]);

/// Caddy's admin API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caddy {
    /// Where it listens.
    pub admin: Admin,
    /// The `@id` of the `reverse_proxy` handler.
    pub id: String,
}

pub(super) fn read(section: &Section<'_>) -> Option<Caddy> {
    let needed = [("admin", "\"http://127.0.0.1:2019\""), ("id", "\"web\"")];
    fields::require(section, KIND.name, &needed);
    let (admin, id) = (fields::admin(section, "http://"), fields::name(section, "id"));
    Some(Caddy { admin: admin?, id: id? })
}
