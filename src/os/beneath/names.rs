//! Names: opened below a directory and nowhere else, single ones, ones that cannot be guessed.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use rustix::fs::{Mode, OFlags, RawMode, ResolveFlags, openat, openat2};
use rustix::io::Errno;

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
pub(super) fn single(name: &OsStr) -> io::Result<&OsStr> {
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
pub(super) struct NotPlain;

/// Whether what was there a moment ago is gone, or is something else now.
pub(super) fn has_changed(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ELOOP | libc::ENOTDIR | libc::ENXIO))
        || error.get_ref().is_some_and(|inner| inner.is::<NotPlain>())
}
