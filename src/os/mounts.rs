//! What a process sees where: what is mounted (`proc(5)`: mountinfo), taken from one place and put into
//! another (`open_tree(2)`, `move_mount(2)`, Linux 5.2), and which file has a path there.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, fstat, open, openat2};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use crate::core::ordered::Ordered as _;

/// Where a process sees mounts.
#[must_use]
pub fn places(pid: i32) -> Vec<PathBuf> {
    let text = fs::read(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    let lines = text.split(|byte| *byte == b'\n');
    lines.filter_map(|line| line.split(|byte| *byte == b' ').nth(4)).map(unescaped).collect()
}

/// The outermost places below a directory where this process sees mounts.
#[must_use]
pub fn below(dir: &Path) -> Vec<PathBuf> {
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    // An outer one comes before those below it.
    let all: BTreeSet<PathBuf> = places(own).into_iter().into_set();
    let mut outer: Vec<PathBuf> = Vec::new();
    for place in all.into_iter().filter(|place| place != dir && place.starts_with(dir)) {
        if !outer.iter().any(|outer| place.starts_with(outer)) {
            outer.push(place);
        }
    }
    outer
}

/// The file that a process sees at a path, whatever it is: its device and inode.
///
/// # Errors
/// The system's.
pub fn seen_by(pid: i32, path: &Path) -> io::Result<(u64, u64)> {
    let path = fs::read_link(format!("/proc/{pid}/cwd"))?.join(path);
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = open(format!("/proc/{pid}/root"), flags, Mode::empty())?;
    // Links are that process's: they lead from its own root.
    let file = openat2(&root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)?;
    let stat = fstat(&file)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// A tree of mounts as it is seen at this place, which is held.
///
/// # Errors
/// The system's.
pub fn take(place: impl AsFd) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(open_tree(place, "", flags)?)
}

/// Puts such a tree over another place.
///
/// # Errors
/// The system's.
pub fn put(tree: &OwnedFd, place: impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(tree, "", place, "", flags)?)
}

/// The kernel writes blanks, and the backslash itself, as three octal digits.
fn unescaped(mut text: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    while let Some((first, rest)) = text.split_first() {
        let digits = rest.get(..3).filter(|_| *first == b'\\');
        let byte = digits.map(|digits| {
            digits.iter().fold(0_u8, |byte, digit| byte << 3 | digit.wrapping_sub(b'0') & 7)
        });
        bytes.push(byte.unwrap_or(*first));
        text = if byte.is_some() { &rest[3..] } else { rest };
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_the_kernel_writes_it() {
        assert_eq!(unescaped(b"/a\\040b/c\\134d"), Path::new("/a b/c\\d"));
        assert_eq!(unescaped(b"/a\\04"), Path::new("/a\\04"));
    }
}
