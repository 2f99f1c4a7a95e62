//! With what every driver works: the service, whose user and environment the driver's tools get,
//! and where the data is.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsFd;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use crate::config::model::Settings;
use crate::core::ids::ReleaseId;
use crate::os::beneath::{self, Dir};
use crate::os::exchange::{self, Exchange};
use crate::os::proc;
use crate::supervisor::data::error::DataError;
use crate::supervisor::data::site::Site;
use crate::supervisor::service::Service;
use crate::supervisor::service::confinement::Confinement;
use crate::supervisor::spawn;
use crate::supervisor::tasks::task::{self, Background, Ended, Task};

/// Variables with their values.
pub(crate) type Env = Vec<(String, String)>;

/// With what a driver works.
pub(crate) struct Context<'a> {
    pub(crate) service: &'a Rc<Service>,
    pub(crate) release: ReleaseId,
    pub(crate) settings: Settings,
    /// A tool that runs longer is killed.
    pub(super) limit: Duration,
    pub(super) log: PathBuf,
    /// What commands on a copy were kept from.
    pub(super) kept_from: RefCell<Vec<String>>,
    /// What a command has brought to a copy, by the backup.
    pub(super) brought: RefCell<BTreeMap<PathBuf, BTreeSet<PathBuf>>>,
}

/// The same, kept for later.
pub(super) struct Kept {
    service: Rc<Service>,
    release: ReleaseId,
    settings: Settings,
    limit: Duration,
    log: PathBuf,
}

impl Kept {
    /// With what is worked now.
    pub(super) fn of(context: &Context<'_>) -> Self {
        Self {
            service: Rc::clone(context.service),
            release: context.release,
            settings: context.settings.clone(),
            limit: context.limit,
            log: context.log.clone(),
        }
    }

    /// To work with it.
    pub(super) fn context(&self) -> Context<'_> {
        Context {
            service: &self.service,
            release: self.release,
            settings: self.settings.clone(),
            limit: self.limit,
            log: self.log.clone(),
            kept_from: RefCell::default(),
            brought: RefCell::default(),
        }
    }
}

impl Context<'_> {
    /// Runs one of the driver's tools.
    pub(crate) async fn run(
        &self,
        name: &str,
        words: &[&str],
        env: Env,
        input: Option<String>,
    ) -> Result<Ended, DataError> {
        let task = self.task(name, words, env, input);
        DataError::unless_good(name, task::run(self.service, task).await?)
    }

    /// The same; what it prints is in no log.
    pub(crate) async fn run_quietly(
        &self,
        name: &str,
        words: &[&str],
        env: Env,
        input: Option<String>,
    ) -> Result<Ended, DataError> {
        let quiet = Task { log: None, ..self.task(name, words, env, input) };
        DataError::unless_good(name, task::run(self.service, quiet).await?)
    }

    /// Runs a command of the configuration, kept to what is given. Its work is done when all of its
    /// processes have ended, which are known by the mark.
    pub(crate) async fn run_confined(
        &self,
        name: &str,
        words: &[&str],
        env: Env,
        mark: &str,
        confinement: Confinement,
    ) -> Result<Ended, DataError> {
        let background = Background::Completed(mark.to_owned());
        let task = Task { confinement, background, ..self.task(name, words, env, None) };
        DataError::unless_good(name, task::run(self.service, task).await?)
    }

    fn task(&self, name: &str, words: &[&str], env: Env, input: Option<String>) -> Task {
        Task {
            name: name.to_owned(),
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            env,
            confinement: Confinement::default(),
            release: self.release,
            settings: self.settings.clone(),
            limit: self.limit,
            // What goes on behind a tool that was given up could replace live data later.
            background: Background::Killed,
            input: input.map(String::into_bytes),
            log: Some(self.log.clone()),
        }
    }

    /// A file or directory of the driver's, where this site has it. An absolute path below
    /// `shared/` is one below `shared/`; a link is followed, so that the copy has the place of what is
    /// really there.
    pub(crate) fn path(&self, site: &Site, path: &Path) -> PathBuf {
        let shared = resolved(&self.service.paths.shared());
        let plain: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
        let live = resolved(&joined(&shared, &plain));
        match site {
            Site::Live => live,
            Site::Scratch { dir, .. } => {
                let below = live.strip_prefix(&shared).or(live.strip_prefix("/"));
                joined(dir, below.unwrap_or(&live))
            }
        }
    }

    /// Notes what commands on a copy were kept from.
    pub(super) fn note_kept_from(&self, lines: Vec<String>) {
        self.kept_from.borrow_mut().extend(lines);
    }

    /// Notes what a command has brought to a copy from a backup.
    pub(super) fn note_brought(&self, from: &Path, brought: BTreeSet<PathBuf>) {
        self.brought.borrow_mut().insert(from.to_owned(), brought);
    }

    /// What was noted.
    pub(super) fn brought(&self, from: &Path) -> BTreeSet<PathBuf> {
        self.brought.borrow().get(from).cloned().unwrap_or_default()
    }

    /// Gives what the driver's tools shall write into to the service's user.
    pub(crate) fn give(&self, path: &Path) -> io::Result<()> {
        let (dir, name) = Dir::parent(path)?;
        self.give_held(dir.pin(&name)?)
    }

    /// The same of what is held open.
    pub(crate) fn give_held(&self, held: impl AsFd) -> io::Result<()> {
        match self.owner() {
            Some((user, group)) => beneath::give(held, (Some(user), Some(group))),
            None => Ok(()),
        }
    }

    /// The service's user and group.
    pub(crate) fn owner(&self) -> Option<(u32, u32)> {
        let user = self.settings.user.as_deref().and_then(proc::user)?;
        Some((user.uid, user.gid))
    }

    /// A directory of the service's user, which no other user can read.
    pub(crate) fn own_dir(&self, dir: &Path) -> Result<(), DataError> {
        let own = || {
            let (parent, name) = Dir::parent(dir)?;
            let own = parent.have_dir(&name, 0o700)?;
            own.set_mode(0o700)?;
            self.give_held(&own)
        };
        own().map_err(DataError::at(dir))
    }

    /// A directory at or below one of the service's user, who owns all on the way to it.
    pub(crate) fn own_below(&self, top: &Path, dir: &Path) -> io::Result<Dir> {
        let mut at = Dir::open(top)?;
        let below = dir.strip_prefix(top).map_err(|_| io::ErrorKind::InvalidInput)?;
        for name in below {
            at = at.have_dir(name, 0o755)?;
            self.give_held(&at)?;
        }
        Ok(at)
    }

    /// What a program gets in its environment to work on a copy: variables of its settings in which
    /// `shared/`, and the data's own `path`, are those of the copy. `own` are variables that the
    /// driver has changed itself.
    pub(crate) fn env(
        &self,
        site: &Site,
        settings: &Settings,
        path: Option<&Path>,
        own: Env,
    ) -> Env {
        let Site::Scratch { dir, .. } = site else { return Vec::new() };
        let mut moves = vec![(self.service.paths.shared(), dir.clone())];
        moves.extend(path.map(|path| (self.path(&Site::Live, path), self.path(site, path))));
        let mut env = settings.env.clone();
        env.extend(own);
        for value in env.values_mut() {
            for (from, to) in &moves {
                *value = moved(value, &from.to_string_lossy(), &to.to_string_lossy());
            }
        }
        env.retain(|name, value| settings.env.get(name) != Some(value));
        env.insert("HALLEY_SHARED".to_owned(), dir.to_string_lossy().into_owned());
        env.into_iter().collect()
    }
}

/// Whatever takes as long as the data is great does not hold the supervisor up.
pub(crate) async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn::lengthy(work).await?
}

/// Whether what is at a path can be renamed.
pub(crate) fn renamable(live: &Path, exchange: &Exchange) -> Result<(), DataError> {
    if exchange::is_mount_point(live) {
        return Err(DataError::MountPoint { path: live.to_owned() });
    }
    match exchange.pinned().map_err(DataError::at(live))? {
        Some(name) => Err(DataError::Pinned { path: live.with_file_name(name) }),
        None => Ok(()),
    }
}

/// A path without links. A link that may not be followed stays in it: whoever opens it is refused.
fn resolved(path: &Path) -> PathBuf {
    beneath::real(path).unwrap_or_else(|_| path.to_owned())
}

/// A path below another; `.` is that one itself.
fn joined(base: &Path, path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() { base.to_owned() } else { base.join(path) }
}

/// A text in which a path is another; what only begins with the same letters is another path.
fn moved(text: &str, from: &str, to: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(from) {
        let after = &rest[at + from.len()..];
        let goes_on = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        out.push_str(&rest[..at]);
        out.push_str(if after.starts_with(goes_on) { from } else { to });
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_moved_and_its_neighbours_are_not() {
        let moved = |text: &str| moved(text, "/srv/app.db", "/copy/app.db");
        assert_eq!(moved("sqlite:////srv/app.db?x=1"), "sqlite:////copy/app.db?x=1");
        assert_eq!(moved("/srv/app.db-old:/srv/app.db"), "/srv/app.db-old:/copy/app.db");
        assert_eq!(moved("/srv/app"), "/srv/app");
    }
}
