//! Sockets that were handed over (`sd_listen_fds(3)`).

use std::io;
use std::os::fd::OwnedFd;

use crate::os::proc;

/// The sockets from descriptor 3 on, when they were meant for this process.
///
/// # Errors
/// When none were.
pub fn inherited() -> io::Result<Vec<OwnedFd>> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    let text = "no socket was handed over: LISTEN_PID is not this process";
    let none = || io::Error::new(io::ErrorKind::NotFound, text);
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Err(none());
    }
    let n = number("LISTEN_FDS").filter(|n| *n > 0).ok_or_else(none)?;
    let last = 3 + i32::try_from(n).map_err(|_| none())?;
    (3..last).map(proc::inherited_number).collect()
}
