//! A process that becomes another program and keeps its number and its descriptors (`execve(2)`).

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

use crate::core::ordered::Ordered as _;

/// This process's own program, also when it was replaced on the disk.
pub const OWN: &str = "/proc/self/exe";

/// Becomes a program, with these descriptors open under the numbers that they have. Other threads end.
/// Returns only when it failed; then everything is as it was.
pub fn execute(program: &OsStr, args: &[&OsStr], fds: &[BorrowedFd<'_>]) -> io::Error {
    let flag_all = |flags: FdFlags| {
        fds.iter().try_for_each(|fd| fcntl_setfd(fd, flags)).map_err(io::Error::from)
    };
    let error = match flag_all(FdFlags::empty()) {
        Ok(()) => Command::new(program).arg0("halley-sup").args(args).exec(),
        Err(error) => error,
    };
    drop(flag_all(FdFlags::CLOEXEC));
    error
}

/// This process's own program, for when it has become another one.
///
/// # Errors
/// When it cannot be opened.
pub fn own_program() -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    Ok(rustix::fs::open(OWN, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Whether the program at a path is this process's own, to the byte.
#[must_use]
pub fn is_own(path: &Path) -> bool {
    let own = std::fs::read(OWN).ok();
    own.is_some() && own == std::fs::read(path).ok()
}

/// Where an open program is executed.
#[must_use]
pub fn path_of(program: &OwnedFd) -> OsString {
    format!("/proc/self/fd/{}", program.as_raw_fd()).into()
}

/// Numbers of descriptors, for the program that this process becomes.
#[must_use]
pub fn numbers(fds: &[BorrowedFd<'_>]) -> Vec<RawFd> {
    fds.iter().map(AsRawFd::as_raw_fd).collect()
}

/// Owns the descriptors that the program before this one left open. Once in the life of a program.
///
/// # Errors
/// When one of them is not open, is named twice, or this was done before.
pub fn take(numbers: &[RawFd]) -> io::Result<Vec<OwnedFd>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let different = numbers.iter().copied().into_set();
    if different.len() != numbers.len() || different.first().is_some_and(|lowest| *lowest < 3) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for number in numbers {
        // SAFETY: only borrowed, to look at it; a number that is not open is an error of fcntl(2).
        fcntl_getfd(unsafe { BorrowedFd::borrow_raw(*number) })?;
    }
    // SAFETY: all are open and named once, were left open by the program before this one for this
    // very call, and it is the only one.
    let fds = numbers.iter().map(|number| unsafe { OwnedFd::from_raw_fd(*number) });
    let fds: Vec<OwnedFd> = fds.collect();
    fds.iter().try_for_each(|fd| fcntl_setfd(fd.as_fd(), FdFlags::CLOEXEC))?;
    Ok(fds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_bytes_are_its_own_program() {
        let own = std::env::current_exe().unwrap();
        assert!(is_own(&own));
        let other = tempfile::NamedTempFile::new().unwrap();
        let mut bytes = std::fs::read(own).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(other.path(), bytes).unwrap();
        assert!(!is_own(other.path()) && !is_own(Path::new("/no/such/program")));
    }
}
