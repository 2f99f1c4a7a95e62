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
use crate::os::mounts;
use crate::supervisor::data::context::{self, Context};
use crate::supervisor::data::driver::{Done, Undone};
use crate::supervisor::data::error::DataError;
use crate::supervisor::data::site::Site;

/// What SQLite keeps beside a database: a journal of the former one is not the restored one's.
const JOURNALS: [&str; 3] = ["-wal", "-shm", "-journal"];

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
    is_shared: bool,
}

impl Aside {
    /// Those of these paths; of `shared/` where there are none.
    pub(super) fn of(context: &Context<'_>, paths: &[PathBuf]) -> Done<Self> {
        let own = [PathBuf::from(".")];
        let is_shared = paths.is_empty();
        let live = if is_shared { own.iter() } else { paths.iter() };
        let place = |path: &PathBuf| {
            let live = context.path(&Site::Live, path);
            let exchange = Exchange::at(&live, &[]).map_err(DataError::at(&live))?;
            Ok((live, exchange))
        };
        let places = live.map(place).collect::<Done<_>>()?;
        Ok(Self { places, is_shared })
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
        for (n, (_, exchange)) in self.places.iter().enumerate() {
            let (dir, staged) = (exchange.dir(), exchange.staged());
            let is_dir = match dir.look(exchange.name()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                found => Some(found?.is_dir()),
            };
            match is_dir {
                None => {
                    let mark = Dir::open(mark)?;
                    mark.create(&free(n), 0o600)?.sync_all()?;
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

    /// What is not there that the command was to bring.
    pub(super) fn lacks(&self, brought: &Brought) -> io::Result<Option<String>> {
        for (live, _) in &self.places {
            if !self.is_shared {
                if !live.exists() {
                    return Ok(Some(live.display().to_string()));
                }
                continue;
            }
            let here = Dir::open(live)?;
            let comes = |path: &PathBuf| {
                let name = path.file_name().unwrap_or_default();
                match path.parent().filter(|parent| *parent != Path::new("")) {
                    Some(parent) => here.dir(parent).is_ok_and(|dir| dir.look(name).is_ok()),
                    None => here.look(name).is_ok(),
                }
            };
            if !brought.is_empty() && !brought.iter().any(comes) {
                return Ok(brought.first().map(|path| path.display().to_string()));
            }
        }
        Ok(None)
    }

    /// Brings back what was set aside; what was free is free again.
    pub(super) fn take_back(&self, mark: &Path) -> io::Result<Undone> {
        let mark = Dir::open(mark)?;
        let mut undone = Undone::Untouched;
        for (n, (_, exchange)) in self.places.iter().enumerate() {
            if mark.look(&free(n)).is_ok() {
                exchange.dir().remove_tree(exchange.name())?;
                undone = Undone::Back;
                continue;
            }
            if exchange.take_back()? == Back::Moved {
                undone = Undone::Back;
            }
        }
        Ok(undone)
    }

    /// Where the first of it lies.
    pub(super) fn displaced(&self) -> io::Result<Option<PathBuf>> {
        for (live, exchange) in &self.places {
            if let Some(name) = exchange.displaced()? {
                return Ok(Some(live.with_file_name(name)));
            }
        }
        Ok(None)
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

fn free(n: usize) -> OsString {
    format!("free-{n}").into()
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
            let exchange = Exchange::at(&live, &[]).unwrap();
            (live, exchange)
        };
        fs::create_dir_all(dir.join(MARK)).unwrap();
        Aside { places: names.iter().map(place).collect(), is_shared }
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
        assert_eq!(aside.lacks(&brought).unwrap().as_deref(), Some("app.db"));
        fs::write(shared.join("app.db"), "new").unwrap();
        assert_eq!(aside.lacks(&brought).unwrap(), None);
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
        fs::write(dir.path().join("tree/a"), "old").unwrap();
        fs::write(dir.path().join("file"), "old").unwrap();
        let mark = dir.path().join(MARK);
        let aside = aside(dir.path(), &["tree", "file", "none"], false);
        aside.set(&Brought::new(), &mark).unwrap();
        assert!(all_in(&dir.path().join("tree")).unwrap().is_empty());
        assert!(aside.lacks(&Brought::new()).unwrap().is_some_and(|path| path.ends_with("/file")));
        for name in ["file", "none", "tree/b"] {
            fs::write(dir.path().join(name), "new").unwrap();
        }
        assert_eq!(aside.lacks(&Brought::new()).unwrap(), None);
        assert_eq!(aside.take_back(&mark).unwrap(), Undone::Back);
        assert_eq!(fs::read_to_string(dir.path().join("file")).unwrap(), "old");
        assert_eq!(all_in(&dir.path().join("tree")).unwrap(), Brought::from([PathBuf::from("a")]));
        assert!(!dir.path().join("none").exists());
    }
}
