//! The reserve: small files beside a service's state. On a full disk they are given back, one after
//! the other, so that the way out can be written down: a rollback, a restart and a stop need no free
//! disk. A release must not use it up: it is refused.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};

use crate::os::fs as durable;

/// Many small ones: a program that fills the disk may take what a write leaves of one.
const N_FILES: usize = 48;
const FILE_BYTES: u64 = 4 * 1024;

/// Makes what is missing of the reserve. On a full disk there is none, or less.
pub fn fill(dir: &Path) {
    // What earlier versions kept.
    drop(fs::remove_file(dir.with_extension("bin")));
    if let Err(error) = fill_up(dir) {
        tracing::warn!(path = %dir.display(), %error, "no whole reserve for a full disk");
    }
}

fn fill_up(dir: &Path) -> io::Result<()> {
    durable::create_dir(dir, 0o700)?;
    // It is whole nearly always, and whoever waits for a rollback's result waits for this.
    if fs::read_dir(dir)?.count() >= N_FILES {
        return Ok(());
    }
    (0..N_FILES).try_for_each(|n| fill_one(&dir.join(n.to_string())))
}

fn fill_one(path: &Path) -> io::Result<()> {
    let file = match File::options().write(true).create_new(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        opened => opened?,
    };
    let filled = fallocate(&file, FallocateFlags::empty(), 0, FILE_BYTES);
    if filled.is_err() {
        drop(fs::remove_file(path));
    }
    Ok(filled?)
}

/// Writes something, on a full disk with what the reserve gives back.
///
/// # Errors
/// The system's, when the disk is full without the reserve too.
pub fn spend(dir: &Path, write: &mut dyn FnMut() -> io::Result<()>) -> io::Result<()> {
    let mut left = 0..N_FILES;
    let mut given = 0;
    let written = loop {
        match write() {
            Err(error) if is_full(&error) => {
                if !left.any(|n| fs::remove_file(dir.join(n.to_string())).is_ok()) {
                    break Err(error);
                }
                given += 1;
            }
            written => break written,
        }
    };
    if given > 0 {
        tracing::warn!(reserve = %dir.display(), given, "the disk is full; the reserve is used");
        // What replaces something takes no more than it gives back.
        drop(fill_up(dir));
    }
    written
}

/// Replaces a file, on a full disk with what the reserve gives back.
///
/// # Errors
/// As [`spend`]; the old file stands.
pub fn replace(dir: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    spend(dir, &mut || durable::replace(path, bytes, 0o600))
}

/// Whether an error is that of a full disk, or of a user's full share of it.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    // Not the number: `tempfile` wraps the error in one that names the path.
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_given_back_a_file_at_a_time_and_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let reserve = dir.path().join("reserve");
        fs::write(dir.path().join("reserve.bin"), "of an earlier version").unwrap();
        fill(&reserve);
        let n_files = || fs::read_dir(&reserve).unwrap().count();
        assert_eq!((n_files(), fs::read_dir(dir.path()).unwrap().count()), (N_FILES, 1));
        let mut n_tries = 0;
        let full = || io::Error::from_raw_os_error(libc::ENOSPC);
        let spent = spend(&reserve, &mut || {
            n_tries += 1;
            if n_tries < 4 { Err(full()) } else { Ok(()) }
        });
        assert!(spent.is_ok());
        let mut n_seen = Vec::new();
        let never = spend(&reserve, &mut || {
            n_seen.push(n_files());
            Err(full())
        });
        assert!(is_full(&never.unwrap_err()));
        assert_eq!(n_seen, (0..=N_FILES).rev().collect::<Vec<_>>());
        // What it was given back for is over, and there is room again.
        assert_eq!(n_files(), N_FILES);
        let mut n_tries = 0;
        let denied = spend(&reserve, &mut || {
            n_tries += 1;
            Err(io::Error::from_raw_os_error(libc::EIO))
        });
        assert_eq!((denied.is_err(), n_tries), (true, 1));
    }
}
