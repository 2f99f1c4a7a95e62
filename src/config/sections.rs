//! Every section of a configuration with its keys. A section that is read in a file of its own has
//! its keys there.

use super::{backup, bake, data, health, hooks, limits, notify, proxy, settings, takeover};

/// Every key that is understood, by section. The first section is the top of `halley.toml`.
pub const KEYS: &[(&str, &[&str])] = &[
    ("", TOP),
    ("service.NAME", SERVICE),
    ("service.NAME.health", health::KEYS),
    ("service.NAME.bake", bake::KEYS),
    ("service.NAME.bake.metrics", bake::METRICS_KEYS),
    ("service.NAME.keep", KEEP),
    ("service.NAME.log", LOG),
    ("service.NAME.stop", settings::STOP_KEYS),
    ("service.NAME.limits", limits::KEYS),
    ("service.NAME.hooks", hooks::KEYS),
    ("service.NAME.forward", takeover::FORWARD_KEYS),
    ("service.NAME.proxy", proxy::KEYS),
    ("service.NAME.migrate", data::MIGRATE_KEYS),
    ("service.NAME.backup", backup::KEYS),
    ("release.toml.schema", data::SCHEMA_KEYS),
    ("release.toml", RELEASE),
    ("notify.NAME", notify::KEYS),
];

pub(super) const TOP: &[&str] = &["root", "socket", "service", "notify"];
pub(super) const SERVICE: &[&str] = &[
    "listen",
    "handoff",
    "strategy",
    "canary",
    "max_gap",
    "socket_mode",
    "socket_owner",
    "command",
    "user",
    "group",
    "groups",
    "limits",
    "instances",
    "after",
    "env",
    "env_file",
    "backlog",
    "kept",
    "artifact_max",
    "links",
    "writable",
    "absolute_links",
    "pin",
    "health",
    "bake",
    "keep",
    "log",
    "stop",
    "hooks",
    "forward",
    "proxy",
    "rehearse",
    "rehearse_connect",
    "rehearse_write",
    "drill",
    "restart",
    "on_crash_loop",
    "on_unhealthy",
    "migrate",
    "backup",
];
pub(super) const KEEP: &[&str] = &["releases", "standby"];
pub(super) const LOG: &[&str] = &["full"];
pub(super) const RELEASE: &[&str] =
    &["version", "command", "env", "health", "stop", "migrate", "schema", "hooks"];
