//! A file or a directory takes the place of another by renames in one directory: what was there comes
//! back without room, without a copy, and after a crash at any step.
//!
//! Three names: the one that programs use, `.NAME.restored` for what is to come, and
//! `.NAME.before-restore` for what was there. The last one exists from the first rename on until what
//! was there is back, or is removed: it says by itself how far an exchange came. What is beside the
//! name and belongs to it (the journals of a database) goes with it. Of a name that is so long that
//! these do not fit, they have the beginning and a hash.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, StatxAttributes, StatxFlags, statx};

use crate::os::beneath::Dir;
use crate::os::mark;

/// Bytes of a name (`limits.h`).
const NAME_MAX: usize = 255;
const STAGED: &str = ".restored";
const BEFORE: &str = ".before-restore";

/// One step of an exchange. A crash comes between two of them.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Rename(OsString, OsString),
    Remove(OsString),
    /// What was done so far lasts before what comes next.
    Sync,
}

/// What was found when what was there was asked back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Back {
    /// It had been moved away, and is back.
    Moved,
    /// It had not been moved.
    Untouched,
    /// There was nothing before.
    Nothing,
}

/// The place of a file or a directory that is exchanged.
#[derive(Debug)]
pub struct Exchange {
    dir: Dir,
    name: OsString,
    companions: &'static [&'static str],
}

impl Exchange {
    /// The place of a path without links. `companions` are endings of what belongs to it.
    ///
    /// # Errors
    /// When its directory cannot be opened.
    pub fn at(path: &Path, companions: &'static [&'static str]) -> io::Result<Self> {
        let (dir, name) = Dir::holder(path)?;
        Ok(Self { dir, name, companions })
    }

    /// The directory that it is in.
    #[must_use]
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// The name that programs use.
    #[must_use]
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// Under this name that is made which is to come.
    #[must_use]
    pub fn staged(&self) -> OsString {
        self.called(STAGED)
    }

    /// What cannot be renamed because of its attributes (`chattr(1)`: immutable, append only): the place,
    /// what belongs to it, or their directory.
    ///
    /// # Errors
    /// When they cannot be looked at.
    pub fn pinned(&self) -> io::Result<Option<OsString>> {
        let pins = StatxAttributes::IMMUTABLE | StatxAttributes::APPEND;
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
        let is_pinned = |name: &OsStr| {
            let found = statx(&self.dir, name, flags, StatxFlags::BASIC_STATS);
            found.is_ok_and(|found| found.stx_attributes.intersects(pins))
        };
        let mut names: Vec<OsString> = self.present()?.into_iter().collect();
        names.push(OsString::new());
        Ok(names.into_iter().find(|name| is_pinned(name)))
    }

    /// Where that lies which was there before, if something was, beside the path of the place.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn aside(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        let before = self.called(BEFORE);
        Ok(self.present()?.contains(&before).then(|| path.with_file_name(before)))
    }

    /// Puts what is staged in the place. What was there must be removed or back from an earlier one.
    ///
    /// # Errors
    /// The system's; [`Self::take_back`] undoes what was done.
    pub fn put(&self) -> io::Result<()> {
        self.perform(&self.put_steps(&self.present()?))
    }

    /// Moves what is there out of the place, which is free then. Nothing may be left of an earlier one.
    ///
    /// # Errors
    /// The system's; [`Self::take_back`] undoes what was done.
    pub fn set_aside(&self) -> io::Result<()> {
        self.perform(&self.aside_steps(&self.present()?))
    }

    /// Brings back what was there; what was put in its place is staged again.
    ///
    /// # Errors
    /// The system's; done again it goes on.
    pub fn take_back(&self) -> io::Result<Back> {
        let present = self.present()?;
        let steps = self.back_steps(&present);
        self.perform(&steps)?;
        let is_put = present.contains(&self.name) && !present.contains(&self.called(STAGED));
        Ok(match (steps.is_empty(), is_put) {
            (false, _) => Back::Moved,
            (true, true) => Back::Nothing,
            (true, false) => Back::Untouched,
        })
    }

    /// Removes what was there before, once something else is in its place.
    ///
    /// # Errors
    /// The system's.
    pub fn remove_before(&self) -> io::Result<()> {
        let present = self.present()?;
        if !present.contains(&self.name) {
            return Ok(());
        }
        let before = self.called(BEFORE);
        let mut all = self.with_companions(&before);
        all.reverse();
        all.push(before);
        self.perform(&removals(all, &present))
    }

    /// Removes what is staged.
    ///
    /// # Errors
    /// The system's.
    pub fn remove_staged(&self) -> io::Result<()> {
        let staged = self.called(STAGED);
        let mut all = self.with_companions(&staged);
        all.push(staged);
        self.perform(&removals(all, &self.present()?))
    }

    fn put_steps(&self, present: &BTreeSet<OsString>) -> Vec<Step> {
        let mut steps = self.aside_steps(present);
        steps.extend([Step::Rename(self.called(STAGED), self.name.clone()), Step::Sync]);
        steps
    }

    fn aside_steps(&self, present: &BTreeSet<OsString>) -> Vec<Step> {
        let before = self.called(BEFORE);
        let mut steps = Vec::new();
        if present.contains(&self.name) {
            // The file first: as long as it is there, what belongs to it is there too.
            steps.push(Step::Rename(self.name.clone(), before.clone()));
        }
        steps.extend(self.moves(&self.name, &before, present));
        steps.push(Step::Sync);
        steps
    }

    fn back_steps(&self, present: &BTreeSet<OsString>) -> Vec<Step> {
        let (staged, before) = (self.called(STAGED), self.called(BEFORE));
        if !present.contains(&before) {
            return Vec::new();
        }
        let mut steps = Vec::new();
        if present.contains(&self.name) {
            // The journals beside it are those of what was put there: all others are moved by then.
            let mut wrong = self.with_companions(&self.name);
            wrong.push(staged.clone());
            steps.extend(removals(wrong, present));
            steps.extend([Step::Sync, Step::Rename(self.name.clone(), staged), Step::Sync]);
        }
        steps.extend(self.moves(&before, &self.name, present));
        // The file last: until then the exchange is not undone.
        steps.extend([Step::Sync, Step::Rename(before, self.name.clone()), Step::Sync]);
        steps
    }

    fn moves(&self, from: &OsStr, to: &OsStr, present: &BTreeSet<OsString>) -> Vec<Step> {
        let pairs = self.with_companions(from).into_iter().zip(self.with_companions(to));
        let there = pairs.filter(|(from, _)| present.contains(from));
        there.map(|(from, to)| Step::Rename(from, to)).collect()
    }

    fn with_companions(&self, name: &OsStr) -> Vec<OsString> {
        self.companions.iter().map(|ending| joined(name, ending)).collect()
    }

    fn called(&self, ending: &str) -> OsString {
        let longest = self.companions.iter().map(|ending| ending.len()).max().unwrap_or(0);
        let room = NAME_MAX - ".".len() - BEFORE.len() - longest;
        let mut name = OsString::from(".");
        if self.name.len() <= room {
            name.push(&self.name);
        } else {
            let hash = format!("-{:016x}", mark::hash(self.name.as_encoded_bytes()));
            let text = self.name.to_string_lossy();
            let mut end = room - hash.len();
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            name.push(&text[..end]);
            name.push(hash);
        }
        joined(&name, ending)
    }

    /// Which of all names exist.
    fn present(&self) -> io::Result<BTreeSet<OsString>> {
        let bases = [self.name.clone(), self.called(STAGED), self.called(BEFORE)];
        let mut present = BTreeSet::new();
        for base in bases {
            let mut names = self.with_companions(&base);
            names.push(base);
            for name in names {
                match self.dir.look(&name) {
                    Ok(_) => drop(present.insert(name)),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(present)
    }

    fn perform(&self, steps: &[Step]) -> io::Result<()> {
        for step in steps {
            match step {
                Step::Rename(from, to) => self.dir.rename(from, &self.dir, to)?,
                Step::Remove(name) => self.dir.remove_tree(name)?,
                Step::Sync => self.dir.sync()?,
            }
        }
        Ok(())
    }
}

fn removals(names: Vec<OsString>, present: &BTreeSet<OsString>) -> Vec<Step> {
    names.into_iter().filter(|name| present.contains(name)).map(Step::Remove).collect()
}

fn joined(name: &OsStr, ending: impl AsRef<OsStr>) -> OsString {
    let mut name = name.to_owned();
    name.push(ending);
    name
}

/// Whether something is mounted at this path, so that it cannot be renamed (`STATX_ATTR_MOUNT_ROOT`,
/// Linux 5.8; before, a bind mount of the same file system is not seen).
#[must_use]
pub fn is_mount_point(path: &Path) -> bool {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    let Ok(found) = statx(rustix::fs::CWD, path, flags, StatxFlags::BASIC_STATS) else {
        return false;
    };
    let device =
        |path: &Path| path.metadata().ok().map(|meta| std::os::unix::fs::MetadataExt::dev(&meta));
    let by_device = || path.parent().is_some_and(|parent| device(parent) != device(path));
    let mount_root = StatxAttributes::MOUNT_ROOT;
    if found.stx_attributes_mask.contains(mount_root) {
        found.stx_attributes.contains(mount_root)
    } else {
        by_device()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOURNALS: &[&str] = &["-wal", "-shm"];

    fn write(dir: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            std::fs::write(dir.join(name), text).unwrap();
        }
    }

    fn read(dir: &Path) -> Vec<(String, String)> {
        let entries = std::fs::read_dir(dir).unwrap().flatten();
        let name = |entry: &std::fs::DirEntry| entry.file_name().into_string().unwrap();
        let mut all: Vec<_> = entries
            .map(|entry| (name(&entry), std::fs::read_to_string(entry.path()).unwrap()))
            .filter(|(name, _)| !name.ends_with(".restored"))
            .collect();
        all.sort();
        all
    }

    /// A crash after each step of an exchange, and after each step of its undoing.
    #[test]
    fn what_was_there_comes_back_after_a_crash_at_any_step() {
        const OLD: [(&str, &str); 2] = [("db", "old"), ("db-wal", "old log")];
        let mut n_crashes = 0;
        for put in 0..=5 {
            for back in 0..=12 {
                let dir = tempfile::tempdir().unwrap();
                write(dir.path(), &OLD);
                write(dir.path(), &[(".db.restored", "new")]);
                let exchange = Exchange::at(&dir.path().join("db"), JOURNALS).unwrap();
                let steps = exchange.put_steps(&exchange.present().unwrap());
                assert_eq!(steps.len(), 5);
                exchange.perform(&steps[..put]).unwrap();
                if put >= 4 {
                    // A program has it open for a moment.
                    write(dir.path(), &[("db-wal", "new log"), ("db-shm", "new")]);
                }
                let steps = exchange.back_steps(&exchange.present().unwrap());
                exchange.perform(&steps[..back.min(steps.len())]).unwrap();
                exchange.take_back().unwrap();
                let old = OLD.map(|(name, text)| (name.to_owned(), text.to_owned()));
                assert_eq!(read(dir.path()), old, "put {put}, back {back}");
                n_crashes += 1;
            }
        }
        assert_eq!(n_crashes, 78);
    }

    #[test]
    fn what_is_put_is_there_with_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &[("db", "old"), ("db-wal", "log"), (".db.restored", "new")]);
        let exchange = Exchange::at(&dir.path().join("db"), JOURNALS).unwrap();
        exchange.put().unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join(".db.before-restore")).unwrap(), "old");
        exchange.remove_before().unwrap();
        assert_eq!(read(dir.path()), [("db".to_owned(), "new".to_owned())]);
        assert_eq!(exchange.take_back().unwrap(), Back::Nothing);
        assert_eq!(read(dir.path()), [("db".to_owned(), "new".to_owned())]);
        write(dir.path(), &[(".db.restored", "newer")]);
        assert_eq!(exchange.take_back().unwrap(), Back::Untouched);
    }

    #[test]
    fn the_longest_names_have_names_of_their_own_beside_them() {
        let dir = tempfile::tempdir().unwrap();
        // The longest with which SQLite can name its journals, also of characters of two bytes.
        for base in ["x".repeat(246), "\u{e4}".repeat(123)] {
            let names = ["1", "2"].map(|end| format!("{base}{end}"));
            let exchanges =
                names.clone().map(|name| Exchange::at(&dir.path().join(name), JOURNALS).unwrap());
            for (exchange, name) in exchanges.iter().zip(&names) {
                let (wal, staged) = (format!("{name}-wal"), exchange.staged().into_string());
                write(dir.path(), &[(name, name), (&wal, name), (&staged.unwrap(), "new")]);
            }
            for exchange in &exchanges {
                exchange.put().unwrap();
            }
            for (exchange, name) in exchanges.iter().zip(&names) {
                assert_eq!(exchange.take_back().unwrap(), Back::Moved);
                exchange.remove_staged().unwrap();
                for there in [name, &format!("{name}-wal")] {
                    let path = dir.path().join(there);
                    assert_eq!(std::fs::read_to_string(&path).unwrap(), *name);
                    std::fs::remove_file(path).unwrap();
                }
            }
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left");
        }
    }

    #[test]
    fn the_only_copy_is_never_removed() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &[(".db.before-restore", "old")]);
        let exchange = Exchange::at(&dir.path().join("db"), JOURNALS).unwrap();
        exchange.remove_before().unwrap();
        assert_eq!(exchange.take_back().unwrap(), Back::Moved);
        assert_eq!(read(dir.path()), [("db".to_owned(), "old".to_owned())]);
    }

    #[test]
    fn a_mount_point_is_known() {
        assert!(is_mount_point(Path::new("/proc")));
        assert!(!is_mount_point(tempfile::tempdir().unwrap().path()));
    }
}
