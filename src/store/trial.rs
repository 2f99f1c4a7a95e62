//! The trial: a release that is live but not committed, as a file whose *name* holds how often the
//! supervisor may still come up in the middle of it.
//!
//! Counting down is one rename: it needs no space and is the likeliest thing to be atomic on a poor
//! file system.

use std::fs;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::core::ordered;
use crate::json;
use crate::os::fs as durable;
use crate::store::layout::ServiceLayout;
use crate::store::reserve;

/// How often a supervisor may come up during one trial before the trial counts as failed.
pub const N_TRIES: u8 = 2;

/// What is on trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// Version of this format, now 1.
    pub version: u16,
    /// Which release.
    pub release: u64,
    /// Its processes' generation.
    pub generation: u64,
    /// The operation that put it live.
    pub op: u64,
    /// Tries left; from the name of the file.
    #[serde(skip)]
    pub n_tries_left: u8,
}

/// Begins a trial, durably.
///
/// # Errors
/// The system's.
pub fn begin(paths: &ServiceLayout, trial: &Trial) -> io::Result<()> {
    clear(paths)?;
    let text = json::to_vec(trial)?;
    reserve::replace(&paths.reserve(), &path(paths, trial.n_tries_left), &text)
}

/// The trial, if there is one. Of several the one with the fewest tries counts.
///
/// # Errors
/// When it cannot be read.
pub fn read(paths: &ServiceLayout) -> io::Result<Option<Trial>> {
    let Some((n_tries_left, path)) = files(paths)?.into_iter().next() else { return Ok(None) };
    let name =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let text = fs::read(&path).map_err(name)?;
    let trial: Trial = json::from_slice(&text).map_err(|error| name(error.into()))?;
    Ok(Some(Trial { n_tries_left, ..trial }))
}

/// The file of the trial that counts.
#[must_use]
pub fn present(paths: &ServiceLayout) -> Option<PathBuf> {
    files(paths).ok()?.into_iter().next().map(|(_, path)| path)
}

/// How many tries the trial's name still has; all of them when there is none.
#[must_use]
pub fn n_tries_left(paths: &ServiceLayout) -> u8 {
    let newest = files(paths).ok().and_then(|files| files.into_iter().next());
    newest.map_or(N_TRIES, |(n_tries_left, _)| n_tries_left)
}

/// Takes one try away and returns how many there were, 0 when there is no trial.
///
/// # Errors
/// The system's.
pub fn use_one(paths: &ServiceLayout) -> io::Result<u8> {
    let Some((n, from)) = files(paths)?.into_iter().next() else { return Ok(0) };
    if n > 0 {
        fs::rename(from, path(paths, n - 1))?;
        durable::sync_dir(paths.dir())?;
    }
    Ok(n)
}

/// Ends the trial.
///
/// # Errors
/// The system's.
pub fn clear(paths: &ServiceLayout) -> io::Result<()> {
    let files = files(paths)?;
    for (_, path) in &files {
        fs::remove_file(path)?;
    }
    if files.is_empty() { Ok(()) } else { durable::sync_dir(paths.dir()) }
}

fn path(paths: &ServiceLayout, n_tries: u8) -> PathBuf {
    paths.dir().join(format!("trial+{n_tries}"))
}

fn files(paths: &ServiceLayout) -> io::Result<Vec<(u8, PathBuf)>> {
    let entries: Vec<fs::DirEntry> = fs::read_dir(paths.dir())?.collect::<Result<_, _>>()?;
    let mut files: Vec<(u8, PathBuf)> = entries
        .into_iter()
        .filter_map(|entry| {
            let n = entry.file_name().to_str()?.strip_prefix("trial+")?.parse().ok()?;
            Some((n, entry.path()))
        })
        .collect();
    ordered::sort(&mut files, |a, b| a < b);
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::layout::Layout;

    #[test]
    fn tries_are_counted_down_in_the_name_and_end_at_none() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Layout::new(dir.path()).service(&"web".parse().unwrap());
        paths.create().unwrap();
        assert_eq!(read(&paths).unwrap(), None);
        let trial = Trial { version: 1, release: 4, generation: 2, op: 7, n_tries_left: 2 };
        begin(&paths, &trial).unwrap();
        assert!(paths.dir().join("trial+2").exists());
        assert_eq!(use_one(&paths).unwrap(), 2);
        assert_eq!(read(&paths).unwrap(), Some(Trial { n_tries_left: 1, ..trial }));
        fs::write(paths.dir().join("trial+1"), "{").unwrap();
        let unreadable = read(&paths).unwrap_err().to_string();
        assert!(unreadable.contains("trial+1"), "{unreadable}");
        assert_eq!([use_one(&paths).unwrap(), use_one(&paths).unwrap()], [1, 0]);
        clear(&paths).unwrap();
        assert_eq!(read(&paths).unwrap(), None);
    }
}
