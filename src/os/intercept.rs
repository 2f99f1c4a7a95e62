//! A program's own `bind()`, answered by us (`seccomp_unotify(2)`, Linux 5.9).
//!
//! The launcher installs a filter that reports `bind` (and `unlink`, for unix sockets) and lets
//! every other call through; the kernel caches that decision, so other calls cost nothing (Linux
//! 5.11). The keeper holds the filter's descriptor, reads what the program asked for, and either
//! puts a socket of ours in the place of the program's or lets the call go on untouched. If the
//! descriptor is closed, later binds fail with `ENOSYS`: it is held as long as a process runs under
//! the filter.

use std::io;
use std::mem::size_of;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use crate::os::options;
use crate::os::proc;

/// A machine's calls that matter here: `AUDIT_ARCH_*` of linux/audit.h and its numbers of `bind`,
/// `unlink` (`None` where there is only `unlinkat`) and `unlinkat`.
struct Machine {
    arch: u32,
    bind: u32,
    unlink: Option<u32>,
    unlinkat: u32,
}

/// A 64-bit kernel runs 32-bit programs too. Old 32-bit x86 programs that bind through
/// `socketcall` are not seen.
const MACHINES: [Machine; 4] = [
    Machine { arch: 0xc000_003e, bind: 49, unlink: Some(87), unlinkat: 263 }, // x86_64
    Machine { arch: 0x4000_0003, bind: 361, unlink: Some(10), unlinkat: 301 }, // i386
    Machine { arch: 0xc000_00b7, bind: 200, unlink: None, unlinkat: 35 },     // aarch64
    Machine { arch: 0x4000_0028, bind: 282, unlink: Some(10), unlinkat: 328 }, // arm
];

/// What else than `bind` is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// Nothing.
    Bind,
    /// Programs remove a socket's path before they bind it; the path is ours, and stays.
    BindAndUnlink,
}

/// A call that waits for its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    id: u64,
    /// The calling thread, of the program or of one of its descendants.
    pub pid: i32,
    /// What it wants.
    pub wish: Wish,
}

/// What a program wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Bind this descriptor of its own.
    Bind(RawFd, Wanted),
    /// Remove this path.
    Unlink(PathBuf),
    /// Something that is none of our business, or cannot be read.
    Other,
}

/// Where a program wants its socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// An internet address.
    Inet(SocketAddr),
    /// A path, made absolute.
    Unix(PathBuf),
}

/// A program's own socket, as far as it matters for what takes its place.
#[derive(Debug)]
pub struct Own {
    socket: OwnedFd,
    cloexec: bool,
    /// `SOCK_STREAM`, or datagrams.
    pub is_stream: bool,
}

/// Whether this kernel can do it.
#[must_use]
pub fn is_supported() -> bool {
    let mut sizes =
        libc::seccomp_notif_sizes { seccomp_notif: 0, seccomp_notif_resp: 0, seccomp_data: 0 };
    let mut action = libc::SECCOMP_RET_USER_NOTIF;
    // SAFETY: both operations only read or write the one argument that is passed.
    let (notify, sized) = unsafe {
        (
            seccomp(libc::SECCOMP_GET_ACTION_AVAIL, 0, (&raw mut action).cast()),
            seccomp(libc::SECCOMP_GET_NOTIF_SIZES, 0, (&raw mut sizes).cast()),
        )
    };
    // SECCOMP_IOCTL_NOTIF_ADDFD came with 5.9; pidfd_getfd with 5.6.
    notify == 0 && sized == 0 && version() >= (5, 9)
}

fn version() -> (u32, u32) {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

unsafe fn seccomp(
    operation: libc::c_uint,
    flags: libc::c_ulong,
    args: *mut libc::c_void,
) -> libc::c_long {
    // SAFETY: the caller answers for `args`.
    unsafe { libc::syscall(libc::SYS_seccomp, operation, flags, args) }
}

/// Puts this process under the filter, for ever and with all its descendants. It wants
/// `CAP_SYS_ADMIN` or `no_new_privs`. The descriptor is close-on-exec.
///
/// # Errors
/// `seccomp(2)`'s.
pub fn install(report: Report) -> io::Result<OwnedFd> {
    let mut filter = filter(report);
    let mut program = libc::sock_fprog {
        len: u16::try_from(filter.len()).unwrap_or(0),
        filter: filter.as_mut_ptr(),
    };
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    // SAFETY: the kernel copies the program before it returns.
    let fd = unsafe { seccomp(libc::SECCOMP_SET_MODE_FILTER, flags, (&raw mut program).cast()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap_or(-1)) })
}

/// The architecture is looked at first: numbers mean something else on each.
fn filter(report: Report) -> Vec<libc::sock_filter> {
    const LOAD: u16 = 0x20;
    const JUMP_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    // struct seccomp_data: nr at 0, arch at 4.
    let step = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    let notify = step(RETURN, libc::SECCOMP_RET_USER_NOTIF, 0, 0);
    let allow = step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0);
    let mut program = vec![step(LOAD, 4, 0, 0)];
    for machine in &MACHINES {
        let mut numbers = vec![machine.bind];
        if report == Report::BindAndUnlink {
            numbers.extend(machine.unlink.into_iter().chain([machine.unlinkat]));
        }
        let n = u8::try_from(numbers.len()).unwrap_or(0);
        // Load, one comparison each, allow, notify: skipped on another machine.
        program.push(step(JUMP_EQUAL, machine.arch, 0, n + 3));
        program.push(step(LOAD, 0, 0, 0));
        for (index, number) in (0..n).zip(numbers) {
            program.push(step(JUMP_EQUAL, number, n - index, 0));
        }
        program.extend([allow, notify]);
    }
    program.push(allow);
    program
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
    Ok(Some(Call { id: notice.id, pid, wish: wish(pid, &notice.data) }))
}

fn wish(pid: i32, data: &libc::seccomp_data) -> Wish {
    let nr = u32::try_from(data.nr).unwrap_or(u32::MAX);
    let Some(machine) = MACHINES.iter().find(|machine| machine.arch == data.arch) else {
        return Wish::Other;
    };
    let args = data.args;
    // Descriptors are ints; the upper half of the register has no meaning.
    let descriptor = |arg: u64| (arg & 0xffff_ffff) as u32 as RawFd;
    if nr == machine.bind {
        let length = usize::try_from(args[2] & 0xffff_ffff).unwrap_or(0);
        let wanted = memory(pid, args[1], length.min(size_of::<libc::sockaddr_storage>()))
            .and_then(|bytes| address(pid, &bytes));
        return wanted.map_or(Wish::Other, |wanted| Wish::Bind(descriptor(args[0]), wanted));
    }
    let (from, text) = match machine.unlink {
        Some(unlink) if unlink == nr => (libc::AT_FDCWD, args[0]),
        _ if nr == machine.unlinkat => (descriptor(args[0]), args[1]),
        _ => return Wish::Other,
    };
    let path = text_at(pid, text).and_then(|path| absolute(pid, from, &path));
    path.map_or(Wish::Other, Wish::Unlink)
}

/// A `struct sockaddr` as the program wrote it.
fn address(pid: i32, bytes: &[u8]) -> Option<Wanted> {
    let family = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?);
    let port = || Some(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?));
    match i32::from(family) {
        libc::AF_INET => {
            let ip = <[u8; 4]>::try_from(bytes.get(4..8)?).ok()?;
            Some(Wanted::Inet(SocketAddr::new(Ipv4Addr::from(ip).into(), port()?)))
        }
        libc::AF_INET6 => {
            let ip = <[u8; 16]>::try_from(bytes.get(8..24)?).ok()?;
            Some(Wanted::Inet(SocketAddr::new(Ipv6Addr::from(ip).into(), port()?)))
        }
        libc::AF_UNIX => {
            let path = bytes.get(2..)?;
            let end = path.iter().position(|byte| *byte == 0).unwrap_or(path.len());
            let text = std::str::from_utf8(path.get(..end)?).ok()?;
            // No text: unnamed or abstract.
            let path = (!text.is_empty()).then(|| PathBuf::from(text))?;
            absolute(pid, libc::AT_FDCWD, &path).map(Wanted::Unix)
        }
        _ => None,
    }
}

fn absolute(pid: i32, from: RawFd, path: &Path) -> Option<PathBuf> {
    let base = match from {
        _ if path.is_absolute() => return Some(path.to_owned()),
        libc::AT_FDCWD => format!("/proc/{pid}/cwd"),
        fd => format!("/proc/{pid}/fd/{fd}"),
    };
    let base = std::fs::read_link(base).ok()?;
    Some(base.join(path.strip_prefix("./").unwrap_or(path)))
}

fn text_at(pid: i32, at: u64) -> Option<PathBuf> {
    // Up to the end of its page first: what lies behind may not be mapped.
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    let first = usize::try_from(page - at % page).unwrap_or(0);
    let mut bytes = memory(pid, at, first.min(4096))?;
    if !bytes.contains(&0) {
        let more = at.checked_add(u64::try_from(bytes.len()).ok()?)?;
        bytes.extend(memory(pid, more, 4096 - bytes.len().min(4095)).unwrap_or_default());
    }
    let end = bytes.iter().position(|byte| *byte == 0)?;
    bytes.truncate(end);
    String::from_utf8(bytes).ok().map(PathBuf::from)
}

/// Reads another process's memory (`process_vm_readv(2)`; we are its ancestor).
fn memory(pid: i32, at: u64, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0_u8; length];
    let local = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: length };
    let remote = libc::iovec { iov_base: usize::try_from(at).ok()? as *mut _, iov_len: length };
    // SAFETY: the kernel writes at most `length` bytes into `bytes`; the remote address is only
    // ever looked at in the other process.
    let n = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    bytes.truncate(usize::try_from(n).ok()?);
    Some(bytes)
}

impl Call {
    /// The program's own socket.
    ///
    /// # Errors
    /// The system's, when it may not be looked at.
    pub fn own(&self, fd: RawFd) -> io::Result<Own> {
        let process = proc::pidfd(leader(self.pid)?)?;
        // SAFETY: pidfd_getfd(2) returns a new descriptor or an error.
        let got = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), fd, 0) };
        if got < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor that nothing else owns.
        let socket = unsafe { OwnedFd::from_raw_fd(i32::try_from(got).unwrap_or(-1)) };
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
        self.send(filter, 0)
    }

    /// The call goes on as if it had not been intercepted.
    ///
    /// # Errors
    /// `ioctl(2)`'s.
    pub fn go_on(&self, filter: impl AsFd) -> io::Result<()> {
        self.send(filter, u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).unwrap_or(1))
    }

    fn send(&self, filter: impl AsFd, flags: u32) -> io::Result<()> {
        let answer = libc::seccomp_notif_resp { id: self.id, val: 0, error: 0, flags };
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel's machine, as far as the filter uses it: the verdict for a call.
    fn verdict(filter: &[libc::sock_filter], arch: u32, nr: u32) -> u32 {
        let (mut at, mut a) = (0, 0);
        loop {
            let step = filter[at];
            at += 1;
            match step.code {
                0x20 => a = if step.k == 0 { nr } else { arch },
                0x15 => at += usize::from(if a == step.k { step.jt } else { step.jf }),
                _ => return step.k,
            }
        }
    }

    #[test]
    fn only_the_calls_of_their_own_machine_are_reported() {
        let (x86_64, aarch64, arm) = (0xc000_003e, 0xc000_00b7, 0x4000_0028);
        for (arch, nr, bind, both) in [
            (x86_64, 49, true, true),
            (x86_64, 200, false, false),
            (x86_64, 87, false, true),
            (x86_64, 263, false, true),
            (x86_64, 50, false, false),
            (aarch64, 200, true, true),
            (aarch64, 49, false, false),
            (aarch64, 35, false, true),
            (arm, 282, true, true),
            (arm, 10, false, true),
            (0x1234, 49, false, false),
        ] {
            let wanted = |reported| {
                if reported { libc::SECCOMP_RET_USER_NOTIF } else { libc::SECCOMP_RET_ALLOW }
            };
            assert_eq!(verdict(&filter(Report::Bind), arch, nr), wanted(bind), "{arch:x} {nr}");
            let reported = verdict(&filter(Report::BindAndUnlink), arch, nr);
            assert_eq!(reported, wanted(both), "{arch:x} {nr}");
        }
    }

    #[test]
    fn addresses_are_read_as_programs_write_them() {
        let me = std::process::id().cast_signed();
        let v4 = [2, 0, 0x1f, 0x90, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(address(me, &v4), Some(Wanted::Inet("127.0.0.1:8080".parse().unwrap())));
        let mut v6 = vec![10, 0, 0, 80, 0, 0, 0, 0];
        v6.extend([0; 20]);
        assert_eq!(address(me, &v6), Some(Wanted::Inet("[::]:80".parse().unwrap())));
        assert_eq!(address(me, b"\x01\0/a/b\0xx"), Some(Wanted::Unix("/a/b".into())));
        let here = std::env::current_dir().unwrap();
        assert_eq!(address(me, b"\x01\0./b"), Some(Wanted::Unix(here.join("b"))));
        for none in [b"\x01\0\0abstract".as_slice(), b"\x01\0", b"\x10\0aa", b"\x02"] {
            assert_eq!(address(me, none), None);
        }
    }

    #[test]
    fn a_path_is_read_from_another_place() {
        let text = std::ffi::CString::new("/run/x.sock").unwrap();
        let me = std::process::id().cast_signed();
        let at = text.as_ptr() as u64;
        assert_eq!(text_at(me, at), Some(PathBuf::from("/run/x.sock")));
        assert_eq!(text_at(me, 8), None);
    }
}
