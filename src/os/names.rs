//! Names of users, groups and hosts: from files and DNS alone (nsswitch.conf(5)). Every other source is a
//! library of the system's C library, and loaded into a static binary, which has its own, it ends the
//! process.

use std::ffi::{CStr, c_char, c_int};

use serde::{Deserialize, Serialize};

/// The databases, and the sources that the C library has within itself (glibc 2.34).
const SOURCES: [(&CStr, &CStr); 4] = [
    (c"passwd", c"files"),
    (c"group", c"files"),
    (c"initgroups", c"files"),
    (c"hosts", c"files dns"),
];

#[cfg(target_env = "gnu")]
unsafe extern "C" {
    /// Of `<nss.h>`: takes the place of a database's line in `/etc/nsswitch.conf`; 0 or -1.
    fn __nss_configure_lookup(database: *const c_char, sources: *const c_char) -> c_int;
}

/// Begins a process: before its first thread, and before the first name is looked up.
#[cfg(target_env = "gnu")]
pub fn begin() {
    for (database, sources) in SOURCES {
        // SAFETY: both are C strings that live for ever; no other thread runs yet. It fails for an unknown
        // database alone, which these are not.
        unsafe { __nss_configure_lookup(database.as_ptr(), sources.as_ptr()) };
    }
}

/// Another C library has no such libraries.
#[cfg(not(target_env = "gnu"))]
pub fn begin() {}

/// The user a program runs as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchUser {
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// A user with all groups, `None` when there is none of that name.
#[must_use]
pub fn user(name: &str) -> Option<LaunchUser> {
    let user = nix::unistd::User::from_name(name).ok().flatten()?;
    let text = std::ffi::CString::new(name).ok()?;
    let groups = nix::unistd::getgrouplist(&text, user.gid).ok()?;
    let groups = groups.into_iter().map(nix::unistd::Gid::as_raw).collect();
    Some(LaunchUser { uid: user.uid.as_raw(), gid: user.gid.as_raw(), groups })
}

/// The user that this process runs as.
#[must_use]
pub fn own_user() -> LaunchUser {
    let groups = rustix::process::getgroups().unwrap_or_default();
    LaunchUser {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        groups: groups.into_iter().map(rustix::process::Gid::as_raw).collect(),
    }
}

/// The number of a group, `None` when there is none of that name.
#[must_use]
pub fn group(name: &str) -> Option<u32> {
    let group = nix::unistd::Group::from_name(name).ok().flatten()?;
    Some(group.gid.as_raw())
}

/// What a program expects to know of the user that it runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The user's name.
    pub name: String,
    /// The home directory.
    pub home: String,
    /// The login shell.
    pub shell: String,
}

/// The account of a user, or of the user that this process runs as. `None` when there is none.
#[must_use]
pub fn account(name: Option<&str>) -> Option<Account> {
    let user = match name {
        Some(name) => nix::unistd::User::from_name(name),
        None => nix::unistd::User::from_uid(nix::unistd::geteuid()),
    };
    let user = user.ok().flatten()?;
    Some(Account {
        name: user.name,
        home: user.dir.to_string_lossy().into_owned(),
        shell: user.shell.to_string_lossy().into_owned(),
    })
}
