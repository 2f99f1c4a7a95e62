//! The launcher: plain code between `fork` and the program's own `execve`, single-threaded but for
//! the moment in which a filter is handed over.
//!
//! The keeper starts this same binary as a launcher; it takes its [`LaunchSpec`] from a memfd,
//! puts descriptors, limits, user and directory in place and becomes the program. What goes wrong
//! is written into a close-on-exec pipe; its end of file without data means that the program runs.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::pipe::{PipeFlags, pipe_with};
use serde::{Deserialize, Serialize};

use crate::json;
use crate::os::apart;
use crate::os::call_filter::{self, Report};
use crate::os::cgroup;
use crate::os::isolate;
use crate::os::launch_spec::{CatchAt, LaunchSpec};
use crate::os::limits;
use crate::os::mark;
use crate::os::names::LaunchUser;
use crate::os::proc;
use crate::os::scm;

/// The hidden verb of the launcher.
pub const VERB: &str = "launch-child";

/// The kept descriptors that become 0, 1 and 2.
#[derive(Debug, Default, Clone, Copy)]
pub struct Standard<'a> {
    /// 0; `/dev/null` when absent.
    pub input: Option<BorrowedFd<'a>>,
    /// 1; `/dev/null` when absent.
    pub output: Option<BorrowedFd<'a>>,
    /// 2; as 1 when absent.
    pub errors: Option<BorrowedFd<'a>>,
}

/// Stands for a descriptor that is not there.
const NONE: RawFd = -1;

/// Descriptors from this number on are never wanted by a program's sockets: at most 16 travel.
const OUT_OF_THE_WAY: RawFd = 32;

/// Why a program was not started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchError {
    /// The step that failed, such as `execve ./bin/web`.
    pub step: String,
    /// `errno`, 0 when the reason is not the kernel's.
    pub errno: i32,
    /// The reason in words.
    pub why: String,
}

/// A launcher under way.
#[derive(Debug)]
pub struct Launch {
    /// The process that will be the program: its pid stays the same.
    pub process: Child,
    /// Ends silently when the program runs; else a [`LaunchError`] comes out.
    pub errors: OwnedFd,
    /// Brings the filter's descriptor when the keeper answers calls of the program.
    pub filter: Option<OwnedFd>,
}

/// Starts a launcher. Call it from a single-threaded process only: the descriptors lose their
/// close-on-exec flag for the time of the `fork`.
///
/// # Errors
/// The system's, when no launcher could be started.
pub fn begin(
    spec: &LaunchSpec,
    listen: &[BorrowedFd<'_>],
    standard: Standard<'_>,
) -> io::Result<Launch> {
    let memory = memfd_create("launch spec", MemfdFlags::CLOEXEC)?;
    File::from(memory.try_clone()?).write_all(&json::to_vec(spec)?)?;
    let (errors, errors_in) = pipe_with(PipeFlags::CLOEXEC)?;
    let (filter, filter_in) = if spec.is_watched() { Some(scm::pair()?) } else { None }.unzip();
    filter.as_ref().map_or(Ok(()), |ours| rustix::io::ioctl_fionbio(ours, true))?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0("halley-sup").arg(VERB);
    command.arg(memory.as_raw_fd().to_string()).arg(errors_in.as_raw_fd().to_string());
    command.arg(filter_in.as_ref().map_or(NONE, AsRawFd::as_raw_fd).to_string());
    command.args(listen.iter().map(|fd| fd.as_raw_fd().to_string()));
    let stdio = |fd: Option<BorrowedFd<'_>>| -> io::Result<Stdio> {
        Ok(fd.map(|fd| fd.try_clone_to_owned()).transpose()?.map_or_else(Stdio::null, Stdio::from))
    };
    command.env_clear();
    // The next keeper ends by its token what this one had begun.
    command.envs(spec.env.iter().filter(|(name, _)| name == proc::TOKEN).cloned());
    command.stdin(stdio(standard.input)?).stdout(stdio(standard.output)?);
    command.stderr(stdio(standard.errors.or(standard.output))?);
    let passed = || {
        let ours = [memory.as_fd(), errors_in.as_fd()].into_iter();
        listen.iter().copied().chain(ours).chain(filter_in.as_ref().map(AsFd::as_fd))
    };
    for fd in passed() {
        fcntl_setfd(fd, FdFlags::empty())?;
    }
    let process = command.spawn();
    for fd in passed() {
        fcntl_setfd(fd, FdFlags::CLOEXEC)?;
    }
    Ok(Launch { process: process?, errors, filter })
}

/// The filter of a launch that has succeeded.
///
/// # Errors
/// When none came.
pub fn filter_of(socket: &OwnedFd) -> io::Result<OwnedFd> {
    let fds = scm::receive(socket, &mut Vec::new())?.unwrap_or_default();
    fds.into_iter().next().ok_or(io::ErrorKind::UnexpectedEof.into())
}

/// The launcher's `main`: becomes the program, or reports why not and leaves with 127.
#[must_use]
pub fn main(args: &[OsString]) -> ExitCode {
    let numbers: Option<Vec<RawFd>> = args.iter().map(|arg| arg.to_str()?.parse().ok()).collect();
    let Some([memory, errors, filter, listen @ ..]) = numbers.as_deref() else {
        return ExitCode::from(127);
    };
    // SAFETY: the keeper opened these two for this process and named them in its arguments; no
    // other owner exists here.
    let (memory, errors) = unsafe { (File::from_raw_fd(*memory), OwnedFd::from_raw_fd(*errors)) };
    // SAFETY: the same.
    let filter = (*filter != NONE).then(|| unsafe { OwnedFd::from_raw_fd(*filter) });
    // Its number may be one of those the program's sockets want.
    let Ok(high) = fcntl_dupfd_cloexec(&errors, OUT_OF_THE_WAY) else {
        return ExitCode::from(127);
    };
    drop(errors);
    let high_filter = match filter.map(|fd| fcntl_dupfd_cloexec(&fd, OUT_OF_THE_WAY)).transpose() {
        Ok(filter) => filter,
        Err(_) => return ExitCode::from(127),
    };
    let mut errors = File::from(high);
    let spec = read_spec(&memory);
    drop(memory);
    let error = match spec {
        Ok(spec) => become_program(&spec, listen, high_filter.as_ref(), &errors),
        Err(error) => failed("reading the launch spec", &error),
    };
    if let Ok(text) = json::to_vec(&error) {
        drop(errors.write_all(&text));
    }
    ExitCode::from(127)
}

fn read_spec(memory: &File) -> io::Result<LaunchSpec> {
    let mut bytes = vec![0; usize::try_from(memory.metadata()?.len()).unwrap_or(0)];
    memory.read_exact_at(&mut bytes, 0)?;
    Ok(json::from_slice(&bytes)?)
}

/// Returns only when it failed.
fn become_program(
    spec: &LaunchSpec,
    listen: &[RawFd],
    filter: Option<&OwnedFd>,
    errors: &File,
) -> LaunchError {
    match prepare(spec, listen, filter) {
        Ok(()) if is_unknown(errors) => failed("starting", &io::ErrorKind::BrokenPipe.into()),
        Ok(()) => execute(spec),
        Err(error) => error,
    }
}

/// The keeper that has begun this is gone, or has given up: nobody would know the program.
fn is_unknown(errors: &File) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::new(errors, PollFlags::empty())];
    let polled = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    polled.is_ok() && fds[0].revents().contains(PollFlags::ERR)
}

fn prepare(
    spec: &LaunchSpec,
    listen: &[RawFd],
    filter: Option<&OwnedFd>,
) -> Result<(), LaunchError> {
    let step = |name: &'static str| move |error: io::Error| failed(name, &error);
    rustix::process::setsid().map_err(io::Error::from).map_err(step("setsid"))?;
    if let Some(group) = &spec.group {
        // Without it the program is found as where there are no groups.
        drop(cgroup::enter(group));
    }
    reset_signals().map_err(step("resetting signals"))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    place(listen).map_err(step("placing descriptors"))?;
    if let Some(mark) = &spec.mark {
        mark::put_on(mark).map_err(step("marking the process"))?;
    }
    let isolated = match (&spec.isolation, spec.beside) {
        (_, Some(pid)) => isolate::join(pid),
        (Some(isolation), None) => isolate::enter(isolation),
        (None, None) => Ok(()),
    };
    isolated.map_err(|failed| self::failed(&failed.step, &failed.error))?;
    if let (Some(isolation), None) = (&spec.isolation, spec.beside) {
        apart::set_apart(isolation).map_err(|failed| self::failed(&failed.step, &failed.error))?;
    }
    let is_root = rustix::process::geteuid().is_root();
    seal(spec);
    let no_new_privs =
        spec.no_new_privs || spec.own_limits.no_new_privs || (filter.is_some() && !is_root);
    // As root before the user changes: then the program may gain rights as it could without us.
    if let Some(socket) = filter.filter(|_| is_root) {
        install(spec, socket).map_err(step("intercepting calls (seccomp)"))?;
    }
    if let Some(n_files) = spec.limits.n_files {
        proc::limit_files(n_files).map_err(step("limiting open files"))?;
    }
    if let Some(score) = spec.limits.oom_score_adj {
        proc::adjust_oom_score(score).map_err(step("setting oom_score_adj"))?;
    }
    limits::set(&spec.own_limits).map_err(|(name, error)| failed(name, &error))?;
    if let Some(user) = &spec.user {
        change_user(user).map_err(step("changing the user"))?;
    }
    if no_new_privs {
        rustix::thread::set_no_new_privs(true)
            .map_err(io::Error::from)
            .map_err(step("no_new_privs"))?;
    }
    if let Some(socket) = filter.filter(|_| !is_root) {
        install(spec, socket).map_err(step("intercepting calls (seccomp)"))?;
    }
    if let Some(dirs) = &spec.writes {
        apart::write_below(dirs).map_err(|failed| self::failed(&failed.step, &failed.error))?;
    }
    if let Some(keep) = spec.own_limits.capabilities {
        limits::keep_capabilities(keep).map_err(step("keeping capabilities"))?;
    }
    std::env::set_current_dir(&spec.cwd).map_err(|error| LaunchError {
        step: format!("entering {}", spec.cwd),
        errno: error.raw_os_error().unwrap_or(0),
        why: error.to_string(),
    })
}

/// Has the release's tree read-only for root: others are kept from it by its modes, and a process apart
/// has all of its mounts read-only.
fn seal(spec: &LaunchSpec) {
    let is_root = rustix::process::geteuid().is_root();
    let stays_root = is_root && spec.user.as_ref().is_none_or(|user| user.uid == 0);
    let is_apart = spec.isolation.is_some() || spec.beside.is_some();
    if let Some(sealed) = spec.sealed.as_ref().filter(|_| stays_root && !is_apart) {
        // In some containers root may not: then what it changes is found out later.
        drop(isolate::seal_off(sealed));
    }
}

/// Puts this process under the filter and hands the filter to the keeper.
fn install(spec: &LaunchSpec, socket: &OwnedFd) -> io::Result<()> {
    let unlink = spec.intercept.iter().any(|catch| matches!(catch.at, CatchAt::Unix(_)));
    call_filter::install(Report { unlink, reach: spec.fence.is_some() }, socket)
}

/// Rust ignores `SIGPIPE`, and ignored signals survive `execve`; a program expects the defaults.
fn reset_signals() -> io::Result<()> {
    use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    for signal in Signal::iterator() {
        if !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP) {
            // SAFETY: setting a default disposition runs no code of ours.
            unsafe { libc::signal(signal as libc::c_int, libc::SIG_DFL) };
        }
    }
    Ok(())
}

/// Puts the listen descriptors at 3, 4, … and marks everything above them close-on-exec.
fn place(listen: &[RawFd]) -> io::Result<()> {
    let first_free = 3 + i32::try_from(listen.len()).unwrap_or(0);
    let mut copies = Vec::new();
    for number in listen {
        // SAFETY: the keeper opened it for this process and named it in its arguments.
        let fd = unsafe { BorrowedFd::borrow_raw(*number) };
        copies.push(fcntl_dupfd_cloexec(fd, OUT_OF_THE_WAY)?);
    }
    for (target, copy) in (3..).zip(&copies) {
        // SAFETY: plain dup2(2); whatever had the number belongs to this launcher, which is done
        // with it, and the copy is open.
        if unsafe { libc::dup2(copy.as_raw_fd(), target) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    let cloexec = 4_u32;
    let from = libc::c_uint::try_from(first_free).unwrap_or(3);
    // SAFETY: close_range(2) with CLOEXEC (Linux 5.11) only sets flags; older kernels return ENOSYS
    // or EINVAL, and then the flags are as the keeper set them: all close-on-exec but the passed.
    unsafe { libc::syscall(libc::SYS_close_range, from, libc::c_uint::MAX, cloexec) };
    Ok(())
}

fn change_user(user: &LaunchUser) -> io::Result<()> {
    use nix::unistd::{Gid, Uid, geteuid, setgid, setgroups, setuid};
    if geteuid().as_raw() == user.uid && user.uid != 0 {
        return Ok(());
    }
    let groups: Vec<Gid> = user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    setgroups(&groups)?;
    setgid(Gid::from_raw(user.gid))?;
    Ok(setuid(Uid::from_raw(user.uid))?)
}

/// This process becomes the program, in its place and with its descriptors. Returns only when that
/// failed.
#[must_use]
pub fn become_here(spec: &LaunchSpec) -> LaunchError {
    let step = |name: &'static str| move |error: io::Error| failed(name, &error);
    let entered = || {
        reset_signals().map_err(step("resetting signals"))?;
        seal(spec);
        limits::set(&spec.own_limits).map_err(|(name, error)| failed(name, &error))?;
        if let Some(user) = &spec.user {
            change_user(user).map_err(step("changing the user"))?;
        }
        if spec.own_limits.no_new_privs {
            let set = rustix::thread::set_no_new_privs(true).map_err(io::Error::from);
            set.map_err(step("no_new_privs"))?;
        }
        if let Some(keep) = spec.own_limits.capabilities {
            limits::keep_capabilities(keep).map_err(step("keeping capabilities"))?;
        }
        let of_dir = |error| failed(&format!("entering {}", spec.cwd), &error);
        std::env::set_current_dir(&spec.cwd).map_err(of_dir)
    };
    entered().map_or_else(|error: LaunchError| error, |()| execute(spec))
}

/// Returns only when it failed.
fn execute(spec: &LaunchSpec) -> LaunchError {
    let mut env = spec.env.clone();
    if !spec.listen.is_empty() {
        let names: Vec<&str> = spec.listen.iter().map(|fd| fd.fd_name.as_str()).collect();
        env.push(("LISTEN_FDS".to_owned(), spec.listen.len().to_string()));
        env.push(("LISTEN_PID".to_owned(), std::process::id().to_string()));
        env.push(("LISTEN_FDNAMES".to_owned(), names.join(":")));
    }
    let texts = |texts: Vec<String>| -> Result<Vec<CString>, std::ffi::NulError> {
        texts.into_iter().map(CString::new).collect()
    };
    let name = spec.name.as_ref().unwrap_or(&spec.program);
    let argv = std::iter::once(name.clone()).chain(spec.args.iter().cloned()).collect();
    let envp = env.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    let (Ok(argv), Ok(envp)) = (texts(argv), texts(envp)) else {
        return LaunchError {
            step: "preparing arguments and environment".to_owned(),
            errno: 0,
            why: "one of them holds a NUL byte".to_owned(),
        };
    };
    let mut last = LaunchError {
        step: format!("execve {}", spec.program),
        errno: libc::ENOENT,
        why: format!("{}: no such program in PATH", spec.program),
    };
    for path in candidates(spec) {
        let Ok(file) = CString::new(path.to_string_lossy().into_owned()) else { continue };
        let Err(errno) = nix::unistd::execve(&file, &argv, &envp);
        let searched = !spec.program.contains('/');
        // A directory that this user may not search has nothing for it.
        let is_hidden = errno == nix::errno::Errno::EACCES && !path.exists();
        let is_elsewhere =
            is_hidden || matches!(errno, nix::errno::Errno::ENOENT | nix::errno::Errno::ENOTDIR);
        if searched && is_elsewhere {
            continue;
        }
        last = LaunchError {
            step: format!("execve {}", spec.program),
            errno: errno as i32,
            why: exec_text(&path, errno),
        };
        if errno != nix::errno::Errno::EACCES {
            return last;
        }
    }
    last
}

/// Where the program may be: as named, or in each directory of the `PATH` it will have.
fn candidates(spec: &LaunchSpec) -> Vec<PathBuf> {
    if spec.program.contains('/') {
        return vec![PathBuf::from(&spec.program)];
    }
    let path = spec.env.iter().rev().find(|(name, _)| name == "PATH");
    let path = path.map_or("/usr/bin:/bin", |(_, value)| value.as_str());
    path.split(':').map(|dir| Path::new(dir).join(&spec.program)).collect()
}

/// What an `errno` of `execve(2)` means, for operators who did not build the program.
fn exec_text(path: &Path, errno: nix::errno::Errno) -> String {
    use nix::errno::Errno;
    let path_text = path.display();
    match errno {
        Errno::ENOENT if path.exists() => {
            format!("{path_text} exists, but the interpreter or loader it names does not")
        }
        Errno::ENOENT => format!("{path_text}: no such file"),
        Errno::EACCES => {
            format!("{path_text} must not be executed (chmod +x? a directory of its path?)")
        }
        Errno::ENOEXEC => format!(
            "{path_text} is not a program for this machine: built for another CPU, or a script without #!"
        ),
        other => format!("{path_text}: {other}"),
    }
}

fn failed(step: &str, error: &io::Error) -> LaunchError {
    LaunchError {
        step: step.to_owned(),
        errno: error.raw_os_error().unwrap_or(0),
        why: error.to_string(),
    }
}

/// What a launcher wrote before it ended: empty while it is under way or has succeeded.
///
/// # Errors
/// `read(2)`'s, [`io::ErrorKind::WouldBlock`] while it is under way.
pub fn outcome(errors: &OwnedFd) -> io::Result<Option<LaunchError>> {
    let mut text = Vec::new();
    match File::from(errors.try_clone()?).read_to_end(&mut text) {
        // The launcher writes once and less than PIPE_BUF: what is there is all there is, also
        // while it has not left yet.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock && !text.is_empty() => {}
        read => {
            read?;
        }
    }
    if text.is_empty() {
        return Ok(None);
    }
    Ok(Some(json::from_slice(&text).unwrap_or_else(|_| LaunchError {
        step: "launching".to_owned(),
        errno: 0,
        why: String::from_utf8_lossy(&text).into_owned(),
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_heard_also_before_the_launcher_has_left() {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        let under_way = outcome(&read).unwrap_err();
        assert_eq!(under_way.kind(), io::ErrorKind::WouldBlock);
        let error = failed("execve ./web", &io::Error::from_raw_os_error(libc::ENOENT));
        let mut write = File::from(write);
        write.write_all(&serde_json::to_vec(&error).unwrap()).unwrap();
        assert_eq!(outcome(&read).unwrap(), Some(error));
        drop(write);
        assert_eq!(outcome(&read).unwrap(), None);
    }
}
