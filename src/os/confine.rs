//! A process that gives up all rights before it reads what a stranger wrote: what it has open, some memory,
//! and nothing else.

use std::io;

use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetError, Scope};
use rustix::process::{Resource, Rlimit, geteuid, setrlimit};

use crate::os::call_filter::{self, ALLOW, ARCH, JUMP_EQUAL, LOAD, NUMBER, RETURN, refuse, step};
use crate::os::{self, proc};

/// The newest rights that are taken; an older kernel takes those that it knows.
const LANDLOCK: ABI = ABI::V6;

/// What is left: reading and writing what is open, memory, its own threads' locks and signals, its end.
const CALLS: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_brk,
    #[cfg(not(target_arch = "arm"))]
    libc::SYS_mmap,
    #[cfg(target_arch = "arm")]
    libc::SYS_mmap2,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Owns nothing, on every system.
const NOBODY: u32 = 65534;

/// Gives up all rights, for ever; root becomes nobody first. `memory_bytes` is what it may take beside
/// what it has.
///
/// # Errors
/// When the user, a limit or `no_new_privs` cannot be set; when the kernel has Landlock or seccomp and
/// refuses.
pub fn confine(memory_bytes: u64) -> io::Result<()> {
    let nothing = |resource| setrlimit(resource, Rlimit { current: Some(0), maximum: Some(0) });
    // This, and the ruleset, are files: they come before the limits.
    let most = Some(proc::own_size_bytes()? + memory_bytes);
    rustix::thread::set_no_new_privs(true)?;
    if geteuid().is_root() {
        become_nobody()?;
    }
    os::keep_private()?;
    restrict().map_err(|error| io::Error::other(format!("Landlock: {error}")))?;
    for resource in [Resource::Nproc, Resource::Fsize, Resource::Nofile, Resource::Core] {
        nothing(resource)?;
    }
    setrlimit(Resource::As, Rlimit { current: most, maximum: most })?;
    filter_calls()
}

/// The root of a user namespace that knows one user alone stays what it is: it has no rights outside.
fn become_nobody() -> io::Result<()> {
    use nix::errno::Errno;
    use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};
    let changed = setgroups(&[])
        .and_then(|()| setgid(Gid::from_raw(NOBODY)))
        .and_then(|()| setuid(Uid::from_raw(NOBODY)));
    match changed {
        Err(Errno::EINVAL | Errno::EPERM) => Ok(()),
        changed => Ok(changed?),
    }
}

/// No file, no port, no signal to others.
fn restrict() -> Result<(), RulesetError> {
    let ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .handle_access(AccessNet::from_all(LANDLOCK))?
        .scope(Scope::from_all(LANDLOCK))?;
    ruleset.create()?.restrict_self().map(drop)
}

/// Every call that is not in the list fails with `EPERM`; one by the numbers of another machine ends
/// the process. A kernel without filters, or an unknown machine, leaves the rest to the limits and to
/// Landlock.
fn filter_calls() -> io::Result<()> {
    let Some(arch) = call_filter::own_arch() else { return Ok(()) };
    let mut filter = vec![
        step(LOAD, ARCH, 0, 0),
        step(JUMP_EQUAL, arch, 1, 0),
        step(RETURN, libc::SECCOMP_RET_KILL_PROCESS, 0, 0),
        step(LOAD, NUMBER, 0, 0),
    ];
    for call in CALLS {
        let number = u32::try_from(*call).unwrap_or(u32::MAX);
        filter.extend([step(JUMP_EQUAL, number, 0, 1), ALLOW]);
    }
    filter.push(refuse(libc::EPERM));
    let len = u16::try_from(filter.len()).unwrap_or(0);
    let program = libc::sock_fprog { len, filter: filter.as_mut_ptr() };
    // SAFETY: the kernel copies the program before it returns.
    let done =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    match done {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
            error => Err(error),
        },
    }
}
