//! A mount namespace in which a copy lies over what is live (`mount_namespaces(7)`).
//!
//! The launcher enters it before the program is executed: whatever name the program uses for its
//! data, it gets the copy. All else can be read and not be written (`mount_setattr(2)`, Linux 5.12).
//! Without root it is made in a user namespace, where the kernel allows one (`user_namespaces(7)`;
//! an overlay in it came with 5.11).

use std::ffi::{CString, OsString};
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use rustix::fs::{Mode, OFlags, open};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};
use rustix::process::{getegid, geteuid};
use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};

use crate::os::beneath::{self, Dir, Pinned};
use crate::os::mounts;

/// The hidden verb that tries whether a namespace can be made here.
pub const TRIAL_VERB: &str = "try-isolation";

/// Shared memory of programs that know the same name (`shm_open(3)`).
pub(super) const SHARED_MEMORY: &str = "/dev/shm";

/// What a program sees instead of what is live. Every path is absolute and has no link in it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Isolation {
    /// Directories that are seen with changes over them, outer ones first.
    pub layers: Vec<Layer>,
    /// Directories in whose place another one is seen.
    pub replaced: Vec<Replaced>,
    /// Directories that may be written to as they are.
    pub writable: Vec<PathBuf>,
    /// Directories for temporary files, of the program's own.
    pub temporary: Vec<Replaced>,
    /// Directories below such a one that stay visible.
    pub visible: Vec<PathBuf>,
    /// Sockets that are reached through a layer over them: the kernel knows them by their own file.
    #[serde(default)]
    pub sockets: Vec<PathBuf>,
}

/// A directory that is seen as it is, with another one over it that takes what is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// What lies below.
    pub at: PathBuf,
    /// What lies above it, and is written to.
    pub upper: PathBuf,
    /// An empty directory of the kernel's own, on the file system of `upper`.
    pub work: PathBuf,
    /// Files of below that are not seen, unless `upper` has them too.
    pub hidden: Vec<PathBuf>,
}

/// A directory that is seen in the place of another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    /// The place.
    pub at: PathBuf,
    /// What is seen there.
    pub by: PathBuf,
}

/// What stands in the way.
#[derive(Debug)]
pub struct Failed {
    /// The step.
    pub step: String,
    /// The system's error.
    pub error: io::Error,
}

pub(super) fn step<T>(
    result: Result<T, impl Into<io::Error>>,
    step: impl FnOnce() -> String,
) -> Result<T, Failed> {
    result.map_err(|error| Failed { step: step(), error: error.into() })
}

/// Puts this process, which must have one thread, into a namespace of its own. Its directory is to
/// be entered anew afterwards.
///
/// # Errors
/// The first step that failed; the process is of no use then.
pub fn enter(isolation: &Isolation) -> Result<(), Failed> {
    let as_root = geteuid().is_root();
    unshare(as_root)?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    step(mount_change("/", private), || "making the mounts private".to_owned())?;
    let covers = |path: &&PathBuf| isolation.layers.iter().any(|layer| path.starts_with(&layer.at));
    let mut sockets = Vec::new();
    for at in isolation.sockets.iter().filter(covers) {
        let spot = match spot(at) {
            // Its name was removed, by whoever has it still open or by another.
            Err(Failed { error, .. }) if error.kind() == io::ErrorKind::NotFound => continue,
            spot => spot?,
        };
        sockets.push((at, step(mounts::take(spot), || format!("taking {}", at.display()))?));
    }
    let mut layers = Vec::new();
    for layer in &isolation.layers {
        lay(layer, as_root, &mut layers)?;
    }
    for (at, socket) in sockets {
        step(mounts::put(&socket, spot(at)?), || format!("putting {} back", at.display()))?;
    }
    for Replaced { at, by } in &isolation.replaced {
        bind(by, at)?;
    }
    for dir in &isolation.writable {
        bind(dir, dir)?;
    }
    temporary(isolation)?;
    step(set_read_only("/".as_ref(), true), || "making the mounts read-only".to_owned())?;
    let replaced = isolation.replaced.iter().chain(&isolation.temporary).map(|entry| &entry.at);
    for dir in layers.iter().chain(replaced).chain(&isolation.writable) {
        step(set_read_only(dir, false), || format!("making {} writable", dir.display()))?;
    }
    let memory = MountFlags::NOSUID | MountFlags::NODEV;
    if Path::new(SHARED_MEMORY).is_dir() {
        step(mount("tmpfs", SHARED_MEMORY, "tmpfs", memory, None), || {
            format!("mounting {SHARED_MEMORY}")
        })?;
    }
    Ok(())
}

/// Has this process, which must have one thread, see a directory read-only, and all else as it is. What is
/// mounted on the host later is seen, too.
///
/// # Errors
/// The first step that failed; what the process sees is as before then.
pub fn seal_off(dir: &Path) -> Result<(), Failed> {
    // SAFETY: no descriptor table is unshared, so no owner of a descriptor is affected.
    let unshared = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) };
    step(unshared, || "making a mount namespace".to_owned())?;
    let following = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    step(mount_change("/", following), || "keeping mounts to itself".to_owned())?;
    bind(dir, dir)?;
    let read_only = libc::mount_attr { attr_set: libc::MOUNT_ATTR_RDONLY, ..NO_CHANGE };
    step(set_attr(dir, 0, read_only), || format!("making {} read-only", dir.display()))
}

const NO_CHANGE: libc::mount_attr =
    libc::mount_attr { attr_set: 0, attr_clr: 0, propagation: 0, userns_fd: 0 };

/// System V queues and shared memory are its own too.
fn unshare(as_root: bool) -> Result<(), Failed> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let own = UnshareFlags::NEWNS | UnshareFlags::NEWIPC;
    let flags = if as_root { own } else { own | UnshareFlags::NEWUSER };
    // SAFETY: no descriptor table is unshared, so no owner of a descriptor is affected.
    let unshared = unsafe { rustix::thread::unshare_unsafe(flags) };
    step(unshared, || "making a mount namespace".to_owned())?;
    if as_root {
        return Ok(());
    }
    // The same user inside as outside.
    let files = [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("{uid} {uid} 1")),
        ("/proc/self/gid_map", format!("{gid} {gid} 1")),
    ];
    for (path, text) in files {
        step(fs::write(path, text), || format!("writing {path}"))?;
    }
    Ok(())
}

/// A directory that is at this path, and not behind a link that its user has put on the way since
/// the path was looked at: a mount over another place would put that user's files there.
fn held(path: &Path) -> Result<Dir, Failed> {
    let held = || {
        if beneath::real(path)? != path {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "a link is on its way"));
        }
        let dir = Dir::open(path)?;
        let is_there = fs::read_link(place(&dir))? == path;
        if is_there { Ok(dir) } else { Err(io::ErrorKind::NotFound.into()) }
    };
    step(held(), || format!("opening {}", path.display()))
}

fn place(dir: &Dir) -> String {
    format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd())
}

fn bind(by: &Path, at: &Path) -> Result<(), Failed> {
    let (from, to) = (held(by)?, held(at)?);
    step(mount_bind(place(&from), place(&to)), || {
        format!("mounting {} on {}", by.display(), at.display())
    })
}

/// A layer, and in their places again the mounts that it hides: they can be read alone. Where the copy
/// has something of such a mount, that lies over it as a layer too. `laid` gets the places of them all.
fn lay(layer: &Layer, as_root: bool, laid: &mut Vec<PathBuf>) -> Result<(), Failed> {
    let mut taken = Vec::new();
    for place in mounts::below(&layer.at) {
        let tree = spot(&place).and_then(|spot| {
            step(mounts::take(spot), || format!("taking what is mounted at {}", place.display()))
        })?;
        taken.push((place, tree));
    }
    cover(layer, as_root)?;
    laid.push(layer.at.clone());
    for (n, (at, tree)) in taken.into_iter().enumerate() {
        step(mounts::put(&tree, spot(&at)?), || format!("putting {} back", at.display()))?;
        let upper = layer.upper.join(at.strip_prefix(&layer.at).unwrap_or(&at));
        if upper.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            let mut work = layer.work.clone().into_os_string();
            work.push(format!("-{n}"));
            let work = PathBuf::from(work);
            step(fs::create_dir_all(&work), || format!("making {}", work.display()))?;
            lay(&Layer { at, upper, work, hidden: layer.hidden.clone() }, as_root, laid)?;
        }
    }
    Ok(())
}

/// What has this path, and is not behind a link.
fn spot(path: &Path) -> Result<Pinned, Failed> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return step(Err(io::ErrorKind::InvalidInput), || format!("opening {}", path.display()));
    };
    step(held(parent)?.pin(name), || format!("opening {}", path.display()))
}

fn cover(layer: &Layer, as_root: bool) -> Result<(), Failed> {
    let at = layer.at.display();
    // By descriptors: the options know no way to write every path.
    let (lower_dir, upper_dir, work_dir) =
        (held(&layer.at)?, held(&layer.upper)?, held(&layer.work)?);
    let (lower, upper, work) = (place(&lower_dir), place(&upper_dir), place(&work_dir));
    // In a user namespace a directory of below cannot be renamed.
    let own = if as_root { ",redirect_dir=on" } else { ",userxattr" };
    // The copy of what is mounted below another layer lies in that one's.
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work},index=off{own}");
    let options = step(CString::new(options).map_err(|_| io::ErrorKind::InvalidInput), || {
        format!("the layer over {at}")
    })?;
    let flags = MountFlags::NODEV;
    let mounted = mount("overlay", &lower, "overlay", flags, options.as_c_str());
    step(mounted, || format!("laying the copy over {at}"))?;
    let laid = held(&layer.at)?;
    for path in &layer.hidden {
        step(hide(&laid, layer, path), || format!("hiding {}", path.display()))?;
    }
    Ok(())
}

fn hide(laid: &Dir, layer: &Layer, path: &Path) -> io::Result<()> {
    let Ok(below) = path.strip_prefix(&layer.at) else { return Ok(()) };
    let (Some(parent), Some(name)) = (below.parent(), below.file_name()) else { return Ok(()) };
    if layer.upper.join(below).symlink_metadata().is_ok() {
        return Ok(());
    }
    if parent.as_os_str().is_empty() {
        return laid.remove_file(name);
    }
    match laid.dir(parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        dir => dir?.remove_file(name),
    }
}

/// What must stay visible below a temporary directory is taken out first and put in again.
fn temporary(isolation: &Isolation) -> Result<(), Failed> {
    for Replaced { at, by } in &isolation.temporary {
        let mut taken = Vec::new();
        for dir in isolation.visible.iter().filter(|dir| dir.starts_with(at)) {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let tree = open(dir, flags, Mode::empty()).map_err(io::Error::from);
            let tree = step(tree.and_then(mounts::take), || format!("taking {}", dir.display()))?;
            taken.push((dir, tree));
        }
        bind(by, at)?;
        for (dir, tree) in taken {
            let made = fs::create_dir_all(dir)
                .and_then(|()| fs::set_permissions(dir, Permissions::from_mode(0o755)));
            step(made, || format!("making {}", dir.display()))?;
            step(mounts::put(&tree, held(dir)?), || format!("putting {} back", dir.display()))?;
        }
    }
    Ok(())
}

/// A mount, and those below it when they become read-only. No program gains rights from what is seen
/// then: its user may have made it.
fn set_read_only(dir: &Path, is_read_only: bool) -> io::Result<()> {
    let read_only = libc::MOUNT_ATTR_RDONLY;
    let attr = libc::mount_attr {
        attr_set: if is_read_only { read_only | libc::MOUNT_ATTR_NOSUID } else { 0 },
        attr_clr: if is_read_only { 0 } else { read_only },
        ..NO_CHANGE
    };
    let flags = if is_read_only { libc::AT_RECURSIVE } else { 0 };
    set_attr(dir, flags, attr)
}

fn set_attr(dir: &Path, flags: libc::c_int, attr: libc::mount_attr) -> io::Result<()> {
    let path = CString::new(dir.as_os_str().as_encoded_bytes())?;
    // SAFETY: the kernel reads one `mount_attr` of the size that is passed, and a C string.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Puts this process into the namespace that another one was put into.
///
/// # Errors
/// The step that failed.
pub fn join(pid: i32) -> Result<(), Failed> {
    let process = step(crate::os::proc::pidfd(pid), || format!("process {pid}"))?;
    let own = libc::CLONE_NEWNS | libc::CLONE_NEWIPC;
    let flags = if geteuid().is_root() { own } else { own | libc::CLONE_NEWUSER };
    // SAFETY: setns(2) with a pidfd (Linux 5.8); no memory is shared with the caller.
    let result = unsafe { libc::setns(process.as_raw_fd(), flags) };
    let joined = if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    step(joined, || format!("entering the mounts of process {pid}"))
}

/// Why it cannot be done here, in words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(String);

/// Tries in a process of its own whether it can be done here, with all its parts, and with a layer over
/// each of these directories: not every file system takes one, nor does a directory with mounts below
/// it in a user namespace.
///
/// # Errors
/// What stands in the way.
pub fn attempt(dir: &Path, covered: &[PathBuf]) -> Result<(), Refused> {
    let ran = Command::new("/proc/self/exe")
        .arg0("halley-sup")
        .arg(TRIAL_VERB)
        .arg(dir)
        .args(covered)
        .stdin(Stdio::null())
        .output();
    match ran {
        Ok(ran) if ran.status.success() => Ok(()),
        Ok(ran) => Err(Refused(String::from_utf8_lossy(&ran.stdout).trim().to_owned())),
        Err(error) => Err(Refused(error.to_string())),
    }
}

/// Whether mounts of its own take a process into a user namespace: for others than root.
#[must_use]
pub fn needs_user_namespace() -> bool {
    !geteuid().is_root()
}

/// The hidden verb's `main`.
#[must_use]
pub fn trial_main(args: &[OsString]) -> ExitCode {
    let Some((dir, covered)) = args.split_first() else { return ExitCode::from(2) };
    match tried(dir.as_ref(), covered) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed { step, error }) => {
            drop(writeln!(io::stdout(), "{step}: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn tried(dir: &Path, covered: &[OsString]) -> Result<(), Failed> {
    let made = |name: &str| -> Result<PathBuf, Failed> {
        let path = dir.join(name);
        step(fs::create_dir_all(&path), || format!("making {}", path.display()))?;
        Ok(path)
    };
    let layer = |n: usize, at: PathBuf| -> Result<Layer, Failed> {
        let (upper, work) = (made(&format!("upper-{n}"))?, made(&format!("work-{n}"))?);
        Ok(Layer { at, upper, work, hidden: Vec::new() })
    };
    let (at, other) = (made("at")?, made("other")?);
    let all = covered.iter().map(PathBuf::from).chain([at.clone()]).enumerate();
    let isolation = Isolation {
        layers: all.map(|(n, at)| layer(n, at)).collect::<Result<_, _>>()?,
        writable: vec![other],
        ..Isolation::default()
    };
    enter(&isolation)?;
    let written = at.join("written");
    step(fs::write(&written, "x"), || format!("writing {}", written.display()))?;
    match fs::write(dir.join("outside"), "x") {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => Ok(()),
        result => Err(Failed {
            step: "what should be read-only".to_owned(),
            error: result.err().unwrap_or_else(|| io::Error::other("could be written")),
        }),
    }
}
