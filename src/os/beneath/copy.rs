//! Copying a tree, as it is: modes, owners, times, extended attributes, holes, and which names are
//! one file.
//!
//! The copy belongs to its maker, closed to others, until all of it is there: its user never gets a
//! hold of a directory that is still written to.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::Metadata;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, OFlags, Timespec, Timestamps, futimens, utimensat};

use super::content;
use super::dir::Dir;
use super::held::{Pinned, own, set_mode};
use super::names::{has_changed, open_beneath};
use super::walk::{at, check_depth};

/// What a copy of a tree has come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Plain files.
    pub n_files: u64,
    /// Their bytes.
    pub n_bytes: u64,
    /// FIFOs, sockets and devices: they are no data, and no part of the copy.
    pub skipped: Vec<PathBuf>,
}

/// What is copied, as it is copied.
#[derive(Debug)]
pub enum Shown<'a> {
    /// The next bytes of a file.
    Bytes(&'a [u8]),
    /// All bytes of the file at this path were shown.
    Whole(&'a Path),
    /// The first path is one more name of the file at the second.
    Again(&'a Path, &'a Path),
}

struct Copy<'a, 's> {
    top: &'a Dir,
    /// Whether what is not a directory is copied.
    wanted: &'a dyn Fn(&Path) -> bool,
    show: Option<&'s mut dyn FnMut(Shown<'_>)>,
    copied: Copied,
    /// Files with several names: where each has been copied to, and which file it is there.
    firsts: BTreeMap<(u64, u64), (PathBuf, (u64, u64))>,
}

impl Dir {
    /// Copies everything in this directory to a new one. What is removed or exchanged meanwhile is
    /// passed over: whoever needs a copy of one moment compares. Whoever wants to see the bytes is
    /// shown them on the way.
    ///
    /// # Errors
    /// The system's with the path, and for trees that are nested too deep; what is there of the copy
    /// stays.
    pub fn copy_to(
        &self,
        to: &Self,
        name: &OsStr,
        show: Option<&mut dyn FnMut(Shown<'_>)>,
    ) -> io::Result<Copied> {
        self.copy(to, name, &|_| true, show)
    }

    /// The same with all directories, and of what they hold only what is wanted.
    ///
    /// # Errors
    /// The same.
    pub fn copy_wanted_to(
        &self,
        to: &Self,
        name: &OsStr,
        wanted: &dyn Fn(&Path) -> bool,
    ) -> io::Result<Copied> {
        self.copy(to, name, wanted, None)
    }

    fn copy(
        &self,
        to: &Self,
        name: &OsStr,
        wanted: &dyn Fn(&Path) -> bool,
        show: Option<&mut dyn FnMut(Shown<'_>)>,
    ) -> io::Result<Copied> {
        let top = to.make_dir(name, 0o700)?;
        let (copied, firsts) = (Copied::default(), BTreeMap::new());
        let mut copy = Copy { top: &top, wanted, show, copied, firsts };
        copy.level(self, &top, Path::new(""), 0)?;
        let copied = copy.copied;
        alike(&top, &self.metadata()?, self)?;
        Ok(copied)
    }
}

impl Copy<'_, '_> {
    fn level(&mut self, from: &Dir, to: &Dir, path: &Path, depth: usize) -> io::Result<()> {
        check_depth(path, depth)?;
        for name in from.names().map_err(|error| at(path, error))? {
            self.entry(from, to, &name, &path.join(&name), depth)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        from: &Dir,
        to: &Dir,
        name: &OsStr,
        path: &Path,
        depth: usize,
    ) -> io::Result<()> {
        let Some(meta) = still(from.look(name))? else { return Ok(()) };
        if meta.is_dir() {
            let Some(below) = still(from.dir(name))? else { return Ok(()) };
            let made = to.make_dir(name, 0o700)?;
            self.level(&below, &made, path, depth + 1)?;
            alike(&made, &below.metadata()?, &below)
        } else if !(self.wanted)(path) {
            Ok(())
        } else if meta.is_symlink() {
            let Some(target) = still(from.target(name))? else { return Ok(()) };
            to.symlink(name, &target)?;
            let link = to.pin(name)?;
            give_alike(&link.0, &meta)?;
            Ok(utimensat(to, name, &times(&meta), AtFlags::SYMLINK_NOFOLLOW)?)
        } else if meta.is_file() {
            self.file(from, to, name, path).map_err(|error| at(path, error))
        } else {
            self.copied.skipped.push(path.to_owned());
            Ok(())
        }
    }

    fn file(&mut self, from: &Dir, to: &Dir, name: &OsStr, path: &Path) -> io::Result<()> {
        let Some(source) = still(from.file(name))? else { return Ok(()) };
        let meta = source.metadata()?;
        let file = (meta.dev(), meta.ino());
        if meta.nlink() > 1
            && let Some((first, made)) = self.firsts.get(&file)
            && self.link(first, *made, to, name)?
        {
            if let Some(show) = &mut self.show {
                show(Shown::Again(path, first));
            }
            return Ok(());
        }
        let target = to.create(name, 0o600)?;
        self.copied.n_bytes += match &mut self.show {
            Some(show) => {
                let n = content::fill_shown(&target, &source, &mut |b| show(Shown::Bytes(b)))?;
                show(Shown::Whole(path));
                n
            }
            None => content::fill(&target, &source)?,
        };
        self.copied.n_files += 1;
        alike(&target, &meta, &source)?;
        if meta.nlink() > 1 {
            let made = target.metadata()?;
            self.firsts.insert(file, (path.to_owned(), (made.dev(), made.ino())));
        }
        Ok(())
    }

    /// Gives a file of the copy another name. By its descriptor: the name may lead elsewhere by now.
    fn link(&self, first: &Path, made: (u64, u64), to: &Dir, name: &OsStr) -> io::Result<bool> {
        let held = Pinned(open_beneath(self.top, first, OFlags::PATH, 0)?);
        let meta = held.metadata()?;
        let is_same = (meta.dev(), meta.ino()) == made;
        if is_same { to.link(&held, name).map(|()| true) } else { Ok(false) }
    }
}

/// Nothing for what has been removed or exchanged.
fn still<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Err(error) if has_changed(&error) => Ok(None),
        found => found.map(Some),
    }
}

/// Owner, mode, extended attributes and times; the times last.
fn alike(copy: impl AsFd, meta: &Metadata, like: impl AsFd) -> io::Result<()> {
    liken(&copy, meta, like)?;
    Ok(futimens(copy, &times(meta))?)
}

/// Gives what is held the owner, mode and extended attributes of another. The owner first: to change
/// it takes special bits of the mode away.
///
/// # Errors
/// The system's.
pub fn liken(copy: impl AsFd, meta: &Metadata, like: impl AsFd) -> io::Result<()> {
    give_alike(&copy, meta)?;
    set_mode(copy.as_fd(), meta.mode())?;
    copy_attributes(&copy, like)
}

fn give_alike(copy: impl AsFd, meta: &Metadata) -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        return own(copy, (Some(meta.uid()), Some(meta.gid())));
    }
    // Everything is our own anyway, but for a group that we may be in.
    drop(own(copy, (None, Some(meta.gid()))));
    Ok(())
}

/// What users set themselves, access lists, and, by root, what a program may do (`capabilities(7)`):
/// a write by anyone takes that away, so it still belongs to the bytes that were read before.
fn copy_attributes(copy: impl AsFd, like: impl AsFd) -> io::Result<()> {
    let mut names = vec![0_u8; 64 * 1024];
    let Ok(n) = rustix::fs::flistxattr(&like, &mut names[..]) else { return Ok(()) };
    for name in names[..n].split(|byte| *byte == 0) {
        let is_right = name == b"security.capability" && rustix::process::geteuid().is_root();
        if !is_right && !name.starts_with(b"user.") && !name.starts_with(b"system.posix_acl_") {
            continue;
        }
        let name = OsStr::from_bytes(name);
        let mut value = vec![0_u8; 64 * 1024];
        let Ok(n) = rustix::fs::fgetxattr(&like, name, &mut value[..]) else { continue };
        match rustix::fs::fsetxattr(&copy, name, &value[..n], rustix::fs::XattrFlags::empty()) {
            // Another file system than the one it comes from.
            Err(rustix::io::Errno::OPNOTSUPP) => {}
            set => set?,
        }
    }
    Ok(())
}

fn times(meta: &Metadata) -> Timestamps {
    let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    Timestamps {
        last_access: time(meta.atime(), meta.atime_nsec()),
        last_modification: time(meta.mtime(), meta.mtime_nsec()),
    }
}
