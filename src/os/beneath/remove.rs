//! Removing a tree.
//!
//! Each directory is taken from its owner first, so that nothing new comes into it, and its
//! directories are moved up to the top: the tree may be as deep as its owner liked, and two
//! descriptors are enough.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;

use rustix::fs::{
    AtFlags, Mode, OFlags, RenameFlags, ResolveFlags, openat, openat2, renameat_with,
};
use rustix::io::Errno;

use super::dir::Dir;
use super::held::{give, set_mode};
use super::names::{open_beneath, unguessable};

/// Rounds over a top whose owner goes on putting directories into what is not yet taken.
const N_ROUNDS_MAX: usize = 100_000;

/// Removes the tree at a path, sealed directories too; follows no link below the path's directory.
/// A tree that is not there is fine.
///
/// # Errors
/// The system's.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    match Dir::parent(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        parent => {
            let (dir, name) = parent?;
            dir.remove_tree(&name)
        }
    }
}

impl Dir {
    /// Removes what has this name, with all that is in it. A name that is not there is fine.
    ///
    /// # Errors
    /// The system's; `EXDEV` when something is mounted there.
    pub fn remove_tree(&self, name: &OsStr) -> io::Result<()> {
        match self.remove_file(name) {
            Err(error) if is_directory(&error) => {}
            removed => return removed,
        }
        let top = match taken(self, name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            taken => taken?,
        };
        let mut number = 0_u64;
        for _ in 0..N_ROUNDS_MAX {
            let names = top.names()?;
            if names.is_empty() {
                return remove_empty(self, name);
            }
            for name in names {
                match top.remove_file(&name) {
                    Err(error) if is_directory(&error) => {
                        empty_into(&top, &name, &mut number)?;
                        remove_empty(&top, &name)?;
                    }
                    removed => removed?,
                }
            }
        }
        Err(Errno::NOTEMPTY.into())
    }
}

/// Empties a directory of the top: its files are removed, its directories moved up.
fn empty_into(top: &Dir, name: &OsStr, number: &mut u64) -> io::Result<()> {
    let dir = taken(top, name)?;
    for name in dir.names()? {
        match dir.remove_file(&name) {
            Err(error) if is_directory(&error) => move_up(&dir, &name, top, number)?,
            removed => removed?,
        }
    }
    Ok(())
}

fn move_up(dir: &Dir, name: &OsStr, top: &Dir, number: &mut u64) -> io::Result<()> {
    if remove_empty(dir, name).is_ok() {
        return Ok(());
    }
    // For others than root: to give a directory another parent takes the right to write to it.
    drop(taken(dir, name)?);
    loop {
        *number += 1;
        let free = OsString::from(format!(".{number}"));
        match renameat_with(dir, name, top, &free, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            // A file system that cannot: a name that cannot be guessed is free.
            Err(Errno::INVAL) => return dir.rename(name, top, &unguessable(OsStr::new("."))?),
            renamed => return Ok(renamed?),
        }
    }
}

/// A directory on the same mount, which from now on only its holder changes.
fn taken(dir: &Dir, name: &OsStr) -> io::Result<Dir> {
    let path = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let held = match openat2(dir, name, path, Mode::empty(), resolve) {
        Err(Errno::NOSYS) => open_beneath(dir, Path::new(name), path, 0)?,
        held => held?,
    };
    let euid = rustix::process::geteuid().as_raw();
    give(&held, (Some(euid), None))?;
    set_mode(std::os::fd::AsFd::as_fd(&held), 0o700)?;
    let read = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(Dir(openat(&held, ".", read, Mode::empty())?))
}

fn remove_empty(dir: &Dir, name: &OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOENT) => Ok(()),
        removed => Ok(removed?),
    }
}

fn is_directory(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EISDIR)
}
