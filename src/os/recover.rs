//! Descriptors taken back out of processes that have them (`pidfd_getfd(2)`, Linux 5.6).

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;

use crate::os::proc;

/// A file, as the kernel knows it: device and inode.
pub type FileId = (u64, u64);

/// Which file a descriptor leads to.
///
/// # Errors
/// `fstat(2)`'s.
pub fn id_of(fd: impl AsFd) -> io::Result<FileId> {
    let stat = rustix::fs::fstat(fd)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// A duplicate of another process's descriptor.
///
/// # Errors
/// The system's, when it is not open or may not be looked at.
pub fn descriptor(process: &OwnedFd, number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_getfd(2) returns a new descriptor or an error.
    let got = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) };
    match i32::try_from(got) {
        // SAFETY: a new descriptor that nothing else owns.
        Ok(number) if number >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(number) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sockets that a process has open: the number of the descriptor, and the inode.
pub fn sockets(pid: i32) -> impl Iterator<Item = (RawFd, u64)> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries.filter_map(move |entry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        Some((number, socket_at(pid, number)?))
    })
}

/// The inode of the socket that a process has under this number.
#[must_use]
pub fn socket_at(pid: i32, number: RawFd) -> Option<u64> {
    let link = fs::read_link(format!("/proc/{pid}/fd/{number}")).ok()?;
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// Sockets and standard files out of a process and those that it started, as far as they are wanted.
#[must_use]
pub fn descriptors(root: i32, wanted: &BTreeSet<FileId>) -> Vec<(FileId, OwnedFd)> {
    let mut found = Vec::new();
    for pid in proc::tree(root) {
        let Ok(process) = proc::pidfd(pid) else { continue };
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
            let Some(number) = number else { continue };
            let link = fs::read_link(entry.path()).unwrap_or_default();
            if number > 2 && !link.to_string_lossy().starts_with("socket:") {
                continue;
            }
            let id = fs::metadata(entry.path()).ok().map(|meta| (meta.dev(), meta.ino()));
            let Some(id) = id.filter(|id| wanted.contains(id)) else { continue };
            // It may be another one by now.
            let got = descriptor(&process, number).ok();
            found.extend(got.filter(|fd| id_of(fd).ok() == Some(id)).map(|fd| (id, fd)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_socket_is_taken_back_with_those_that_wait_in_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, id) = (listener.local_addr().unwrap(), id_of(&listener).unwrap());
        let as_input = Stdio::from(listener.as_fd().try_clone_to_owned().unwrap());
        let mut child = Command::new("sleep").arg("60").stdin(as_input).spawn().unwrap();
        drop(listener);
        let _waits = TcpStream::connect(address).unwrap();
        let wanted = BTreeSet::from([id, id_of(&other).unwrap()]);
        let mut found = descriptors(i32::try_from(child.id()).unwrap(), &wanted);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [id]);
        let back = TcpListener::from(found.remove(0).1);
        back.accept().unwrap();
    }
}
