//! A walk through a tree: a directory before what is in it, names sorted.

use std::ffi::OsStr;
use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};

use super::dir::Dir;
use super::names::has_changed;

/// Deeper trees are refused: each level holds a descriptor.
pub(super) const DEPTH_MAX: usize = 128;

/// What is met on a walk.
#[derive(Debug)]
pub struct Met<'a> {
    /// Its path from the top.
    pub path: &'a Path,
    /// The directory it is in.
    pub dir: &'a Dir,
    /// Its name there.
    pub name: &'a OsStr,
    /// What it was when it was met.
    pub meta: &'a Metadata,
}

impl Dir {
    /// Visits everything below. What is removed meanwhile is passed over.
    ///
    /// # Errors
    /// The system's, the visitor's, and for trees that are nested too deep.
    pub fn walk(&self, visit: &mut dyn FnMut(&Met<'_>) -> io::Result<()>) -> io::Result<()> {
        level(self, Path::new(""), 0, visit)
    }
}

fn level(
    dir: &Dir,
    path: &Path,
    depth: usize,
    visit: &mut dyn FnMut(&Met<'_>) -> io::Result<()>,
) -> io::Result<()> {
    check_depth(path, depth)?;
    for name in dir.names().map_err(|error| at(path, error))? {
        let meta = match dir.look(&name) {
            Err(error) if has_changed(&error) => continue,
            meta => meta?,
        };
        let path: PathBuf = path.join(&name);
        visit(&Met { path: &path, dir, name: &name, meta: &meta })?;
        if meta.is_dir() {
            match dir.dir(&name) {
                Err(error) if has_changed(&error) => {}
                below => {
                    let below = below.map_err(|error| at(&path, error))?;
                    level(&below, &path, depth + 1, visit)?;
                }
            }
        }
    }
    Ok(())
}

/// An error with the path it is about, in quotes: a name may be anything.
pub(super) fn at(path: &Path, error: io::Error) -> io::Error {
    if path.as_os_str().is_empty() {
        return error;
    }
    io::Error::new(error.kind(), format!("{path:?}: {error}"))
}

pub(super) fn check_depth(path: &Path, depth: usize) -> io::Result<()> {
    if depth <= DEPTH_MAX {
        return Ok(());
    }
    let text = format!("{}: nested deeper than {DEPTH_MAX} directories", path.display());
    Err(io::Error::new(io::ErrorKind::FileTooLarge, text))
}
