//! A directory that is held, and what is done in it by single names.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir as Listing, Mode, OFlags, RawMode, RenameFlags, mkdirat, readlinkat,
    renameat_with, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::held::{Pinned, give, set_mode, through};
use super::names::{NotPlain, open_beneath, single, unguessable};

/// A directory that is held open: whatever its names lead to meanwhile, this one is worked in.
#[derive(Debug)]
pub struct Dir(pub(super) OwnedFd);

impl Dir {
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
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR;
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

    /// Where a symlink below leads.
    ///
    /// # Errors
    /// As [`Dir::target`].
    pub fn link_target(&self, path: &Path) -> io::Result<OsString> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => self.dir(parent)?.target(name),
            None => self.target(name),
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
