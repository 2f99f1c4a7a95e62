//! A tree that is being staged: what may be in it, and how it is put there.
//!
//! Plain files, directories, inner relative symlinks, inner hard links, and nothing else, whatever
//! it comes from. Symlinks are made last, so that nothing is ever written through one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use rustix::fs::{AtFlags, Mode, OFlags, linkat, mkdirat, symlinkat};

use crate::os::{beneath, fs};
use crate::store::intake_error::{IntakeError, shown};

const N_ENTRIES_MAX: usize = 200_000;
const DEPTH_MAX: usize = 32;
const PATH_BYTES_MAX: usize = 1024;
const NAME_BYTES_MAX: usize = 255;
/// Of all names and link targets together: they are held in memory.
const NAMES_BYTES_MAX: usize = 16 * 1024 * 1024;
const CHUNK_BYTES: usize = 256 * 1024;
/// What the files begin with that macOS makes for what Linux has no place for (RFC 1740).
const APPLE_DOUBLE: &[u8; 4] = &[0, 5, 0x16, 7];

/// A tree on its way to `staging/`.
#[derive(Debug)]
pub struct Staging<'a> {
    root: OwnedFd,
    dir: PathBuf,
    cap_bytes: u64,
    size_bytes: u64,
    n_files: usize,
    /// Files of macOS that are no part of the program.
    n_left_out: usize,
    absolute_links: Vec<PathBuf>,
    names_bytes: usize,
    directories: BTreeSet<PathBuf>,
    files: BTreeSet<PathBuf>,
    links: BTreeMap<PathBuf, PathBuf>,
    cancelled: &'a AtomicBool,
}

impl<'a> Staging<'a> {
    /// An empty tree in a new directory; what lay there before is removed.
    ///
    /// # Errors
    /// The system's.
    pub fn begin(
        dir: &Path,
        cap_bytes: u64,
        cancelled: &'a AtomicBool,
        absolute_links: Vec<PathBuf>,
    ) -> Result<Self, IntakeError> {
        let begun = || -> io::Result<OwnedFd> {
            fs::remove_tree(dir)?;
            std::fs::create_dir(dir)?;
            fs::open_dir(dir)
        };
        let root = begun().map_err(|source| IntakeError::system(dir, source))?;
        Ok(Self {
            root,
            dir: dir.to_owned(),
            cap_bytes,
            size_bytes: 0,
            n_files: 0,
            n_left_out: 0,
            absolute_links,
            names_bytes: 0,
            directories: BTreeSet::new(),
            files: BTreeSet::new(),
            links: BTreeMap::new(),
            cancelled,
        })
    }

    /// Adds a directory. One that is there already is fine: archives name parents late.
    ///
    /// # Errors
    /// A name that may not be; the system's.
    pub fn directory(&mut self, name: &Path, mode: u32) -> Result<(), IntakeError> {
        let Some(path) = self.admitted(name)? else { return Ok(()) };
        if self.files.contains(&path) || self.links.contains_key(&path) {
            return Err(refused(&path, "it appears twice"));
        }
        self.make_directories(&path)?;
        self.set_mode(&path, mode)
    }

    /// Sets a directory's mode, in which its owner has to get in.
    fn set_mode(&self, dir: &Path, mode: u32) -> Result<(), IntakeError> {
        let mode = Mode::from_raw_mode(mode & 0o755 | 0o700);
        rustix::fs::chmodat(&self.root, dir, mode, AtFlags::empty())
            .map_err(|errno| IntakeError::system(dir, errno.into()))
    }

    /// Adds a file.
    ///
    /// # Errors
    /// A name that may not be, a size over the cap, the reader's and the system's.
    pub fn file(
        &mut self,
        name: &Path,
        (mode, modified): (u32, SystemTime),
        content: &mut dyn Read,
    ) -> Result<(), IntakeError> {
        let mut start = [0; APPLE_DOUBLE.len()];
        let n = self.n_of_macos(name, &mut start, content)?;
        let mut start = &start[..n];
        if start == APPLE_DOUBLE {
            self.n_left_out += 1;
            let rest = io::copy(content, &mut io::sink());
            return rest.map(drop).map_err(|error| IntakeError::reading(name, error));
        }
        let path = self.fresh(name)?;
        let content = &mut (&mut start).chain(content);
        // What only its owner could read stays so.
        let mode = mode & 0o755 | 0o600;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
        let system = |source| IntakeError::system(&path, source);
        let fd = beneath::open_beneath(&self.root, &path, flags, mode).map_err(system)?;
        let mut file = File::from(fd);
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            self.check_cancelled()?;
            let n = content.read(&mut chunk).map_err(|e| IntakeError::reading(&path, e))?;
            if n == 0 {
                break;
            }
            self.size_bytes += n as u64;
            if self.size_bytes > self.cap_bytes {
                return Err(IntakeError::TooLarge { cap_bytes: self.cap_bytes });
            }
            file.write_all(&chunk[..n]).map_err(system)?;
        }
        // Whatever the umask takes.
        file.set_permissions(Permissions::from_mode(mode)).map_err(system)?;
        // Compiled files name the time of their sources.
        file.set_modified(modified).map_err(system)?;
        self.n_files += 1;
        self.files.insert(path);
        Ok(())
    }

    /// Reads the first bytes of a file that has a name as macOS gives to what Linux has no place for.
    fn n_of_macos(
        &self,
        name: &Path,
        start: &mut [u8],
        content: &mut dyn Read,
    ) -> Result<usize, IntakeError> {
        let file_name = name.file_name().map_or(&b""[..], |name| name.as_encoded_bytes());
        let mut n = 0;
        while file_name.starts_with(b"._") && n < start.len() {
            match content.read(&mut start[n..]).map_err(|e| IntakeError::reading(name, e))? {
                0 => break,
                n_read => n += n_read,
            }
        }
        Ok(n)
    }

    /// Adds a hard link to a file that came before.
    ///
    /// # Errors
    /// When it points at anything else.
    pub fn hard_link(&mut self, name: &Path, to: &Path) -> Result<(), IntakeError> {
        let path = self.fresh(name)?;
        let target = plain(to).map_err(|why| refused(&path, why))?;
        let Some(target) = target.filter(|target| self.files.contains(target)) else {
            let why = format!("a hard link to {}, which is not a file before it", shown(to));
            return Err(refused(&path, &why));
        };
        linkat(&self.root, &target, &self.root, &path, AtFlags::empty())
            .map_err(|errno| IntakeError::system(&path, errno.into()))?;
        self.files.insert(path);
        Ok(())
    }

    /// Adds a symlink; it is made when the tree is finished.
    ///
    /// # Errors
    /// When it is absolute or leads out of the tree.
    pub fn symlink(&mut self, name: &Path, to: &Path) -> Result<(), IntakeError> {
        let path = self.fresh(name)?;
        let is_allowed = |dir: &PathBuf| to.starts_with(dir);
        let is_plain = to.components().all(|part| part != Component::ParentDir);
        let inside = match self.absolute_links.iter().any(is_allowed) && is_plain {
            true => Ok(()),
            false => stays_inside(&path, to),
        };
        inside
            .map_err(|why| refused(&path, &format!("a symlink to {}, which {why}", shown(to))))?;
        self.names_bytes += to.as_os_str().len();
        self.links.insert(path, to.to_owned());
        Ok(())
    }

    /// Makes the symlinks. A tree without a file is refused. Returns its bytes, and how many files were left
    /// out.
    ///
    /// # Errors
    /// When it is empty, or something lies below a symlink.
    pub fn finish(self) -> Result<(u64, usize), IntakeError> {
        if self.n_files == 0 {
            return Err(IntakeError::Empty);
        }
        let below = |path: &PathBuf| path.ancestors().skip(1).any(|up| self.links.contains_key(up));
        let all = self.files.iter().chain(&self.directories).chain(self.links.keys());
        if let Some(path) = all.into_iter().find(|path| below(path)) {
            return Err(refused(path, "it is below a symlink"));
        }
        for (path, target) in &self.links {
            symlinkat(target, &self.root, path)
                .map_err(|errno| IntakeError::system(path, errno.into()))?;
        }
        Ok((self.size_bytes, self.n_left_out))
    }

    /// Where it is being put.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Bytes of its files, and entries, so far.
    #[must_use]
    pub fn so_far(&self) -> (u64, usize) {
        (self.size_bytes, self.n_entries())
    }

    fn n_entries(&self) -> usize {
        self.files.len() + self.directories.len() + self.links.len()
    }

    /// Fails when the operation has been aborted.
    ///
    /// # Errors
    /// [`IntakeError::Cancelled`].
    pub fn check_cancelled(&self) -> Result<(), IntakeError> {
        let cancelled = self.cancelled.load(Ordering::Relaxed);
        if cancelled { Err(IntakeError::Cancelled) } else { Ok(()) }
    }

    fn fresh(&mut self, name: &Path) -> Result<PathBuf, IntakeError> {
        let Some(path) = self.admitted(name)? else {
            return Err(refused(name, "it has no name"));
        };
        let taken = self.files.contains(&path)
            || self.links.contains_key(&path)
            || self.directories.contains(&path);
        if taken {
            return Err(refused(&path, "it appears twice"));
        }
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            self.make_directories(parent)?;
        }
        Ok(path)
    }

    fn admitted(&mut self, name: &Path) -> Result<Option<PathBuf>, IntakeError> {
        self.check_cancelled()?;
        if self.n_entries() >= N_ENTRIES_MAX {
            return Err(IntakeError::TooMany { n_max: N_ENTRIES_MAX });
        }
        let path = plain(name).map_err(|why| refused(name, why))?;
        self.keep_name(name)?;
        Ok(path)
    }

    fn keep_name(&mut self, name: &Path) -> Result<(), IntakeError> {
        self.names_bytes += name.as_os_str().len();
        match self.names_bytes > NAMES_BYTES_MAX {
            true => Err(refused(name, "all names together are too long")),
            false => Ok(()),
        }
    }

    fn make_directories(&mut self, path: &Path) -> Result<(), IntakeError> {
        let mut missing: Vec<&Path> = path
            .ancestors()
            .filter(|up| !up.as_os_str().is_empty())
            .take_while(|up| !self.directories.contains(*up))
            .collect();
        missing.reverse();
        for dir in missing {
            if self.files.contains(dir) || self.links.contains_key(dir) {
                return Err(refused(path, "one of its parents is not a directory"));
            }
            match mkdirat(&self.root, dir, Mode::from_raw_mode(0o755)) {
                Ok(()) => self.set_mode(dir, 0o755)?,
                Err(rustix::io::Errno::EXIST) => {}
                Err(errno) => return Err(IntakeError::system(dir, errno.into())),
            }
            self.keep_name(dir)?;
            self.directories.insert(dir.to_owned());
        }
        Ok(())
    }
}

fn refused(path: &Path, why: &str) -> IntakeError {
    IntakeError::Refused { path: path.to_owned(), why: why.to_owned() }
}

/// The path without `./`, `None` for the root itself; or why it may not be.
fn plain(name: &Path) -> Result<Option<PathBuf>, &'static str> {
    let text = name.to_str().ok_or("its name is not UTF-8")?;
    if text.is_empty() {
        return Err("it has no name");
    }
    if text.chars().any(char::is_control) {
        return Err("its name has a control character");
    }
    let mut path = PathBuf::new();
    for part in name.components() {
        match part {
            Component::Normal(name) if name.len() > NAME_BYTES_MAX => {
                return Err("its name is too long");
            }
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::ParentDir => return Err("its path has a .."),
            Component::RootDir | Component::Prefix(_) => return Err("its path is absolute"),
        }
    }
    if path.as_os_str().len() > PATH_BYTES_MAX {
        return Err("its path is too long");
    }
    if path.components().count() > DEPTH_MAX {
        return Err("it is nested too deep");
    }
    Ok(Some(path).filter(|path| !path.as_os_str().is_empty()))
}

/// A symlink may go up first and then down, never up again: behind a name that is itself a symlink
/// a further `..` would lead elsewhere than it seems.
fn stays_inside(path: &Path, target: &Path) -> Result<(), &'static str> {
    let mut depth = path.components().count().saturating_sub(1);
    let mut went_down = false;
    match target.as_os_str().len() {
        0 => return Err("is empty"),
        1..=PATH_BYTES_MAX => {}
        _ => return Err("is too long"),
    }
    for part in target.components() {
        match part {
            Component::Normal(_) => went_down = true,
            Component::CurDir => {}
            Component::ParentDir if went_down => return Err("has a .. after a name"),
            Component::ParentDir => depth = depth.checked_sub(1).ok_or("leads out of the tree")?,
            Component::RootDir | Component::Prefix(_) => {
                return Err("is absolute, and into no directory that absolute_links allows");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symlinks_that_leave_the_tree_are_told_from_those_that_do_not() {
        let table = [
            ("a", "b", true),
            ("a", "b/c", true),
            ("d/a", "../b", true),
            ("d/a", "./x", true),
            ("a", "../b", false),
            ("d/a", "../../b", false),
            ("a", "/etc/passwd", false),
            ("d/e/a", "l/../../..", false),
            ("a", "", false),
        ];
        for (path, target, good) in table {
            let inside = stays_inside(Path::new(path), Path::new(target)).is_ok();
            assert_eq!(inside, good, "{path} -> {target}");
        }
    }

    #[test]
    fn only_plain_inner_paths_are_admitted() {
        let check = |name: &str| plain(Path::new(name)).map(|path| path.unwrap_or_default());
        assert_eq!(check("./bin/web"), Ok(PathBuf::from("bin/web")));
        assert_eq!(check("./"), Ok(PathBuf::new()));
        let deep = "d/".repeat(40);
        let long = "n".repeat(256);
        for bad in ["../a", "a/../b", "/abs", "", "a\nb", "a\u{1b}[0m", &deep, &long] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }
}
