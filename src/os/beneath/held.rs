//! A file that is held by a descriptor, and what is done to descriptors whatever their names lead to.

use std::fs::{File, Metadata, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::PathBuf;

use rustix::fs::{AtFlags, Gid, Uid, chownat};

/// A file of any kind that is held and cannot be read or written by this: its kind, its owner and
/// its mode are those of one and the same file, whatever its name leads to meanwhile.
#[derive(Debug)]
pub struct Pinned(pub(super) OwnedFd);

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

pub(super) fn own(fd: impl AsFd, (uid, gid): (Option<u32>, Option<u32>)) -> io::Result<()> {
    let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
    Ok(chownat(fd, "", uid, gid, AtFlags::EMPTY_PATH)?)
}

/// Through `/proc`, whose link leads to the file that is held: `fchmod(2)` takes no `O_PATH`.
pub(super) fn set_mode(fd: BorrowedFd<'_>, mode: u32) -> io::Result<()> {
    std::fs::set_permissions(through(fd), Permissions::from_mode(mode & 0o7777))
}

/// The kernel's own link to what is held (`proc(5)`).
pub(super) fn through(fd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}
