//! A control group for each child (`cgroups(7)`, version 2), where the one of this process may have groups
//! below it: under systemd with `Delegate=yes`, in a container with one of its own, or as root.
//!
//! What a child starts is in its group, however far it runs, and ends at once by `cgroup.kill` (Linux
//! 5.14). No controller is switched on, so that Halley itself may stay where it is. Where no group can be
//! made, processes are found as without.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::core::ordered::Ordered as _;

/// What the names of groups of children begin with.
const PREFIX: &str = "halley-";

/// Where groups of children may be made: the group of this process, which is not that of the whole machine.
#[must_use]
pub fn home() -> Option<PathBuf> {
    let dir = place(&path_of("self")?)?;
    // The machine's own group has no type.
    dir.join("cgroup.type").exists().then_some(dir)
}

/// The path of a process's group. `None`: there is no version 2.
fn path_of(pid: impl std::fmt::Display) -> Option<PathBuf> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    Some(PathBuf::from(groups.lines().find_map(|line| line.strip_prefix("0::"))?))
}

/// Where a group is a directory here. `None`: it is not seen here.
fn place(path: &Path) -> Option<PathBuf> {
    let mounts = fs::read("/proc/self/mountinfo").ok()?;
    mounts.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let root = Path::new(OsStr::from_bytes(fields.nth(3)?));
        let place = Path::new(OsStr::from_bytes(fields.next()?));
        fields.find(|field| *field == b"-")?;
        let is_unified = fields.next()? == b"cgroup2";
        let below = path.strip_prefix(root).ok().filter(|_| is_unified)?;
        Some(place.join(below))
    })
}

/// Makes a group.
#[must_use]
pub fn make(home: &Path, name: &str) -> Option<PathBuf> {
    let dir = home.join(format!("{PREFIX}{name}"));
    fs::create_dir(&dir).ok().map(|()| dir)
}

/// Enters a group, with all that is started from here on.
///
/// # Errors
/// The system's.
pub fn enter(dir: &Path) -> io::Result<()> {
    fs::write(dir.join("cgroup.procs"), "0")
}

/// The processes of a group.
#[must_use]
pub fn members(dir: &Path) -> BTreeSet<i32> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).into_set()
}

/// The processes of the group that was made for this one.
#[must_use]
pub fn beside(pid: i32) -> BTreeSet<i32> {
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().map(OsStr::as_bytes);
        name.is_some_and(|name| name.starts_with(PREFIX.as_bytes()))
    };
    let dir = path_of(pid).filter(is_ours).and_then(|path| place(&path));
    dir.map(|dir| members(&dir)).unwrap_or_default()
}

/// Ends all processes of a group, also those that are just being started.
///
/// # Errors
/// The system's.
pub fn kill(dir: &Path) -> io::Result<()> {
    fs::write(dir.join("cgroup.kill"), "1")
}

/// Removes the groups that nothing is in any more.
pub fn sweep(home: &Path) {
    for entry in fs::read_dir(home).into_iter().flatten().flatten() {
        if entry.file_name().as_bytes().starts_with(PREFIX.as_bytes()) {
            remove(&entry.path());
        }
    }
}

/// With those that a program has made in it; one with processes stays.
fn remove(dir: &Path) {
    let inner = fs::read_dir(dir).into_iter().flatten().flatten();
    let dirs = inner.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    dirs.for_each(|entry| remove(&entry.path()));
    drop(fs::remove_dir(dir));
}
