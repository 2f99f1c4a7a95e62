//! What a restore by command is to fill is set aside by renames before the command runs, so that what was
//! there comes back without the command.
//!
//! Where the host names no paths, that is `shared/` as a whole. In its place is a copy with all that the
//! command does not bring: which files it brings, the rehearsal of the restore has shown.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::os::beneath::{self, Dir};
use crate::os::exchange::{Back, Exchange};
use crate::os::{mark, mounts};
use crate::supervisor::data::context::{self, Context};
use crate::supervisor::data::driver::{Done, JOURNALS, Undone};
use crate::supervisor::data::error::DataError;
use crate::supervisor::data::site::Site;

/// What a command has brought to a copy of `shared/`, by paths from there.
pub(super) type Brought = BTreeSet<PathBuf>;

/// Everything but directories that is in one.
pub(super) fn all_in(dir: &Path) -> io::Result<Brought> {
    let mut all = Brought::new();
    Dir::open(dir)?.walk(&mut |met| {
        if !met.meta.is_dir() {
            all.insert(met.path.to_owned());
        }
        Ok(())
    })?;
    Ok(all)
}

/// The places that a restore by command fills.
pub(super) struct Aside {
    places: Vec<(PathBuf, Exchange)>,
    shared: PathBuf,
    is_shared: bool,
}

impl Aside {
    /// Those of these paths; of `shared/` where there are none.
    pub(super) fn of(context: &Context<'_>, paths: &[PathBuf]) -> Done<Self> {
        let (shared, is_shared) = (context.path(&Site::Live, Path::new(".")), paths.is_empty());
        let live = paths.iter().map(|path| context.path(&Site::Live, path));
        let all = live.chain(is_shared.then(|| shared.clone()));
        let place = |live: PathBuf| {
            let exchange = exchange(&live).map_err(DataError::at(&live))?;
            Ok((live, exchange))
        };
        let places = all.map(place).collect::<Done<_>>()?;
        Ok(Self { places, shared, is_shared })
    }

    /// Whether all of it can be renamed.
    pub(super) fn renamable(&self) -> Done {
        for (live, exchange) in self.places.iter().filter(|(live, _)| live.exists()) {
            let below = mounts::below(live).into_iter().next().filter(|_| self.is_shared);
            match (context::renamable(live, exchange), below) {
                (Err(DataError::MountPoint { path }), _) | (Ok(()), Some(path)) => {
                    return Err(DataError::NotSetAside { path });
                }
                (renamable, _) => renamable?,
            }
        }
        Ok(())
    }

    /// Sets it aside. In its place is an empty directory where there was one, or a copy of `shared/` without
    /// what the command brings. `mark`, a directory, says durably which places were free before.
    pub(super) fn set(&self, brought: &Brought, mark: &Path) -> io::Result<()> {
        for (live, exchange) in &self.places {
            let (dir, staged) = (exchange.dir(), exchange.staged());
            let is_dir = match dir.look(exchange.name()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                found => Some(found?.is_dir()),
            };
            match is_dir {
                None => {
                    let mark = Dir::open(mark)?;
                    mark.create(&free(live), 0o600)?.sync_all()?;
                    mark.sync()?;
                }
                Some(true) => {
                    let place = dir.dir(exchange.name())?;
                    dir.remove_tree(&staged)?;
                    if self.is_shared {
                        place.copy_wanted_to(dir, &staged, &|path| !is_brought(path, brought))?;
                    } else {
                        let made = dir.make_dir(&staged, 0o700)?;
                        beneath::liken(made, &place.metadata()?, &place)?;
                    }
                    exchange.put()?;
                }
                Some(false) => exchange.set_aside()?,
            }
        }
        Ok(())
    }

    /// What is not there that the command was to bring. A tree that is there may be the empty one that was
    /// put there: something must be in it of what comes in the rehearsal.
    pub(super) fn lacks(&self, brought: &Brought) -> Option<PathBuf> {
        let is_there = |path: &PathBuf| path.symlink_metadata().is_ok();
        let lacking = self.places.iter().find_map(|(live, _)| {
            let all = brought.iter().map(|path| self.shared.join(path));
            let mut wanted: Vec<PathBuf> = all.filter(|path| path.starts_with(live)).collect();
            if wanted.is_empty() {
                wanted.push(live.clone());
            }
            let comes = wanted.iter().any(is_there);
            wanted.into_iter().next().filter(|_| !comes)
        })?;
        Some(lacking.strip_prefix(&self.shared).map(Path::to_owned).unwrap_or(lacking))
    }

    /// Brings back what was set aside; what was free is free again.
    pub(super) fn take_back(&self, mark: &Path) -> io::Result<Undone> {
        let mut undone = Undone::Untouched;
        for (live, exchange) in &self.places {
            if mark.join(free(live)).try_exists()? {
                exchange.dir().remove_tree(exchange.name())?;
                undone = Undone::Back;
            } else if exchange.take_back()? == Back::Moved {
                undone = Undone::Back;
            }
        }
        Ok(undone)
    }

    /// Where all of it lies.
    pub(super) fn displaced(&self) -> io::Result<Vec<PathBuf>> {
        let aside = self.places.iter().map(|(live, exchange)| exchange.aside(live));
        Ok(aside.collect::<io::Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// Removes what was set aside.
    pub(super) fn let_go(&self) -> io::Result<()> {
        self.places.iter().try_for_each(|(_, exchange)| exchange.remove_before())
    }

    /// Removes what stood, or was to stand, in its place.
    pub(super) fn unstage(&self) -> io::Result<()> {
        self.places.iter().try_for_each(|(_, exchange)| exchange.remove_staged())
    }
}

/// A place, with what belongs to it: the journals of a file, which may be a database. Those of the former
/// one are not the restored one's.
fn exchange(live: &Path) -> io::Result<Exchange> {
    let (tree, file) = (Exchange::at(live, &[])?, Exchange::at(live, &JOURNALS)?);
    let aside = file.aside(live)?.or(tree.aside(live)?);
    let found = aside.as_deref().unwrap_or(live).symlink_metadata();
    Ok(if found.is_ok_and(|found| found.is_dir()) { tree } else { file })
}

/// Says that a place was free, whatever else is in the configuration by then.
fn free(live: &Path) -> OsString {
    format!("free-{:016x}", mark::hash(live.as_os_str().as_bytes())).into()
}

fn is_brought(path: &Path, brought: &Brought) -> bool {
    if brought.contains(path) {
        return true;
    }
    let name = path.as_os_str().as_bytes();
    let bases = JOURNALS.iter().filter_map(|ending| name.strip_suffix(ending.as_bytes()));
    bases.into_iter().any(|base| brought.contains(Path::new(OsStr::from_bytes(base))))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const MARK: &str = "mark";

    fn aside(dir: &Path, names: &[&str], is_shared: bool) -> Aside {
        let place = |name: &&str| {
            let live = dir.join(name);
            let exchange = exchange(&live).unwrap();
            (live, exchange)
        };
        fs::create_dir_all(dir.join(MARK)).unwrap();
        let shared = if is_shared { dir.join("shared") } else { dir.to_owned() };
        Aside { places: names.iter().map(place).collect(), shared, is_shared }
    }

    #[test]
    fn what_a_command_does_not_bring_stays_and_what_it_has_replaced_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let shared = dir.path().join("shared");
        fs::create_dir_all(shared.join("keys")).unwrap();
        for (name, text) in [("app.db", "old"), ("app.db-wal", "log"), ("keys/key", "secret")] {
            fs::write(shared.join(name), text).unwrap();
        }
        let mark = dir.path().join(MARK);
        let aside = aside(dir.path(), &["shared"], true);
        let brought = Brought::from([PathBuf::from("app.db")]);
        aside.set(&brought, &mark).unwrap();
        assert_eq!(all_in(&shared).unwrap(), Brought::from([PathBuf::from("keys/key")]));
        assert_eq!(aside.lacks(&brought).as_deref(), Some(Path::new("app.db")));
        fs::write(shared.join("app.db"), "new").unwrap();
        assert_eq!(aside.lacks(&brought), None);
        fs::remove_dir_all(shared.join("keys")).unwrap();
        assert_eq!(aside.take_back(&mark).unwrap(), Undone::Back);
        assert_eq!(fs::read_to_string(shared.join("app.db")).unwrap(), "old");
        assert_eq!(fs::read_to_string(shared.join("keys/key")).unwrap(), "secret");
        assert_eq!(aside.take_back(&mark).unwrap(), Undone::Untouched);
        aside.unstage().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "shared and the mark");
    }

    #[test]
    fn named_paths_are_set_aside_alone_and_free_ones_are_free_again() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("tree")).unwrap();
        for name in ["tree/a", "file", "file-wal", "tree-wal"] {
            fs::write(dir.path().join(name), "old").unwrap();
        }
        let mark = dir.path().join(MARK);
        let beside = |names: &[&str]| aside(dir.path(), names, false);
        let all = beside(&["tree", "file", "none"]);
        all.set(&Brought::new(), &mark).unwrap();
        let aside =
            [".tree.before-restore", ".file.before-restore"].map(|name| dir.path().join(name));
        assert_eq!(all.displaced().unwrap(), aside);
        assert!(all_in(&dir.path().join("tree")).unwrap().is_empty());
        assert!(dir.path().join("tree-wal").exists() && !dir.path().join("file-wal").exists());
        let brought = ["file", "none", "tree/b"].map(PathBuf::from);
        for (n, name) in ["tree/b", "file", "none"].iter().enumerate() {
            let lacking = all.lacks(&brought.iter().cloned().collect());
            assert_eq!(lacking.as_deref(), Some(Path::new(name)), "{n}");
            fs::write(dir.path().join(name), "new").unwrap();
        }
        assert_eq!(all.lacks(&brought.into()), None);
        // The other one was there all the time, and is in no list that the restore had.
        let others = beside(&["tree-wal", "none", "tree", "file"]);
        assert_eq!(others.take_back(&mark).unwrap(), Undone::Back);
        for name in ["file", "file-wal", "tree-wal"] {
            assert_eq!(fs::read_to_string(dir.path().join(name)).unwrap(), "old", "{name}");
        }
        assert_eq!(all_in(&dir.path().join("tree")).unwrap(), Brought::from([PathBuf::from("a")]));
        assert!(!dir.path().join("none").exists());
        fs::remove_dir_all(&mark).unwrap();
        assert_eq!(beside(&["file"]).take_back(&mark).unwrap(), Undone::Untouched);
    }
}
