//! `kind = "haproxy"`.

use super::super::kinds::Kind;
use super::super::raw::Section;
use super::fields::{self, Admin};

pub(super) const KIND: Kind = Kind::new("haproxy", &["admin", "backend", "server"]);

/// HAProxy's runtime API; servers `server` (one instance) or `server1`, `server2`, … of `backend`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HaProxy {
    /// Where it listens.
    pub admin: Admin,
    /// The backend's name.
    pub backend: String,
    /// The servers' name.
    pub server: String,
}

pub(super) fn read(section: &Section<'_>) -> Option<HaProxy> {
    let needed = [
        ("admin", "\"unix:/run/haproxy/admin.sock\""),
        ("backend", "\"web\""),
        ("server", "\"web\""),
    ];
    fields::require(section, KIND.name, &needed);
    let admin = fields::admin(section, "tcp://");
    let (backend, server) = (fields::name(section, "backend"), fields::name(section, "server"));
    Some(HaProxy { admin: admin?, backend: backend?, server: server? })
}
