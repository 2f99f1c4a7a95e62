//! Which calls of a program the kernel reports (`seccomp_unotify(2)`), and which it refuses itself.
//!
//! Every other call is let through, and the kernel caches that decision, so other calls cost nothing
//! (Linux 5.11).

use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::sync::mpsc;

use crate::os::scm;

/// A machine's calls that matter here: `AUDIT_ARCH_*` of linux/audit.h and its numbers.
#[derive(Debug)]
pub struct Machine {
    arch: u32,
    /// Bytes of its pointers.
    pub pointer_bytes: usize,
    /// `bind`.
    pub bind: u32,
    /// `unlink`, where there is not only `unlinkat`.
    pub unlink: Option<u32>,
    /// `unlinkat`.
    pub unlinkat: u32,
    /// `connect`.
    pub connect: u32,
    /// `sendto`.
    pub sendto: u32,
    /// `sendmsg`.
    pub sendmsg: u32,
    /// `sendmmsg`.
    pub sendmmsg: u32,
}

/// A 64-bit kernel runs 32-bit programs too. Old 32-bit x86 programs that bind through
/// `socketcall` are not seen; behind a fence that is refused, as their connections are.
const MACHINES: [Machine; 4] = [X86_64, I386, AARCH64, ARM];
const X86_64: Machine = Machine {
    arch: 0xc000_003e,
    pointer_bytes: 8,
    bind: 49,
    unlink: Some(87),
    unlinkat: 263,
    connect: 42,
    sendto: 44,
    sendmsg: 46,
    sendmmsg: 307,
};
const I386: Machine = Machine {
    arch: 0x4000_0003,
    pointer_bytes: 4,
    bind: 361,
    unlink: Some(10),
    unlinkat: 301,
    connect: 362,
    sendto: 369,
    sendmsg: 370,
    sendmmsg: 345,
};
const AARCH64: Machine = Machine {
    arch: 0xc000_00b7,
    pointer_bytes: 8,
    bind: 200,
    unlink: None,
    unlinkat: 35,
    connect: 203,
    sendto: 206,
    sendmsg: 211,
    sendmmsg: 269,
};
const ARM: Machine = Machine {
    arch: 0x4000_0028,
    pointer_bytes: 4,
    bind: 282,
    unlink: Some(10),
    unlinkat: 328,
    connect: 283,
    sendto: 290,
    sendmsg: 296,
    sendmmsg: 374,
};

/// The same on every machine. Its calls are made by the kernel itself, past every filter.
const IO_URING_SETUP: u32 = 425;
/// 32-bit x86: all calls of sockets in one, told apart by the first argument.
const SOCKETCALL: u32 = 102;
/// `bind`, `connect`, `sendto`, `sendmsg`, `sendmmsg` as first argument of `socketcall` (linux/net.h).
const SOCKETCALLS: [u32; 5] = [2, 3, 11, 16, 20];
/// x86_64: calls of programs with 32-bit pointers, with numbers from here on.
const X32: u32 = 0x4000_0000;

/// What is reported beside `bind`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Programs remove a socket's path before they bind it; the path is ours, and stays.
    pub unlink: bool,
    /// Calls that name an address to reach. What could go around the filter is refused.
    pub reach: bool,
}

/// The machine with this `AUDIT_ARCH_*`.
#[must_use]
pub fn machine(arch: u32) -> Option<&'static Machine> {
    MACHINES.iter().find(|machine| machine.arch == arch)
}

/// `AUDIT_ARCH_*` of the machine this program is built for, where it is in the table.
#[must_use]
pub fn own_arch() -> Option<u32> {
    match std::env::consts::ARCH {
        "x86_64" => Some(X86_64.arch),
        "x86" => Some(I386.arch),
        "aarch64" if cfg!(target_endian = "little") => Some(AARCH64.arch),
        "arm" if cfg!(target_endian = "little") => Some(ARM.arch),
        _ => None,
    }
}

/// Whether programs of this machine are in the table: behind a fence, others make no call at all.
#[must_use]
pub fn is_known_machine() -> bool {
    cfg!(target_endian = "little")
        && matches!(std::env::consts::ARCH, "x86_64" | "x86" | "aarch64" | "arm")
}

/// Whether this kernel reports calls, and lets them be answered.
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

/// Puts this thread under a filter, for ever and with all its descendants, and sends the filter's
/// descriptor through a socket. It wants `CAP_SYS_ADMIN` or `no_new_privs`. A thread without the
/// filter does the sending: behind a fence it is one of the calls that wait for an answer.
///
/// # Errors
/// `seccomp(2)`'s, or those of the socket.
pub fn install(report: Report, socket: &OwnedFd) -> io::Result<()> {
    let (give, take) = mpsc::channel::<OwnedFd>();
    std::thread::scope(|scope| {
        let hand_over =
            std::thread::Builder::new().spawn_scoped(scope, move || match take.recv() {
                Ok(filter) => scm::send(socket, b"filter", &[filter.as_fd()]),
                Err(_) => Ok(()),
            })?;
        let installed = enter(report).map(|filter| drop(give.send(filter)));
        drop(give);
        let handed_over = hand_over.join().unwrap_or(Err(io::ErrorKind::BrokenPipe.into()));
        installed.and(handed_over)
    })
}

/// The descriptor is close-on-exec.
fn enter(report: Report) -> io::Result<OwnedFd> {
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

pub(super) const LOAD: u16 = 0x20;
pub(super) const JUMP_EQUAL: u16 = 0x15;
const JUMP_FROM: u16 = 0x35;
pub(super) const RETURN: u16 = 0x06;
/// `struct seccomp_data`: the number of the call, the machine, and the arguments from 16 on.
pub(super) const NUMBER: u32 = 0;
pub(super) const ARCH: u32 = 4;

pub(super) const fn step(code: u16, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

/// The lower half of an argument; the upper one is 4 further on, as all machines of the table have
/// it.
const fn argument(n: u32) -> u32 {
    16 + 8 * n
}

const NOTIFY: libc::sock_filter = step(RETURN, libc::SECCOMP_RET_USER_NOTIF, 0, 0);
pub(super) const ALLOW: libc::sock_filter = step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0);

pub(super) const fn refuse(errno: i32) -> libc::sock_filter {
    step(RETURN, libc::SECCOMP_RET_ERRNO | errno.unsigned_abs(), 0, 0)
}

/// The architecture is looked at first: numbers mean something else on each.
fn filter(report: Report) -> Vec<libc::sock_filter> {
    let mut program = vec![step(LOAD, ARCH, 0, 0)];
    for machine in &MACHINES {
        let block = block(machine, report);
        // Skipped on another machine.
        program.push(step(JUMP_EQUAL, machine.arch, 0, u8::try_from(block.len()).unwrap_or(0)));
        program.extend(block);
    }
    program.push(if report.reach { refuse(libc::ENOSYS) } else { ALLOW });
    program
}

/// What is decided on one machine.
fn block(machine: &Machine, report: Report) -> Vec<libc::sock_filter> {
    let mut block = vec![step(LOAD, NUMBER, 0, 0)];
    if report.reach && machine.arch == X86_64.arch {
        block.extend([step(JUMP_FROM, X32, 0, 1), refuse(libc::ENOSYS)]);
    }
    let mut on = |number: u32, then: &[libc::sock_filter]| {
        block.push(step(JUMP_EQUAL, number, 0, u8::try_from(then.len()).unwrap_or(0)));
        block.extend_from_slice(then);
    };
    on(machine.bind, &[NOTIFY]);
    if report.unlink {
        for number in machine.unlink.into_iter().chain([machine.unlinkat]) {
            on(number, &[NOTIFY]);
        }
    }
    if report.reach {
        for number in [machine.connect, machine.sendmsg, machine.sendmmsg] {
            on(number, &[NOTIFY]);
        }
        // Without an address it is a plain send.
        let half = argument(4);
        let addressed = [
            step(LOAD, half, 0, 0),
            step(JUMP_EQUAL, 0, 0, 2),
            step(LOAD, half + 4, 0, 0),
            step(JUMP_EQUAL, 0, 1, 0),
            NOTIFY,
            ALLOW,
        ];
        on(machine.sendto, &addressed);
        on(IO_URING_SETUP, &[refuse(libc::ENOSYS)]);
        if machine.arch == I386.arch {
            let mut refused = vec![step(LOAD, argument(0), 0, 0)];
            for number in SOCKETCALLS {
                refused.extend([step(JUMP_EQUAL, number, 0, 1), refuse(libc::EACCES)]);
            }
            refused.push(ALLOW);
            on(SOCKETCALL, &refused);
        }
    }
    block.push(ALLOW);
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel's machine, as far as the filter uses it: the verdict for a call.
    fn verdict(filter: &[libc::sock_filter], arch: u32, nr: u32, args: [u64; 6]) -> u32 {
        let load = |at: u32| match at {
            NUMBER => nr,
            ARCH => arch,
            at => {
                let arg = args[usize::try_from((at - 16) / 8).unwrap()];
                if at % 8 == 0 { arg as u32 } else { (arg >> 32) as u32 }
            }
        };
        let (mut at, mut a) = (0, 0);
        loop {
            let step = filter[at];
            at += 1;
            match step.code {
                LOAD => a = load(step.k),
                JUMP_EQUAL => at += usize::from(if a == step.k { step.jt } else { step.jf }),
                JUMP_FROM => at += usize::from(if a >= step.k { step.jt } else { step.jf }),
                _ => return step.k,
            }
        }
    }

    const AMD64: u32 = 0xc000_003e;
    const ARM64: u32 = 0xc000_00b7;
    const ARM32: u32 = 0x4000_0028;
    const X86: u32 = 0x4000_0003;
    const BIND: Report = Report { unlink: false, reach: false };
    const FENCE: Report = Report { unlink: false, reach: true };

    #[test]
    fn only_the_calls_of_their_own_machine_are_reported() {
        for (arch, nr, bind, both) in [
            (AMD64, 49, true, true),
            (AMD64, 200, false, false),
            (AMD64, 87, false, true),
            (AMD64, 263, false, true),
            (AMD64, 50, false, false),
            (AMD64, 42, false, false),
            (ARM64, 200, true, true),
            (ARM64, 49, false, false),
            (ARM64, 35, false, true),
            (ARM32, 282, true, true),
            (ARM32, 10, false, true),
            (0x1234, 49, false, false),
        ] {
            let wanted = |reported| {
                if reported { libc::SECCOMP_RET_USER_NOTIF } else { libc::SECCOMP_RET_ALLOW }
            };
            let reported = verdict(&filter(BIND), arch, nr, [0; 6]);
            assert_eq!(reported, wanted(bind), "{arch:x} {nr}");
            let unlink = Report { unlink: true, ..BIND };
            let reported = verdict(&filter(unlink), arch, nr, [0; 6]);
            assert_eq!(reported, wanted(both), "{arch:x} {nr}");
        }
    }

    #[test]
    fn a_fence_sees_every_call_that_names_an_address() {
        let errno = |number: i32| libc::SECCOMP_RET_ERRNO | number.unsigned_abs();
        let (notify, allow) = (libc::SECCOMP_RET_USER_NOTIF, libc::SECCOMP_RET_ALLOW);
        let none = [0; 6];
        let addressed = [3, 0x1000, 5, 0, 0x7fff_0000_0000, 16];
        let low = [3, 0x1000, 5, 0, 0x1000, 16];
        for (arch, nr, args, expected) in [
            (AMD64, 42, none, notify),
            (AMD64, 44, none, allow),
            (AMD64, 44, addressed, notify),
            (AMD64, 44, low, notify),
            (AMD64, 46, none, notify),
            (AMD64, 307, none, notify),
            (AMD64, 49, none, notify),
            (AMD64, 0, addressed, allow),
            (AMD64, 425, none, errno(libc::ENOSYS)),
            // The same calls of a program with 32-bit pointers.
            (AMD64, X32 + 42, none, errno(libc::ENOSYS)),
            (AMD64, X32 + 518, none, errno(libc::ENOSYS)),
            (ARM64, 203, none, notify),
            (ARM64, 206, low, notify),
            (ARM64, 206, none, allow),
            (ARM64, 425, none, errno(libc::ENOSYS)),
            (ARM32, 283, none, notify),
            (ARM32, 374, none, notify),
            (X86, 362, none, notify),
            (X86, 370, none, notify),
            (X86, 102, [2, 0, 0, 0, 0, 0], errno(libc::EACCES)),
            (X86, 102, [3, 0, 0, 0, 0, 0], errno(libc::EACCES)),
            (X86, 102, [20, 0, 0, 0, 0, 0], errno(libc::EACCES)),
            (X86, 102, [1, 0, 0, 0, 0, 0], allow),
            (0x1234, 42, none, errno(libc::ENOSYS)),
        ] {
            assert_eq!(verdict(&filter(FENCE), arch, nr, args), expected, "{arch:x} {nr} {args:?}");
        }
    }
}
