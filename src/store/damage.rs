//! What is damaged of a service's files: empty, cut off, foreign, missing, or no file at all. It is looked
//! for and named; nothing is changed here.

use std::fs;
use std::path::{Path, PathBuf};

use crate::core::ids::{OpId, ReleaseId};
use crate::core::retention::Verdict;
use crate::store::journal::{self, JournalError};
use crate::store::layout::ServiceLayout;
use crate::store::release::{self, ReleaseError};
use crate::store::state::{State, StateError};
use crate::store::{salvage, trial};

/// A file that is not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file, or the directory.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
    /// What it is to the service.
    pub part: Part,
}

/// What a file is to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// One of its own directories.
    Directory,
    /// `state.json`.
    State,
    /// The journal of its newest operation.
    Journal(OpId),
    /// The trial.
    Trial,
    /// `current`.
    Current,
    /// What a release is.
    Manifest(ReleaseId),
    /// The hashes of its files.
    Hashes(ReleaseId),
    /// The settings it runs with.
    Settings(ReleaseId),
    /// What became of it.
    Verdict(ReleaseId),
    /// The tree itself.
    Tree(ReleaseId),
}

/// Everything that is damaged, in the order in which it is to be mended.
#[must_use]
pub fn find(paths: &ServiceLayout) -> Vec<Damage> {
    if !paths.dir().exists() {
        return Vec::new();
    }
    let mut found = directories(paths);
    let state = State::load(paths);
    let named = state.as_ref().map(named).unwrap_or_default();
    let mut releases = ServiceLayout::numbers(&paths.releases());
    releases.extend(named.iter().map(|release| release.0));
    releases.sort_unstable();
    releases.dedup();
    for release in releases.into_iter().map(ReleaseId) {
        found.extend(of_release(paths, release));
    }
    found.extend(of_journal(paths));
    if let Err(error) = trial::read(paths) {
        let path = trial::present(paths).unwrap_or_else(|| paths.dir().to_owned());
        let why = error.to_string();
        let why = why.rsplit_once(": ").map_or(why.as_str(), |(_, why)| why).to_owned();
        found.push(Damage { path, why, part: Part::Trial });
    }
    match &state {
        // It is whole, and needs another halley-sup.
        Ok(_) | Err(StateError::Version { .. }) => {}
        Err(error) => {
            found.push(Damage { path: paths.state(), why: of_state(error), part: Part::State });
        }
    }
    let has_good = state.as_ref().map_or(true, |state| state.last_good.is_some());
    found.extend(of_current(paths, has_good));
    found
}

fn named(state: &State) -> Vec<ReleaseId> {
    let standby = state.standby.as_ref().map(|standby| standby.release);
    let good = state.last_good.map(|good| good.release);
    good.into_iter().chain(standby).map(ReleaseId).collect()
}

fn of_state(error: &StateError) -> String {
    match error {
        StateError::System { source, .. } => source.to_string(),
        StateError::Garbled { source, .. } => source.to_string(),
        StateError::Damaged { .. } => "its checksum is of another text".to_owned(),
        StateError::Missing { .. } => "it is missing".to_owned(),
        StateError::Version { found, .. } => format!("it has version {found}"),
    }
}

fn directories(paths: &ServiceLayout) -> Vec<Damage> {
    let odd = |path: PathBuf| {
        let why = match fs::metadata(&path) {
            Ok(meta) if meta.is_dir() => return None,
            Ok(_) => "it is no directory".to_owned(),
            Err(error) => error.to_string(),
        };
        Some(Damage { path, why, part: Part::Directory })
    };
    paths.directories().into_iter().filter_map(odd).collect()
}

fn of_journal(paths: &ServiceLayout) -> Option<Damage> {
    let op = OpId(ServiceLayout::numbers(&paths.ops()).pop()?);
    let why = match journal::read(paths, op) {
        Ok(None) if salvage::is_missing(paths, op) => "it is missing".to_owned(),
        Ok(_) => return None,
        Err(JournalError::Damaged { line, .. }) => format!("line {line} is damaged"),
        Err(JournalError::System { source, .. }) => source.to_string(),
    };
    Some(Damage { path: journal::path(paths, op), why, part: Part::Journal(op) })
}

fn of_release(paths: &ServiceLayout, release: ReleaseId) -> Vec<Damage> {
    let meta = paths.meta(release);
    let part = |error: ReleaseError, part| Damage {
        path: error.path,
        why: error.source.to_string(),
        part,
    };
    let verdict = release::verdict(paths, release);
    let mut found = Vec::new();
    if meta.exists() && !meta.is_dir() {
        let why = "it is no directory".to_owned();
        found.push(Damage { path: meta.clone(), why, part: Part::Directory });
    }
    if let Err(error) = release::manifest(paths, release) {
        found.push(part(error, Part::Manifest(release)));
    }
    if let Err(error) = release::settings(paths, release) {
        found.push(part(error, Part::Settings(release)));
    }
    // A tree that serves is looked at as a whole; what failed once is kept for people alone.
    let is_failed = matches!(&verdict, Ok((Verdict::Bad | Verdict::Aborted, _)));
    if let Err(error) = verdict {
        found.push(part(error, Part::Verdict(release)));
    }
    let tree = paths.release(release);
    match release::damage(paths, release) {
        Ok(files) if files.is_empty() || is_failed => {}
        Ok(files) => {
            found.push(Damage { path: tree, why: changed(&files), part: Part::Tree(release) })
        }
        Err(error) if error.path.starts_with(&meta) => {
            found.push(part(error, Part::Hashes(release)));
        }
        Err(error) => found.push(part(error, Part::Tree(release))),
    }
    found
}

fn changed(files: &[String]) -> String {
    const N_NAMED: usize = 3;
    let names = files.iter().take(N_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = files.len().saturating_sub(N_NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("missing, or not what was released: {names}{more}")
}

fn of_current(paths: &ServiceLayout, has_good: bool) -> Option<Damage> {
    let path = paths.current();
    let why = match fs::read_link(&path) {
        Ok(target) if paths.dir().join(&target).is_dir() => return None,
        Ok(target) => format!("it points to {}, which is not there", target.display()),
        // Nothing was ever live.
        Err(_) if !is_there(&path) && !has_good => return None,
        Err(_) if !is_there(&path) => "it is missing".to_owned(),
        Err(_) => "it is no symlink".to_owned(),
    };
    Some(Damage { path, why, part: Part::Current })
}

fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}
