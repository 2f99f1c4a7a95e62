//! Waiting for a descriptor in the supervisor's event loop.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::inotify;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Wakes up when there is something to read.
///
/// # Errors
/// `epoll_ctl(2)`'s.
pub fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    register(fd, Interest::READABLE)
}

/// Wakes up when there is something to read or room to write.
///
/// # Errors
/// `epoll_ctl(2)`'s.
pub fn both(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    register(fd, Interest::READABLE | Interest::WRITABLE)
}

/// Wakes up when a name in a directory is removed (`inotify(7)`); [`drain`] makes it wait again.
///
/// # Errors
/// The system's.
pub fn removals(dir: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let watcher = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    let removed = inotify::WatchFlags::DELETE | inotify::WatchFlags::MOVED_FROM;
    inotify::add_watch(&watcher, dir, removed | inotify::WatchFlags::ONLYDIR)?;
    readable(watcher)
}

/// Reads what has come, and forgets it.
pub fn drain(fd: &OwnedFd) {
    while rustix::io::read(fd, &mut [0; 4096]).is_ok_and(|n| n > 0) {}
}

/// Wakes up when a listening socket is hung up, and not for the connections that arrive: they wake
/// waiters for `EPOLLIN` or `EPOLLPRI` (`sock_def_readable`; measured, one wake-up a connection),
/// and a listening socket is never writable.
///
/// # Errors
/// `epoll_ctl(2)`'s.
pub fn hang_up(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    register(fd, Interest::WRITABLE)
}

fn register(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    debug_assert!(fd.as_raw_fd() >= 0);
    // SAFETY: an `OwnedFd` is the only owner of its number and closes it when it is dropped, which
    // is after the registration it is moved into has ended.
    unsafe { AsyncFd::register_with_interest(fd, interest) }.map_err(io::Error::from)
}
