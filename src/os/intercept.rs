//! A program's own `bind()` and `connect()`, answered by us (`seccomp_unotify(2)`, Linux 5.9).
//!
//! The launcher installs a filter ([`crate::os::call_filter`]) that reports `bind` (and `unlink`, for unix
//! sockets; behind a fence, every call that names an address) and lets the others through. The keeper
//! holds the filter's descriptor, reads what the program asked for, and either puts a socket of ours
//! in the place of the program's, or refuses, or lets the call go on untouched. If the descriptor is
//! closed, later calls fail with `ENOSYS`: it is held as long as a process runs under the filter.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use crate::os::options;
use crate::os::proc;
use crate::os::recover;
use crate::os::wish::{self, Wish};

/// A call that waits for its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    id: u64,
    /// The calling thread, of the program or of one of its descendants.
    pub pid: i32,
    /// What it wants.
    pub wish: Wish,
}

/// A program's own socket, as far as it matters for what takes its place.
#[derive(Debug)]
pub struct Own {
    /// The same open socket as the program's.
    pub socket: OwnedFd,
    cloexec: bool,
    /// `SOCK_STREAM`, or datagrams.
    pub is_stream: bool,
}

/// The state of a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// A call waits for its answer.
    Call,
    /// None does.
    Nothing,
    /// No process runs under it any more.
    Nobody,
}

/// Asks a filter without waiting.
///
/// # Errors
/// `poll(2)`'s.
pub fn waiting(filter: impl AsFd) -> io::Result<Waiting> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let filter = filter.as_fd();
    let mut fds = [PollFd::from_borrowed_fd(filter, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    let seen = fds[0].revents();
    Ok(if seen.contains(PollFlags::IN) {
        Waiting::Call
    } else if seen.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
        Waiting::Nobody
    } else {
        Waiting::Nothing
    })
}

/// The next call that waits. `None` when it went away meanwhile.
///
/// # Errors
/// `ioctl(2)`'s.
pub fn receive(filter: impl AsFd) -> io::Result<Option<Call>> {
    let zero = libc::seccomp_data { nr: 0, arch: 0, instruction_pointer: 0, args: [0; 6] };
    let mut notice = libc::seccomp_notif { id: 0, pid: 0, flags: 0, data: zero };
    // SAFETY: the kernel fills in one `seccomp_notif`, zeroed as it demands.
    let result = unsafe {
        libc::ioctl(filter.as_fd().as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut notice)
    };
    if result != 0 {
        let error = io::Error::last_os_error();
        let gone = matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR));
        return if gone { Ok(None) } else { Err(error) };
    }
    let pid = i32::try_from(notice.pid).unwrap_or(0);
    Ok(Some(Call { id: notice.id, pid, wish: wish::of(pid, &notice.data) }))
}

impl Call {
    /// The program's own socket.
    ///
    /// # Errors
    /// The system's, when it may not be looked at.
    pub fn own(&self, fd: RawFd) -> io::Result<Own> {
        let process = proc::pidfd(leader(self.pid)?)?;
        let socket = recover::descriptor(&process, fd)?;
        let kind = rustix::net::sockopt::socket_type(&socket)?;
        let info = std::fs::read_to_string(format!("/proc/{}/fdinfo/{fd}", self.pid));
        let flags = info.ok().and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("flags:"))?.trim().to_owned();
            i32::from_str_radix(&line, 8).ok()
        });
        let cloexec = flags.is_none_or(|flags| flags & libc::O_CLOEXEC != 0);
        Ok(Own { socket, cloexec, is_stream: kind == rustix::net::SocketType::STREAM })
    }

    /// Puts `slot` in the place of the program's own socket, with its manners, and lets the
    /// program's `bind()` succeed.
    ///
    /// # Errors
    /// The system's; the call still waits for an answer then.
    pub fn put(
        &self,
        filter: impl AsFd,
        fd: RawFd,
        own: &Own,
        slot: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let flags = rustix::fs::fcntl_getfl(&own.socket)?;
        // The flag lives in the open socket, and the program counts on its own.
        rustix::io::ioctl_fionbio(slot, flags.contains(rustix::fs::OFlags::NONBLOCK))?;
        options::copy(&own.socket, slot);
        let add = libc::seccomp_notif_addfd {
            id: self.id,
            flags: u32::try_from(libc::SECCOMP_ADDFD_FLAG_SETFD).unwrap_or(1),
            srcfd: u32::try_from(slot.as_raw_fd()).unwrap_or(u32::MAX),
            newfd: u32::try_from(fd).unwrap_or(u32::MAX),
            newfd_flags: if own.cloexec { u32::try_from(libc::O_CLOEXEC).unwrap_or(0) } else { 0 },
        };
        // SAFETY: the kernel reads one `seccomp_notif_addfd`.
        let result = unsafe {
            libc::ioctl(filter.as_fd().as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ADDFD, &raw const add)
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        self.succeed(filter)
    }

    /// The call returns 0 without having been carried out.
    ///
    /// # Errors
    /// `ioctl(2)`'s.
    pub fn succeed(&self, filter: impl AsFd) -> io::Result<()> {
        self.return_with(filter, 0)
    }

    /// The call returns this number without having been carried out.
    ///
    /// # Errors
    /// `ioctl(2)`'s.
    pub fn return_with(&self, filter: impl AsFd, val: i64) -> io::Result<()> {
        self.send(filter, libc::seccomp_notif_resp { val, ..self.answer() })
    }

    /// The call fails without having been carried out.
    ///
    /// # Errors
    /// `ioctl(2)`'s.
    pub fn fail(&self, filter: impl AsFd, errno: i32) -> io::Result<()> {
        self.send(filter, libc::seccomp_notif_resp { error: -errno.abs(), ..self.answer() })
    }

    /// The process that the calling thread belongs to, and its name.
    #[must_use]
    pub fn caller(&self) -> (i32, String) {
        let pid = leader(self.pid).unwrap_or(self.pid);
        (pid, proc::name(pid).unwrap_or_default())
    }

    /// The call goes on as if it had not been intercepted.
    ///
    /// # Errors
    /// `ioctl(2)`'s.
    pub fn go_on(&self, filter: impl AsFd) -> io::Result<()> {
        let flags = u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).unwrap_or(1);
        self.send(filter, libc::seccomp_notif_resp { flags, ..self.answer() })
    }

    fn answer(&self) -> libc::seccomp_notif_resp {
        libc::seccomp_notif_resp { id: self.id, val: 0, error: 0, flags: 0 }
    }

    fn send(&self, filter: impl AsFd, answer: libc::seccomp_notif_resp) -> io::Result<()> {
        // SAFETY: the kernel reads one `seccomp_notif_resp`.
        let result = unsafe {
            libc::ioctl(
                filter.as_fd().as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_SEND,
                &raw const answer,
            )
        };
        match result {
            0 => Ok(()),
            _ => match io::Error::last_os_error() {
                // The calling thread is gone; there is no call to answer.
                error if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
                error => Err(error),
            },
        }
    }
}

/// The process a thread belongs to: a pidfd names processes.
fn leader(thread: i32) -> io::Result<i32> {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    line.and_then(|text| text.trim().parse().ok()).ok_or(io::ErrorKind::InvalidData.into())
}
