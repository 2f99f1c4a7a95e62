//! Which processes have files open: by their descriptors, their mappings, their working directories and
//! their locks (`proc(5)`). Only root sees those of other users; locks are seen of all.
//!
//! It takes as long as there are processes: never on a thread that has anything else to do.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::core::ordered::Ordered as _;
use crate::os::beneath::Dir;
use crate::os::proc;

/// A file, as the kernel knows it: device and inode.
type FileId = (u64, u64);

/// Files whose holders are looked for.
#[derive(Debug, Default)]
pub struct Wanted {
    files: BTreeSet<FileId>,
    below: Option<(PathBuf, u64)>,
}

/// A process that has one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Process id.
    pub pid: i32,
    /// What it has, for people.
    pub holds: String,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Processes that have one of the files, each once.
    pub holders: Vec<Holder>,
    /// Processes that may not be looked at.
    pub n_hidden: usize,
}

impl Wanted {
    /// These files, as far as they are there.
    #[must_use]
    pub fn files(paths: &[PathBuf]) -> Self {
        let found = paths.iter().filter_map(|path| Some(id(&path.metadata().ok()?)));
        Self { files: found.collect(), below: None }
    }

    /// Everything in a directory, and the directory.
    ///
    /// # Errors
    /// When it cannot be read; a directory that is not there holds nothing.
    pub fn below(path: &Path) -> io::Result<Self> {
        let dir = match Dir::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            dir => dir?,
        };
        let mut files = BTreeSet::from([id(&dir.metadata()?)]);
        dir.walk(&mut |met| {
            files.insert(id(met.meta));
            Ok(())
        })?;
        Ok(Self { files, below: Some((path.to_owned(), dir.metadata()?.dev())) })
    }

    fn has(&self, meta: &Metadata, path: &Path) -> bool {
        let is_made_since = |(dir, device): &(PathBuf, u64)| {
            path.starts_with(dir) && meta.dev() == *device && meta.nlink() > 0
        };
        self.files.contains(&id(meta)) || self.below.as_ref().is_some_and(is_made_since)
    }
}

fn id(meta: &Metadata) -> FileId {
    (meta.dev(), meta.ino())
}

/// Who has them, this process aside.
#[must_use]
pub fn look(wanted: &Wanted) -> Seen {
    let mut seen = Seen::default();
    let locking = locking(&fs::read_to_string("/proc/locks").unwrap_or_default(), wanted);
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    for pid in proc::all().into_iter().filter(|pid| *pid != own) {
        let held = held(pid, wanted);
        let is_hidden =
            matches!(&held, Err(error) if error.kind() == io::ErrorKind::PermissionDenied);
        let lock = || locking.contains(&pid).then(|| "a lock on it".to_owned());
        match held.ok().flatten().or_else(lock) {
            Some(holds) => seen.holders.push(Holder { pid, holds }),
            None if is_hidden && !proc::is_zombie(pid) && !proc::is_kernel_thread(pid) => {
                seen.n_hidden += 1;
            }
            None => {}
        }
    }
    seen
}

/// What a process has of them. One that ends meanwhile has nothing.
fn held(pid: i32, wanted: &Wanted) -> io::Result<Option<String>> {
    let dir = PathBuf::from(format!("/proc/{pid}"));
    for entry in fs::read_dir(dir.join("fd"))?.flatten() {
        if let Some(path) = at(&entry.path(), wanted) {
            return Ok(Some(path));
        }
    }
    if let Some(path) = mapped(&dir, wanted) {
        return Ok(Some(path));
    }
    if wanted.below.is_none() {
        return Ok(None);
    }
    let places = ["cwd", "root"].iter().find_map(|name| at(&dir.join(name), wanted));
    Ok(places.map(|path| format!("{path} as its working directory")))
}

/// Who still has a file open that was at this path and is deleted, by the links through which it can be
/// read.
#[must_use]
pub fn deleted(path: &Path) -> Vec<(i32, PathBuf)> {
    let mut name = path.as_os_str().to_owned();
    name.push(" (deleted)");
    let links = |pid: i32| {
        let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        entries.map(move |entry| (pid, entry.path()))
    };
    let is_it = |(_, link): &(i32, PathBuf)| fs::read_link(link).is_ok_and(|at| at == *name);
    proc::all().into_iter().flat_map(links).filter(is_it).collect()
}

/// Where a link of `/proc` leads, if that is wanted.
fn at(link: &Path, wanted: &Wanted) -> Option<String> {
    let path = fs::read_link(link).ok()?;
    // Pipes, sockets and the like have no path.
    if !path.is_absolute() {
        return None;
    }
    let meta = link.metadata().ok()?;
    wanted.has(&meta, &path).then(|| path.display().to_string())
}

/// A mapped file. Device numbers there are not those of every file system; the link beside has them,
/// and only root may follow it.
fn mapped(dir: &Path, wanted: &Wanted) -> Option<String> {
    let maps = fs::read_to_string(dir.join("maps")).ok()?;
    let found = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (range, device, inode) = (fields.next()?, fields.nth(2)?, fields.next()?);
        if inode == "0" {
            return None;
        }
        let by_number = wanted.files.contains(&numbered(&format!("{device}:{inode}"))?);
        let path = by_number.then(|| fields.next().unwrap_or_default().to_owned());
        path.or_else(|| at(&dir.join("map_files").join(range), wanted))
    };
    maps.lines().find_map(found)
}

/// A file as `/proc` writes it: major and minor number of its device in hex, inode.
fn numbered(text: &str) -> Option<FileId> {
    let mut parts = text.split(':');
    let mut hex = || u32::from_str_radix(parts.next()?, 16).ok();
    let device = rustix::fs::makedev(hex()?, hex()?);
    Some((device, parts.next()?.parse().ok()?))
}

/// Processes that have a lock on one of them.
fn locking(locks: &str, wanted: &Wanted) -> BTreeSet<i32> {
    let holder = |line: &str| {
        let mut fields = line.split_ascii_whitespace().skip(1).filter(|field| *field != "->");
        let (pid, file) = (fields.nth(3)?.parse().ok()?, fields.next()?);
        (pid > 0 && wanted.files.contains(&numbered(file)?)).then_some(pid)
    };
    locks.lines().filter_map(holder).into_set()
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A process that does this in Python, and waits.
    fn python(script: &str, path: &Path) -> Child {
        let script =
            format!("import ctypes, os, sys\n{script}\nprint('ready', flush=True)\ninput()");
        let mut command = Command::new("python3");
        command.args(["-c", &script]).arg(path).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = [0; 5];
        io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
        child
    }

    #[track_caller]
    fn check(script: &str, path: &Path, wanted: &Wanted, expected: &str) {
        let mut child = python(script, path);
        let pid = i32::try_from(child.id()).unwrap();
        let seen = look(wanted);
        child.kill().unwrap();
        child.wait().unwrap();
        let holds = seen.holders.iter().find(|holder| holder.pid == pid);
        let holds = holds.map_or("", |holder| &holder.holds);
        assert!(holds.ends_with(expected) && holds.is_empty() == expected.is_empty(), "{holds}");
    }

    #[test]
    fn who_has_a_file_is_found_however_it_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let (file, other) = (dir.path().join("app.db"), dir.path().join("other"));
        fs::write(&file, "x").unwrap();
        fs::write(&other, "x").unwrap();
        let wanted = Wanted::files(&[file.clone(), dir.path().join("app.db-wal")]);
        check("f = open(sys.argv[1])", &file, &wanted, "app.db");
        check("f = open(sys.argv[1])", &other, &wanted, "");
        // Python's own keeps a descriptor.
        let map = "c = ctypes.CDLL(None).mmap\n\
                   c.argtypes = [ctypes.c_size_t] * 2 + [ctypes.c_int] * 3 + [ctypes.c_long]\n\
                   f = os.open(sys.argv[1], os.O_RDWR); c(0, 1, 1, 1, f, 0); os.close(f)";
        check(map, &file, &wanted, "app.db");
        check("os.chdir(os.path.dirname(sys.argv[1]))", &file, &wanted, "");
        // By another name.
        let link = dir.path().join("link");
        fs::hard_link(&file, &link).unwrap();
        check("f = open(sys.argv[1])", &link, &wanted, "link");
    }

    #[test]
    fn whatever_is_below_a_directory_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (below, beside) = (dir.path().join("up/sub"), dir.path().join("upper"));
        fs::create_dir_all(&below).unwrap();
        fs::write(&beside, "x").unwrap();
        let wanted = Wanted::below(&dir.path().join("up")).unwrap();
        let made_since = below.join("new");
        check("f = open(sys.argv[1], 'w')", &made_since, &wanted, "new");
        check("os.chdir(sys.argv[1])", &below, &wanted, "as its working directory");
        check("f = open(sys.argv[1])", &beside, &wanted, "");
        let none = Wanted::below(&dir.path().join("none")).unwrap();
        check("f = open(sys.argv[1])", &beside, &none, "");
    }

    #[test]
    fn who_has_a_deleted_file_open_is_found_and_it_can_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let (file, other) = (dir.path().join("app.db"), dir.path().join("app.db-wal"));
        fs::write(&file, "rows").unwrap();
        let mut child = python("f = open(sys.argv[1])", &file);
        assert_eq!(deleted(&file), []);
        fs::remove_file(&file).unwrap();
        let found = deleted(&file);
        let text = found.first().map(|(_, link)| fs::read_to_string(link).unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(text.as_deref(), Some("rows"), "{found:?}");
        assert_eq!(deleted(&other), []);
    }

    #[test]
    fn a_lock_names_its_process() {
        let wanted =
            Wanted { files: BTreeSet::from([(rustix::fs::makedev(8, 0x1a), 77)]), below: None };
        let locks = "1: POSIX  ADVISORY  READ  123 08:1a:77 128 128\n\
                     1: -> POSIX  ADVISORY  WRITE 124 08:1a:77 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 125 08:1a:78 0 EOF\n\
                     3: OFDLCK ADVISORY  WRITE -1 08:1a:77 0 EOF\n";
        assert_eq!(locking(locks, &wanted), BTreeSet::from([123, 124]));
    }
}
