//! Files: what must last is synced, and a failed sync is a failed step.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{
    FlockOperation, Mode, OFlags, RawMode, StatVfsMountFlags, flock, mkfifoat, open, statvfs,
};

use crate::os::beneath::Dir;
pub use crate::os::beneath::{give_to, remove_tree};

/// The default of `/proc/sys/fs/pipe-max-size`; a pipe takes memory for what it holds only.
const PIPE_BYTES: usize = 1024 * 1024;

/// Replaces a file: whole and old, or whole and new, also after a power cut.
///
/// # Errors
/// The system's; the old file stands.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    replace_by(path, mode, &mut |file| file.write_all(bytes))
}

/// The same, with what is written piece by piece.
///
/// # Errors
/// The system's, or the writer's; the old file stands.
pub fn replace_by(
    path: &Path,
    mode: u32,
    write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let dir = parent(path)?;
    // Opened by `tempfile` itself, an error has lost its number.
    let temp = tempfile::Builder::new().make_in(dir, |path| {
        File::options().read(true).write(true).create_new(true).mode(0o600).open(path)
    })?;
    let mut buffer = BufWriter::new(temp.as_file());
    write(&mut buffer)?;
    buffer.into_inner()?;
    temp.as_file().set_permissions(Permissions::from_mode(mode))?;
    // tempfile's own persist() does not sync.
    temp.as_file().sync_all()?;
    temp.persist(path).map_err(|error| error.error)?;
    sync_dir(dir)
}

/// Makes the names in a directory durable.
///
/// # Errors
/// `fsync(2)`'s.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes everything on the file system of `dir` durable (Linux 2.6.39).
///
/// # Errors
/// `syncfs(2)`'s.
pub fn sync_all_of(dir: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(dir)?)?)
}

/// Points a symlink at another target, in one step that lasts.
///
/// # Errors
/// The system's; the link points where it did.
pub fn swap_symlink(link: &Path, target: &Path) -> io::Result<()> {
    let dir = parent(link)?;
    let name = link.file_name().unwrap_or(OsStr::new("link")).to_string_lossy();
    let temp = dir.join(format!(".{name}.next"));
    match fs::remove_file(&temp) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::os::unix::fs::symlink(target, &temp)?;
    fs::rename(&temp, link)?;
    sync_dir(dir)
}

fn parent(path: &Path) -> io::Result<&Path> {
    path.parent().ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// Creates a directory and what is missing above it, with this mode whatever the umask, and makes its
/// name durable.
///
/// # Errors
/// The system's.
pub fn create_dir(dir: &Path, mode: u32) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    Dir::have(dir, mode)?.sync()?;
    sync_dir(parent(dir)?)
}

/// A lock that dies with the process that holds it.
#[derive(Debug)]
pub struct Lock(File);

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The lock is held already.
    #[error("{holder} holds it")]
    Held {
        /// What the holder wrote into it.
        holder: String,
    },
    /// The system's own reason.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// Takes an open-file-description lock (`fcntl(2)`, `F_OFD_SETLK`, Linux 3.15). It never needs
/// removing by hand: the file may lie around for ever. No other user can open it: whoever can may
/// lock it, if only for reading, and keep us out.
///
/// On a file system that is read-only it is locked for reading, which keeps out who can write, and
/// by `flock(2)`, which keeps out who cannot either.
///
/// # Errors
/// [`LockError`].
pub fn lock(path: &Path, holder: &str) -> Result<Lock, LockError> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let locked = match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            let file = File::open(path)?;
            let locked = ofd_lock(&file, libc::F_RDLCK)
                .and_then(|()| Ok(flock(&file, FlockOperation::NonBlockingLockExclusive)?));
            locked.map(|()| file)
        }
        Err(error) => return Err(error.into()),
        Ok(file) => {
            // One of an earlier version may be open to others.
            if file.metadata()?.permissions().mode() & 0o777 != 0o600 {
                file.set_permissions(Permissions::from_mode(0o600))?;
            }
            ofd_lock(&file, libc::F_WRLCK).map(|()| file)
        }
    };
    match locked {
        Ok(file) => {
            // Who it is helps people; on a full disk it is a lock without.
            drop(file.set_len(0).and_then(|()| file.write_at(holder.as_bytes(), 0)));
            Ok(Lock(file))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            let holder = fs::read_to_string(path).unwrap_or_default();
            Err(LockError::Held { holder: holder.trim().to_owned() })
        }
        Err(error) => Err(error.into()),
    }
}

/// Writes who has a lock into it. For people: on a full disk it is a lock without.
pub fn name_holder(lock: &OwnedFd, holder: &str) {
    if let Ok(file) = lock.try_clone().map(File::from) {
        drop(file.set_len(0).and_then(|()| file.write_at(holder.as_bytes(), 0)));
    }
}

fn ofd_lock(file: &File, kind: i32) -> io::Result<()> {
    let lock = libc::flock {
        l_type: i16::try_from(kind).unwrap_or(1),
        l_whence: i16::try_from(libc::SEEK_SET).unwrap_or(0),
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    // SAFETY: fcntl(2) reads the struct and writes nothing of ours.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

impl From<Lock> for OwnedFd {
    fn from(lock: Lock) -> Self {
        lock.0.into()
    }
}

/// Whether nothing can be written in a directory, because its file system is read-only.
#[must_use]
pub fn is_read_only(dir: &Path) -> bool {
    statvfs(dir).is_ok_and(|told| told.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// A place for what belongs at a path that cannot be written: in the runtime directory, which no other
/// user can write, under a name that follows from the path.
#[must_use]
pub fn refuge(path: &Path) -> PathBuf {
    let uid = rustix::process::geteuid();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let dir = match runtime.filter(|_| !uid.is_root()) {
        Some(dir) => dir,
        None if uid.is_root() => PathBuf::from("/run"),
        None => PathBuf::from(format!("/run/user/{}", uid.as_raw())),
    };
    // FNV-1a, 64 bits.
    let bytes = path.as_os_str().as_encoded_bytes().iter();
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    dir.join(format!("halley-{hash:016x}"))
}

/// The refuge of a control socket.
#[must_use]
pub fn refuge_of_socket(path: &Path) -> PathBuf {
    refuge(path).with_extension("sock")
}

/// What is left on a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Free {
    /// Bytes that this user may write.
    pub bytes: u64,
    /// Files that may be created; `u64::MAX` where the file system does not count them.
    pub inodes: u64,
}

/// What is left on the file system of a path.
///
/// # Errors
/// `statvfs(3)`'s.
pub fn free(path: &Path) -> io::Result<Free> {
    let stat = statvfs(path)?;
    let inodes = if stat.f_files == 0 { u64::MAX } else { stat.f_favail };
    Ok(Free { bytes: stat.f_bavail.saturating_mul(stat.f_frsize), inodes })
}

/// Opens a directory for the `*at` calls.
///
/// # Errors
/// `open(2)`'s.
pub fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    Ok(open(path, OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY, Mode::empty())?)
}

/// Makes a FIFO; one that is there already is used again.
///
/// # Errors
/// `mkfifo(3)`'s.
pub fn make_fifo(path: &Path, mode: u32) -> io::Result<()> {
    let made = mkfifoat(rustix::fs::CWD, path, Mode::from_raw_mode(mode as RawMode));
    match made {
        Err(rustix::io::Errno::EXIST) => Ok(()),
        made => Ok(made?),
    }
}

/// Opens a FIFO for reading and writing: it has a reader as long as this descriptor lives, so a
/// writer never gets `EPIPE`, and a writer, so a reader never gets an end (`fifo(7)`).
///
/// # Errors
/// `open(2)`'s.
pub fn open_fifo(path: &Path) -> io::Result<OwnedFd> {
    Ok(open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
}

/// A pipe for what a process writes, opened as [`open_fifo`] does. It is its owner's, who may open it
/// again (`/dev/stdout`), and needs no disk.
///
/// # Errors
/// The system's.
pub fn output_pipe(owner: Option<(u32, u32)>) -> io::Result<OwnedFd> {
    let (_reader, writer) = io::pipe()?;
    if let Some((user, group)) = owner {
        std::os::unix::fs::fchown(&writer, Some(user), Some(group))?;
    }
    let pipe = open_fifo(Path::new(&format!("/proc/self/fd/{}", writer.as_raw_fd())))?;
    widen_pipe(&pipe);
    Ok(pipe)
}

/// Whether an error is the disk's, and none of the one who asked: it is full, broken or read-only.
#[must_use]
pub fn is_of_disk(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    number.is_some_and(|n| [libc::EIO, libc::EROFS, libc::ENOSPC, libc::EDQUOT].contains(&n))
}

/// Lets a pipe hold as much as any user may have (`/proc/sys/fs/pipe-max-size`), so that its writers
/// go on while nobody reads. Less when the kernel does not allow it.
pub fn widen_pipe(pipe: &OwnedFd) {
    if let Err(error) = rustix::pipe::fcntl_setpipe_size(pipe, PIPE_BYTES) {
        tracing::debug!(%error, "widening a pipe");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_socket_has_a_refuge_of_its_own() {
        let of = |path: &str| refuge_of_socket(Path::new(path));
        assert_ne!(of("/a/control.sock"), of("/b/control.sock"));
        assert_eq!(of("/a/control.sock"), of("/a/control.sock"));
        assert!(of("/a/control.sock").as_os_str().len() < 107);
    }

    #[test]
    fn a_widened_pipe_takes_a_megabyte_while_nobody_reads() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        make_fifo(&path, 0o600).unwrap();
        let fifo = open_fifo(&path).unwrap();
        widen_pipe(&fifo);
        rustix::io::ioctl_fionbio(&fifo, true).unwrap();
        assert_eq!(rustix::io::write(&fifo, &vec![0; PIPE_BYTES]).unwrap(), PIPE_BYTES);
    }

    #[test]
    fn an_output_pipe_is_opened_again_and_never_ends() {
        let pipe = output_pipe(None).unwrap();
        let again = format!("/proc/self/fd/{}", pipe.as_raw_fd());
        fs::write(&again, "a line").unwrap();
        rustix::io::ioctl_fionbio(&pipe, true).unwrap();
        let mut bytes = [0; 16];
        assert_eq!(rustix::io::read(&pipe, &mut bytes).unwrap(), 6);
        assert_eq!(rustix::io::read(&pipe, &mut bytes), Err(rustix::io::Errno::AGAIN));
    }

    #[test]
    fn an_error_of_the_disk_is_one_also_where_its_path_is_named() {
        for number in [libc::EIO, libc::EROFS, libc::ENOSPC, libc::EDQUOT] {
            assert!(is_of_disk(&io::Error::from_raw_os_error(number)), "{number}");
        }
        assert!(!is_of_disk(&io::Error::from_raw_os_error(libc::EACCES)));
        let full = Path::new("/proc/no-such-directory");
        let wrapped = tempfile::NamedTempFile::new_in(full).unwrap_err();
        assert!(wrapped.raw_os_error().is_none() && !is_of_disk(&wrapped), "{wrapped:?}");
    }

    #[test]
    fn a_lock_is_held_by_one_and_dies_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = lock(&path, "pid 7").unwrap();
        let Err(LockError::Held { holder }) = lock(&path, "pid 8") else { panic!("two holders") };
        assert_eq!(holder, "pid 7");
        drop(held);
        lock(&path, "pid 8").unwrap();
    }

    #[test]
    fn a_symlink_is_swapped_over_the_leftover_of_a_crash() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("current");
        std::os::unix::fs::symlink("stale", dir.path().join(".current.next")).unwrap();
        swap_symlink(&link, Path::new("releases/1")).unwrap();
        swap_symlink(&link, Path::new("releases/2")).unwrap();
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("releases/2"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
