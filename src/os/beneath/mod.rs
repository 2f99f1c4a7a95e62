//! Files below directories that other users can write to, worked on by root: by descriptors, never
//! by a path twice.
//!
//! Between two calls that take the same path its owner may exchange any part of it, and root then
//! reads, writes, gives away or removes a file that was never meant. Here a path is walked once
//! ([`way`]); what is done afterwards is done to descriptors, by single names, and follows no link.
//! This room must never
//! follow a link that another user could have put there out of that user's own directories.

mod content;
mod copy;
mod remove;
mod walk;
mod way;

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir as Listing, Gid, Mode, OFlags, RawMode, RenameFlags, ResolveFlags, Uid, chownat,
    mkdirat, openat, openat2, readlinkat, renameat_with, symlinkat, unlinkat,
};
use rustix::io::Errno;

pub use content::fill;
pub use copy::{Copied, liken};
pub use remove::remove_tree;
pub use walk::Met;

/// Deeper trees are refused: each level holds a descriptor.
pub const DEPTH_MAX: usize = 128;

/// A directory that is held open: whatever its names lead to meanwhile, this one is worked in.
#[derive(Debug)]
pub struct Dir(OwnedFd);

/// A file of any kind that is held and cannot be read or written by this: its kind, its owner and
/// its mode are those of one and the same file, whatever its name leads to meanwhile.
#[derive(Debug)]
pub struct Pinned(OwnedFd);

impl Dir {
    /// The directory at a path. Links are followed that none but root could have put there; one of
    /// another user's leads into directories of that user, or nowhere.
    ///
    /// # Errors
    /// The system's; `PermissionDenied` for a link that leads elsewhere.
    pub fn open(path: &Path) -> io::Result<Self> {
        way::to_directory(path)
    }

    /// The directory that really holds the file at a path, and the file's name in it. The file may
    /// be missing. Links are followed as in [`Dir::open`], the last one too.
    ///
    /// # Errors
    /// As [`Dir::open`].
    pub fn holder(path: &Path) -> io::Result<(Self, OsString)> {
        way::to_holder(path)
    }

    /// The directory at a path; what is missing of it is made.
    ///
    /// # Errors
    /// As [`Dir::open`].
    pub fn have(path: &Path, mode: u32) -> io::Result<Self> {
        match (Self::open(path), path.parent(), path.file_name()) {
            (Err(error), Some(parent), Some(name)) if error.kind() == io::ErrorKind::NotFound => {
                Self::have(parent, mode)?.have_dir(name, mode)
            }
            (opened, ..) => opened,
        }
    }

    /// The directory of a path, with the path's last name: what is there is not looked at.
    ///
    /// # Errors
    /// As [`Dir::open`].
    pub fn parent(path: &Path) -> io::Result<(Self, OsString)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        Ok((Self::open(parent.unwrap_or(Path::new(".")))?, name.to_owned()))
    }

    /// A directory below, through no link.
    ///
    /// # Errors
    /// The system's; `ELOOP` or `ENOTDIR` for a link.
    pub fn dir(&self, path: impl AsRef<Path>) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        match open_beneath(self, path.as_ref(), flags, 0) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let flags = OFlags::PATH | OFlags::DIRECTORY;
                open_beneath(self, path.as_ref(), flags, 0).map(Self)
            }
            opened => opened.map(Self),
        }
    }

    /// A plain file below, for reading, through no link. Nothing else is opened: a FIFO in its
    /// place blocks nothing.
    ///
    /// # Errors
    /// The system's; `InvalidInput` for what is no plain file.
    pub fn file(&self, path: impl AsRef<Path>) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(open_beneath(self, path.as_ref(), flags, 0)?);
        let is_plain = file.metadata()?.is_file();
        if is_plain { Ok(file) } else { Err(io::Error::new(io::ErrorKind::InvalidInput, NotPlain)) }
    }

    /// A new file; a name that is taken, if only by a link, is an error.
    ///
    /// # Errors
    /// The system's.
    pub fn create(&self, name: &OsStr, mode: u32) -> io::Result<File> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
        open_beneath(self, Path::new(single(name)?), flags, mode).map(File::from)
    }

    /// A new file under a name that cannot be guessed.
    ///
    /// # Errors
    /// The system's.
    pub fn create_unguessable(&self, before: &OsStr, mode: u32) -> io::Result<(OsString, File)> {
        let name = unguessable(before)?;
        let file = self.create(&name, mode)?;
        Ok((name, file))
    }

    /// A new directory; a name that is taken is an error.
    ///
    /// # Errors
    /// The system's.
    pub fn make_dir(&self, name: &OsStr, mode: u32) -> io::Result<Self> {
        mkdirat(self, single(name)?, Mode::from_raw_mode(mode as RawMode))?;
        let dir = self.dir(name)?;
        // Whatever the umask takes.
        dir.set_mode(mode)?;
        Ok(dir)
    }

    /// A directory that is there already, through no link, or a new one.
    ///
    /// # Errors
    /// The system's.
    pub fn have_dir(&self, name: &OsStr, mode: u32) -> io::Result<Self> {
        match self.make_dir(name, mode) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.dir(name),
            made => made,
        }
    }

    /// A new symlink.
    ///
    /// # Errors
    /// The system's.
    pub fn symlink(&self, name: &OsStr, target: &OsStr) -> io::Result<()> {
        Ok(symlinkat(target, self, single(name)?)?)
    }

    /// Where a symlink leads.
    ///
    /// # Errors
    /// The system's; `NotFound` for what is no symlink.
    pub fn target(&self, name: &OsStr) -> io::Result<OsString> {
        match readlinkat(self, single(name)?, Vec::new()) {
            Err(Errno::INVAL) => Err(Errno::NOENT.into()),
            target => Ok(OsString::from_vec(target?.into_bytes())),
        }
    }

    /// Holds whatever has this name, the link itself if it is one.
    ///
    /// # Errors
    /// The system's.
    pub fn pin(&self, name: &OsStr) -> io::Result<Pinned> {
        open_beneath(self, Path::new(single(name)?), OFlags::PATH, 0).map(Pinned)
    }

    /// What has this name, the link itself if it is one.
    ///
    /// # Errors
    /// The system's.
    pub fn look(&self, name: &OsStr) -> io::Result<Metadata> {
        self.pin(name)?.metadata()
    }

    /// A path to a name in this very directory, for calls that take no descriptor. It is good in
    /// this process, as long as this is held.
    #[must_use]
    pub fn path_to(&self, name: &OsStr) -> PathBuf {
        through(self.as_fd()).join(name)
    }

    /// This directory's own.
    ///
    /// # Errors
    /// The system's.
    pub fn metadata(&self) -> io::Result<Metadata> {
        File::from(self.0.try_clone()?).metadata()
    }

    /// The names in it, sorted.
    ///
    /// # Errors
    /// The system's.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in Listing::read_from(self)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(OsStr::from_bytes(name).to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// Renames: what has the new name already is replaced, as by `rename(2)`.
    ///
    /// # Errors
    /// The system's.
    pub fn rename(&self, name: &OsStr, to: &Self, new: &OsStr) -> io::Result<()> {
        Ok(renameat_with(self, single(name)?, to, single(new)?, RenameFlags::empty())?)
    }

    /// Renames to a name that must be free (Linux 3.15, and a file system that can).
    ///
    /// # Errors
    /// The system's; `AlreadyExists` for a name that is taken.
    pub fn rename_to_free(&self, name: &OsStr, to: &Self, new: &OsStr) -> io::Result<()> {
        Ok(renameat_with(self, single(name)?, to, single(new)?, RenameFlags::NOREPLACE)?)
    }

    /// Lets two names change places, in one step (Linux 3.15, and a file system that can).
    ///
    /// # Errors
    /// The system's.
    pub fn exchange(&self, name: &OsStr, with: &Self, other: &OsStr) -> io::Result<()> {
        Ok(renameat_with(self, single(name)?, with, single(other)?, RenameFlags::EXCHANGE)?)
    }

    /// Gives what is held another name, in this directory.
    ///
    /// # Errors
    /// The system's.
    pub fn link(&self, held: &Pinned, name: &OsStr) -> io::Result<()> {
        let flags = AtFlags::SYMLINK_FOLLOW;
        Ok(rustix::fs::linkat(rustix::fs::CWD, held.path(), self, single(name)?, flags)?)
    }

    /// Removes a name that is no directory; one that is not there is fine.
    ///
    /// # Errors
    /// The system's.
    pub fn remove_file(&self, name: &OsStr) -> io::Result<()> {
        match unlinkat(self, single(name)?, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            removed => Ok(removed?),
        }
    }

    /// Gives it to a user and group; for others than root this is not possible and not needed.
    ///
    /// # Errors
    /// The system's.
    pub fn give_to(&self, uid: u32, gid: u32) -> io::Result<()> {
        give(self, (Some(uid), Some(gid)))
    }

    /// Sets its permissions.
    ///
    /// # Errors
    /// The system's.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        set_mode(self.0.as_fd(), mode)
    }

    /// Makes the names in it durable.
    ///
    /// # Errors
    /// The system's.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(self)?)
    }

    /// Makes everything on its file system durable.
    ///
    /// # Errors
    /// The system's.
    pub fn sync_all(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(self)?)
    }
}

/// One that somebody else has opened.
impl From<OwnedFd> for Dir {
    fn from(dir: OwnedFd) -> Self {
        Self(dir)
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for Pinned {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Pinned {
    /// What it is.
    ///
    /// # Errors
    /// The system's.
    pub fn metadata(&self) -> io::Result<Metadata> {
        File::from(self.0.try_clone()?).metadata()
    }

    /// A path to this very file, for calls that take no descriptor. It is good in this process, as
    /// long as this is held.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        through(self.0.as_fd())
    }

    /// Whether it is a socket.
    #[must_use]
    pub fn is_socket(&self) -> bool {
        self.metadata().is_ok_and(|meta| meta.file_type().is_socket())
    }

    /// Gives it to a user and group, each as it is when absent.
    ///
    /// # Errors
    /// The system's.
    pub fn own(&self, owner: (Option<u32>, Option<u32>)) -> io::Result<()> {
        own(&self.0, owner)
    }

    /// Sets its permissions.
    ///
    /// # Errors
    /// The system's.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        set_mode(self.0.as_fd(), mode)
    }
}

/// Gives what is held to a user and group, each as it is when absent; for others than root this is
/// not possible and not needed.
///
/// # Errors
/// The system's.
pub fn give(fd: impl AsFd, owner: (Option<u32>, Option<u32>)) -> io::Result<()> {
    if rustix::process::geteuid().is_root() { own(fd, owner) } else { Ok(()) }
}

/// Gives what has a path to a user and group, a link itself if it is one; see [`give`].
///
/// # Errors
/// As [`Dir::open`].
pub fn give_to(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    let (dir, name) = Dir::parent(path)?;
    give(&dir.pin(&name)?.0, (Some(uid), Some(gid)))
}

/// A path as it is without links, followed as in [`Dir::holder`]. The last name may be missing.
///
/// # Errors
/// As [`Dir::open`].
pub fn real(path: &Path) -> io::Result<PathBuf> {
    if !matches!(path.components().next_back(), Some(Component::Normal(_))) {
        return std::fs::read_link(through(Dir::open(path)?.as_fd()));
    }
    let (dir, name) = Dir::holder(path)?;
    Ok(std::fs::read_link(through(dir.as_fd()))?.join(name))
}

fn own(fd: impl AsFd, (uid, gid): (Option<u32>, Option<u32>)) -> io::Result<()> {
    let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
    Ok(chownat(fd, "", uid, gid, AtFlags::EMPTY_PATH)?)
}

/// Through `/proc`, whose link leads to the file that is held: `fchmod(2)` takes no `O_PATH`.
fn set_mode(fd: BorrowedFd<'_>, mode: u32) -> io::Result<()> {
    std::fs::set_permissions(through(fd), Permissions::from_mode(mode & 0o7777))
}

/// The kernel's own link to what is held (`proc(5)`).
fn through(fd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// A name that no other user can guess.
///
/// # Errors
/// `getrandom(2)`'s.
pub fn unguessable(before: &OsStr) -> io::Result<OsString> {
    let mut random = [0_u8; 8];
    // SAFETY: getrandom(2) writes at most the bytes of the array.
    if unsafe { libc::getrandom(random.as_mut_ptr().cast(), random.len(), 0) } != 8 {
        return Err(io::Error::last_os_error());
    }
    let mut name = before.to_owned();
    name.push(format!("{:016x}", u64::from_ne_bytes(random)));
    Ok(name)
}

/// One name, which leads nowhere but to an entry of its directory.
fn single(name: &OsStr) -> io::Result<&OsStr> {
    let is_single =
        !matches!(name.as_bytes(), b"" | b"." | b"..") && !name.as_bytes().contains(&b'/');
    if is_single { Ok(name) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

/// Opens a path below `dir` that leads through no symlink and never out of it (`openat2(2)`, Linux
/// 5.6; on older kernels each component by itself).
///
/// # Errors
/// The system's; `ELOOP` for a symlink, `EXDEV` for a way out.
pub fn open_beneath(dir: impl AsFd, path: &Path, flags: OFlags, mode: u32) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mode = Mode::from_raw_mode(mode as RawMode);
    // A link at the end is held itself with `O_PATH`, and refused without.
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match openat2(&dir, path, flags, mode, resolve) {
        Err(Errno::NOSYS) => {}
        opened => return Ok(opened?),
    }
    let parts: Vec<&OsStr> = path
        .components()
        .map(|part| match part {
            Component::Normal(name) => Ok(name),
            _ => Err(io::Error::from_raw_os_error(libc::EXDEV)),
        })
        .collect::<io::Result<_>>()?;
    let Some((last, above)) = parts.split_last() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let mut at = dir.as_fd().try_clone_to_owned()?;
    let step = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::PATH;
    for name in above {
        at = openat(&at, *name, step, Mode::empty())?;
    }
    Ok(openat(&at, *last, flags, mode)?)
}

/// It is a directory, a FIFO, a socket or a device.
#[derive(Debug, thiserror::Error)]
#[error("it is no plain file")]
struct NotPlain;

/// Whether what was there a moment ago is gone, or is something else now.
fn has_changed(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ELOOP | libc::ENOTDIR | libc::ENXIO))
        || error.get_ref().is_some_and(|inner| inner.is::<NotPlain>())
}

#[cfg(test)]
pub(crate) mod tests;
