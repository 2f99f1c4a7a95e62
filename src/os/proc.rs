//! Processes: their identity, what descends from them, what they hold (`proc(5)`, `pidfd_open(2)`).
//!
//! A process is its pid and its start time; a signal goes through a pidfd that was opened and then
//! checked against both, so that it can never reach a stranger with a used-again pid.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::SigSet;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use serde::{Deserialize, Serialize};

use crate::core::ordered::Ordered as _;
pub use crate::os::names::{Account, account, group, own_user, user};

/// The environment name that marks every process of a child.
pub const TOKEN: &str = "HALLEY_CHILD";

/// The identity of a process. A pid alone is never trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Process id.
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat`: start time in clock ticks since boot.
    pub start_ticks: u64,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
}

impl Identity {
    /// Whether it is this process that has the number, and has not ended.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        start_ticks(self.pid).is_ok_and(|start| start == self.start_ticks)
            && !is_zombie(self.pid)
            && boot_id().is_ok_and(|boot_id| boot_id == self.boot_id)
    }
}

/// The kernel's name of this boot.
///
/// # Errors
/// When `/proc` is not there.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Field 22 of `/proc/PID/stat`: when the process was started, in clock ticks since boot.
///
/// # Errors
/// When there is no such process.
pub fn start_ticks(pid: i32) -> io::Result<u64> {
    field(pid, 22)?.parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}

/// The parent of a process.
///
/// # Errors
/// When there is no such process.
pub fn parent(pid: i32) -> io::Result<i32> {
    field(pid, 4)?.parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}

/// Threads of a process.
///
/// # Errors
/// When there is no such process.
pub fn n_threads(pid: i32) -> io::Result<u64> {
    field(pid, 20)?.parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}

/// Whether the process has ended and waits to be reaped.
#[must_use]
pub fn is_zombie(pid: i32) -> bool {
    field(pid, 3).is_ok_and(|state| state == "Z" || state == "X")
}

/// What the first thread of a process is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pulse {
    /// `R`, `S`, `D`, `T`, `t` or another of `proc_pid_stat(5)`.
    pub state: char,
    /// Its CPU time so far, in clock ticks.
    pub cpu_ticks: u64,
}

/// Looks at the first thread of a process; other threads may be at work meanwhile.
///
/// # Errors
/// When there is no such process.
pub fn pulse(pid: i32) -> io::Result<Pulse> {
    let field = |number| field_of(&format!("/proc/{pid}/task/{pid}/stat"), number);
    let ticks = |number| Ok::<u64, io::Error>(field(number)?.parse().unwrap_or(0));
    let state = field(3)?.chars().next().unwrap_or('?');
    Ok(Pulse { state, cpu_ticks: ticks(14)? + ticks(15)? })
}

/// A numbered field of `/proc/PID/stat`.
fn field(pid: i32, number: usize) -> io::Result<String> {
    field_of(&format!("/proc/{pid}/stat"), number)
}

/// The second field, the name, may hold blanks and brackets.
fn field_of(stat: &str, number: usize) -> io::Result<String> {
    let stat = fs::read_to_string(stat)?;
    let after_name = stat.rsplit_once(") ").map(|(_, rest)| rest);
    let value = after_name.and_then(|rest| rest.split(' ').nth(number - 3));
    value.map(str::to_owned).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The identity of a running process.
///
/// # Errors
/// When there is no such process.
pub fn identity(pid: i32) -> io::Result<Identity> {
    Ok(Identity { pid, start_ticks: start_ticks(pid)?, boot_id: boot_id()? })
}

/// A descriptor for a process (Linux 5.3).
///
/// # Errors
/// When there is no such process.
pub fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// Whether the process of this descriptor has ended, reaped or not. Asks without waiting.
#[must_use]
pub fn has_ended(process: &OwnedFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|n| n > 0)
}

/// Sends a signal to exactly this process, or to none.
///
/// # Errors
/// `pidfd_send_signal(2)`'s; `Ok` when it is gone.
pub fn signal(pid: i32, start: u64, number: i32) -> io::Result<()> {
    let Ok(fd) = pidfd(pid) else { return Ok(()) };
    if start_ticks(pid).ok() != Some(start) {
        return Ok(());
    }
    let signal = Signal::from_named_raw(number).ok_or(io::ErrorKind::InvalidInput)?;
    match pidfd_send_signal(&fd, signal) {
        Err(rustix::io::Errno::SRCH) => Ok(()),
        sent => Ok(sent?),
    }
}

/// Every process there is.
#[must_use]
pub fn all() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// A process and all that descend from it through living parents.
#[must_use]
pub fn tree(root: i32) -> BTreeSet<i32> {
    tree_in(&parents(), root)
}

/// Every process with its parent.
#[must_use]
pub fn parents() -> Vec<(i32, i32)> {
    all().into_iter().filter_map(|pid| Some((pid, parent(pid).ok()?))).collect()
}

/// A process and all that descend from it, in a list of [`parents`].
#[must_use]
pub fn tree_in(parents: &[(i32, i32)], root: i32) -> BTreeSet<i32> {
    let mut tree = BTreeSet::from([root]);
    loop {
        let n = tree.len();
        let more: Vec<i32> =
            parents.iter().filter(|(_, up)| tree.contains(up)).map(|(pid, _)| *pid).collect();
        tree.extend(more);
        if tree.len() == n {
            return tree;
        }
    }
}

/// Processes of the session that this one began (`setsid(2)`); none once its number is another's.
#[must_use]
pub fn session(leader: &Identity) -> BTreeSet<i32> {
    let is_another = start_ticks(leader.pid).is_ok_and(|start| start != leader.start_ticks);
    if is_another || boot_id().ok().as_ref() != Some(&leader.boot_id) {
        return BTreeSet::new();
    }
    let number = leader.pid.to_string();
    let is_member = |pid: &i32| {
        field(*pid, 6).is_ok_and(|session| session == number)
            && start_ticks(*pid).is_ok_and(|start| start >= leader.start_ticks)
    };
    all().into_iter().filter(is_member).into_set()
}

/// The working directory of a process, as it sees it.
#[must_use]
pub fn cwd(pid: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

/// Inodes of the sockets a process has open.
#[must_use]
pub fn socket_inodes(pid: i32) -> BTreeSet<u64> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return BTreeSet::new() };
    let links = entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    links
        .filter_map(|link| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok())
        .into_set()
}

/// What this process has of addresses.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn own_size_bytes() -> io::Result<u64> {
    let statm = fs::read_to_string("/proc/self/statm")?;
    let pages = statm.split(' ').next().and_then(|text| text.parse::<u64>().ok());
    Ok(pages.ok_or(io::ErrorKind::InvalidData)? * rustix::param::page_size() as u64)
}

/// Resident memory of a process, 0 when it is gone.
#[must_use]
pub fn rss_bytes(pid: i32) -> u64 {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

/// The short name of a process.
#[must_use]
pub fn name(pid: i32) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim().to_owned())
}

/// The user whose process it is, by name where there is one.
#[must_use]
pub fn owner(pid: i32) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    let uid: u32 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    let known = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)).ok().flatten();
    Some(known.map_or_else(|| uid.to_string(), |user| user.name))
}

/// The systemd unit of a process that is a service of its own, not one of this process.
#[must_use]
pub fn unit(pid: i32) -> Option<String> {
    let of = |pid: &str| {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let last = groups.lines().find_map(|line| line.rsplit('/').next()).map(str::to_owned);
        last.filter(|name| name.ends_with(".service"))
    };
    let unit = of(&pid.to_string())?;
    (of("self").as_ref() != Some(&unit)).then_some(unit)
}

/// Whether it is a thread of the kernel (`PF_KTHREAD`).
#[must_use]
pub fn is_kernel_thread(pid: i32) -> bool {
    let flags = field(pid, 9).ok().and_then(|flags| flags.parse::<u64>().ok());
    flags.is_some_and(|flags| flags & 0x0020_0000 != 0)
}

/// The parent of this process.
#[must_use]
pub fn own_parent() -> i32 {
    rustix::process::getppid().map_or(0, Pid::as_raw_pid)
}

/// Has a command's process killed when the thread that starts it ends, whatever ends it
/// (`PR_SET_PDEATHSIG`, Linux 2.1.57). What it starts itself is not reached.
pub fn die_with_parent(command: &mut Command) {
    let parent = rustix::process::getpid();
    let in_child = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // It may have ended before the child could ask.
        if rustix::process::getppid() == Some(parent) {
            Ok(())
        } else {
            Err(io::ErrorKind::NotConnected.into())
        }
    };
    // SAFETY: between fork and exec the closure makes two system calls and allocates nothing.
    unsafe {
        command.pre_exec(in_child);
    }
}

/// From here on, orphans below this process become its children (Linux 3.4).
///
/// # Errors
/// `prctl(2)`'s.
pub fn become_subreaper() -> io::Result<()> {
    let this = rustix::process::getpid();
    Ok(rustix::process::set_child_subreaper(Some(this))?)
}

/// Lets this process have as many open files as it may. Returns how many it had before: the soft limit is for
/// programs with `select(2)`, and children inherit it.
pub fn raise_file_limit() -> Option<u64> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    if let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        tracing::warn!(%error, "raising the limit of open files");
        return None;
    }
    Some(soft)
}

/// Gives this process the soft limit of open files that another one had.
///
/// # Errors
/// `setrlimit(2)`'s.
pub fn limit_files(soft: u64) -> io::Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, soft.min(hard), hard)?)
}

/// Uses as many descriptors as the hard limit allows.
pub fn use_all_files() {
    drop(limit_files(u64::MAX));
}

/// With fewer than this there is nothing to leave.
const FILES_MIN: u64 = 128;

/// Leaves a third of all descriptors unused: a supervisor has two for each that its keeper has, and the
/// next one has to receive each once more while it takes over.
pub fn leave_files() {
    use nix::sys::resource::{Resource, getrlimit};
    let hard = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(_, hard)| hard);
    drop(limit_files((hard - hard / 3).max(hard.min(FILES_MIN))));
}

/// How much less likely than others a process is to be killed when memory runs out.
const SPARED: i32 = -900;
const OOM: &str = "/proc/self/oom_score_adj";

/// Has this process spared when memory runs out: the programs go first. Returns what it had before, when it
/// may do so (`CAP_SYS_RESOURCE`); children inherit it.
pub fn spare_from_oom() -> Option<i32> {
    let before: i32 = std::fs::read_to_string(OOM).ok()?.trim().parse().ok()?;
    (before > SPARED && std::fs::write(OOM, SPARED.to_string()).is_ok()).then_some(before)
}

/// Gives this process the place in that order that another one had.
///
/// # Errors
/// `proc(5)`'s.
pub fn adjust_oom_score(to: i32) -> io::Result<()> {
    std::fs::write(OOM, to.to_string())
}

/// Runs `action` in the signal's handler: it may do nothing but touch atomics.
///
/// # Errors
/// `sigaction(2)`'s.
pub fn on_signal(number: i32, action: impl Fn() + Send + Sync + 'static) -> io::Result<()> {
    // SAFETY: all actions passed in only store to atomics, which is async-signal-safe.
    unsafe { signal_hook::low_level::register(number, action) }.map(drop)
}

/// Signals that ask this process for something wait until [`let_signals_come`], also for another program
/// that it becomes.
pub fn hold_signals() {
    warn(asking().thread_block());
}

/// Those that have waited come, and others at once.
pub fn let_signals_come() {
    warn(asking().thread_unblock());
}

fn warn(done: nix::Result<()>) {
    if let Err(error) = done {
        tracing::error!(%error, "changing which signals come");
    }
}

fn asking() -> SigSet {
    use nix::sys::signal::Signal::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
    [SIGHUP, SIGINT, SIGTERM, SIGUSR1].into_iter().collect()
}

/// An inherited descriptor whose number is in this environment variable.
///
/// # Errors
/// When there is none, or it is not a socket.
pub fn inherited(variable: &str) -> io::Result<OwnedFd> {
    let missing = || io::Error::new(io::ErrorKind::NotFound, format!("{variable} is not set"));
    let text = std::env::var(variable).map_err(|_| missing())?;
    inherited_number(text.parse().map_err(|_| missing())?)
}

/// An inherited socket of this number.
///
/// # Errors
/// When it is not open, or not a socket.
pub fn inherited_number(number: i32) -> io::Result<OwnedFd> {
    if number < 3 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: only borrowed, to look at it; a number that is not open is an error of fstat(2).
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(borrowed)?.st_mode);
    if kind != rustix::fs::FileType::Socket {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a socket"));
    }
    // A copy of our own; the inherited number is left to itself, close-on-exec.
    rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC)?;
    Ok(rustix::io::fcntl_dupfd_cloexec(borrowed, 3)?)
}

/// Takes the sockets from descriptor 3 on out of the environment's hands: their numbers are owned
/// from here on, so that dropping one closes it. Once in the life of a process, before it opens
/// anything.
///
/// # Errors
/// With the number that is not open, or not a socket, or was taken before.
pub fn take_inherited(n_sockets: i32) -> Result<Vec<OwnedFd>, (i32, io::Error)> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Err((3, io::ErrorKind::AlreadyExists.into()));
    }
    let check = |number| inherited_number(number).map(drop).map_err(|error| (number, error));
    (3..3 + n_sockets).try_for_each(check)?;
    // SAFETY: all are open, were put there by the process that started this one, and no code here
    // has taken them: this is the only place that does, and it has not been here before.
    Ok((3..3 + n_sockets).map(|number| unsafe { OwnedFd::from_raw_fd(number) }).collect())
}

/// Whether a process still has a socket open. What cannot be seen counts as open, because the
/// socket is about to be given to another process.
#[must_use]
pub fn has_socket(process: &Identity, inode: u64) -> bool {
    let is_there = || start_ticks(process.pid).ok() == Some(process.start_ticks);
    let wanted = format!("socket:[{inode}]");
    // One that vanishes while it is read may have become another number.
    for _ in 0..100 {
        if !is_there() || is_zombie(process.pid) {
            return false;
        }
        let Ok(entries) = fs::read_dir(format!("/proc/{}/fd", process.pid)) else {
            return is_there() && !is_zombie(process.pid);
        };
        let links: io::Result<Vec<_>> =
            entries.map(|entry| entry.and_then(|entry| fs::read_link(entry.path()))).collect();
        if let Ok(links) = links {
            return links.iter().any(|link| link.as_os_str() == wanted.as_str());
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_pid_and_start_and_a_signal_reaches_no_other() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let who = identity(pid).unwrap();
        assert!(tree(i32::try_from(std::process::id()).unwrap()).contains(&pid));
        signal(pid, who.start_ticks + 1, 9).unwrap();
        assert!(child.try_wait().unwrap().is_none(), "another start time is another process");
        signal(pid, who.start_ticks, 9).unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_socket_is_seen_as_long_as_the_process_has_it() {
        let own = identity(i32::try_from(std::process::id()).unwrap()).unwrap();
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let inode = crate::os::listen::inode(&socket).unwrap();
        assert!(has_socket(&own, inode));
        let another = Identity { start_ticks: own.start_ticks + 1, ..own.clone() };
        assert!(!has_socket(&another, inode), "another start time is another process");
        drop(socket);
        assert!(!has_socket(&own, inode));
    }
}
