//! What keeps a rehearsed program from other processes and from the host, beside its mounts: a domain of
//! Landlock (`landlock(7)`) and fewer rights (`capabilities(7)`).

use std::fs;
use std::io;
use std::path::PathBuf;

use landlock::{
    ABI, AccessFs, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
    path_beneath_rules,
};
use rustix::io::Errno;
use rustix::process::geteuid;
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};

use crate::os::isolate::{Failed, Isolation, SHARED_MEMORY, step};

/// The newest rights that are asked for; an older kernel enforces those that it knows.
const LANDLOCK: ABI = ABI::V5;

/// Devices are not what is kept apart.
const DEVICES: &str = "/dev";

/// What root needs for files, users, ports and limits of its own.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::IPC_LOCK)
    .union(CapabilitySet::IPC_OWNER)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::SYS_NICE)
    .union(CapabilitySet::SYS_RESOURCE)
    .union(CapabilitySet::AUDIT_WRITE);

/// Lets this process write below these directories alone, and keeps it from the processes outside,
/// for ever and with all its descendants ([`set_apart`]; Linux 5.13).
///
/// # Errors
/// When the kernel does not enforce it.
pub fn write_below(dirs: &[PathBuf]) -> Result<(), Failed> {
    match step(restrict(dirs, true), || "restricting writes (Landlock)".to_owned())? {
        RulesetStatus::NotEnforced => Err(Failed {
            step: "restricting writes".to_owned(),
            error: io::Error::other("this kernel has no Landlock"),
        }),
        RulesetStatus::PartiallyEnforced | RulesetStatus::FullyEnforced => Ok(()),
    }
}

/// Keeps this process, and all its descendants, from what a namespace of mounts does not: the memory,
/// the descriptors and the `/proc/PID/root` of processes outside, signals to them (Linux 6.12), FIFOs
/// and devices that are seen read-only, and what root may do to the host. A kernel without Landlock does the last
/// alone.
///
/// # Errors
/// When a kernel that has Landlock does not do it.
pub fn set_apart(isolation: &Isolation) -> Result<(), Failed> {
    let layers = isolation.layers.iter().map(|layer| &layer.at);
    let replaced = isolation.replaced.iter().chain(&isolation.temporary).map(|entry| &entry.at);
    let mut dirs: Vec<_> =
        layers.chain(replaced).chain(&isolation.writable).map(PathBuf::from).collect();
    dirs.extend([PathBuf::from(DEVICES), PathBuf::from(SHARED_MEMORY)]);
    // Its log may be a FIFO, which it opens again as `/dev/stdout`.
    let own = ["/proc/self/fd/1", "/proc/self/fd/2"].iter().filter_map(|fd| fs::read_link(fd).ok());
    dirs.extend(own.filter(|path| path.is_absolute()));
    step(restrict(&dirs, false), || "keeping it apart from other processes (Landlock)".to_owned())?;
    step(limit_rights(), || "taking the rights of root from it".to_owned())
}

/// What root may do in a rehearsal from its next `execve` on: nothing to the host.
fn limit_rights() -> io::Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    for right in CapabilitySet::all().difference(KEPT).iter() {
        match remove_capability_from_bounding_set(right) {
            // This kernel does not know it.
            Err(Errno::INVAL) => {}
            removed => removed?,
        }
    }
    Ok(())
}

/// The kernel wants `no_new_privs` of a process that is not privileged.
fn restrict(dirs: &[PathBuf], no_new_privs: bool) -> io::Result<RulesetStatus> {
    let writes = AccessFs::from_write(LANDLOCK);
    let restricted = || -> Result<RulesetStatus, RulesetError> {
        let ruleset = Ruleset::default().handle_access(writes)?.scope(Scope::Signal)?.create()?;
        let ruleset = ruleset.add_rules(path_beneath_rules(dirs, writes))?;
        Ok(ruleset.no_new_privs(no_new_privs).restrict_self()?.ruleset)
    };
    restricted().map_err(|error| io::Error::other(error.to_string()))
}

/// The version of the kernel's Landlock; 0 where there is none.
#[must_use]
pub fn landlock_version() -> u32 {
    const VERSION: libc::c_ulong = 1;
    // SAFETY: with this flag the call reads no memory.
    let version = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, VERSION)
    };
    u32::try_from(version).unwrap_or(0)
}

/// Whether the kernel has Landlock.
#[must_use]
pub fn has_landlock() -> bool {
    landlock_version() >= 1
}

/// What a process that is set apart reaches all the same on this kernel, if anything.
#[must_use]
pub fn still_reached() -> Option<&'static str> {
    match landlock_version() {
        0 => Some("memory, descriptors, FIFOs and signals of other processes (no Landlock)"),
        1..6 => Some("signals to other processes (before Linux 6.12)"),
        _ => None,
    }
}
