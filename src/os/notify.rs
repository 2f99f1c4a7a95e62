//! Telling systemd how we are (`sd_notify(3)`): one datagram to `$NOTIFY_SOCKET`. And what it keeps for
//! us over our own end (`sd_pid_notify_with_fds(3)`, `FileDescriptorStoreMax=`).

use std::ffi::OsString;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, sendmsg_addr, socket_with,
};

use crate::os::in_place;

/// The longest name that systemd takes.
const NAME_BYTES_MAX: usize = 255;

/// Sends `state`, such as `READY=1`. Without `$NOTIFY_SOCKET` it does nothing; a failure to send is
/// left to systemd, which has its own deadline.
pub fn notify(state: &str) {
    send(state, None);
}

/// Has a descriptor stored under a name, until [`unstore`]. What cannot be stored is not.
pub fn store(name: &str, fd: impl AsFd) {
    if let Some(name) = encoded(name) {
        send(&format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0"), Some(fd.as_fd()));
    }
}

/// What is stored under a name is closed.
pub fn unstore(name: &str) {
    if let Some(name) = encoded(name) {
        send(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), None);
    }
}

/// What was stored by a process before this one. Once in the life of a process.
#[must_use]
pub fn stored() -> Vec<(String, OwnedFd)> {
    let number = |name| std::env::var(name).ok()?.parse::<i32>().ok();
    let is_ours = number("LISTEN_PID").is_some_and(|pid| Ok(pid) == std::process::id().try_into());
    let (Some(n), true) = (number("LISTEN_FDS").filter(|n| *n > 0), is_ours) else {
        return Vec::new();
    };
    let numbers: Vec<i32> = (3..3 + n).collect();
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    match in_place::take(&numbers) {
        Ok(fds) => names.split(':').filter_map(decoded).zip(fds).collect(),
        Err(error) => {
            tracing::error!(%error, "taking back what was stored");
            Vec::new()
        }
    }
}

/// Names must not hold a colon.
fn encoded(name: &str) -> Option<String> {
    let name = name.replace('%', "%25").replace(':', "%3A");
    let is_fit = name.len() <= NAME_BYTES_MAX && name.bytes().all(|byte| byte.is_ascii_graphic());
    is_fit.then_some(name)
}

fn decoded(name: &str) -> Option<String> {
    Some(name.replace("%3A", ":").replace("%25", "%"))
}

/// Nobody waits for a socket that is full.
fn send(state: &str, fd: Option<BorrowedFd<'_>>) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET").map(OsString::into_vec) else { return };
    let address = match path.strip_prefix(b"@") {
        Some(name) => SocketAddrUnix::new_abstract_name(name),
        None => SocketAddrUnix::new(path.as_slice()),
    };
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None);
    let (Ok(address), Ok(socket)) = (address, socket) else { return };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&fds));
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let text = [IoSlice::new(state.as_bytes())];
    if let Err(error) = sendmsg_addr(&socket, &address, &text, &mut control, flags) {
        tracing::debug!(%error, state, "telling the service manager");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_comes_back_as_it_was() {
        for name in ["slot/web/tcp://127.0.0.1:80/0", "a%3Ab", "%25", "plain"] {
            let stored = encoded(name).unwrap();
            assert!(!stored.contains(':'));
            assert_eq!(decoded(&stored).as_deref(), Some(name));
        }
        assert_eq!(encoded(&"x".repeat(256)), None);
        assert_eq!(encoded("two\nlines"), None);
    }
}
