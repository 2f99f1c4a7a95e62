//! Names of users, groups and hosts: from files and DNS alone (nsswitch.conf(5)). Every other source is a
//! library of the system's C library, and loaded into a static binary, which has its own, it ends the
//! process.

use std::ffi::{CStr, c_char, c_int};

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
