//! A tree of files: copied file by file. It is as consistent as its writers leave it: what changed
//! while it was copied is copied again, a few times; then it is an error.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::backup::files::Files;
use crate::os::beneath::Dir;
use crate::os::fs as durable;
use crate::supervisor::data::context::{Context, on_thread};
use crate::supervisor::data::driver::{Counts, Done, Driver, Place};
use crate::supervisor::data::error::DataError;
use crate::supervisor::data::site::Site;

/// How often files that change while they are copied are copied again.
const N_ROUNDS: u32 = 3;
const TREE: &str = "tree";

impl Driver for Files {
    async fn take(&self, context: &Context<'_>, dir: &Path) -> Done {
        let (from, to) = (context.path(&Site::Live, &self.path), dir.join(TREE));
        if !from.is_dir() {
            return Err(DataError::NoDirectory { path: from });
        }
        let copied = on_thread(move || {
            for _ in 0..N_ROUNDS {
                durable::remove_tree(&to)?;
                let before = stamps(&from)?;
                copy(&from, &to)?;
                if stamps(&from)? == before {
                    return Ok(true);
                }
            }
            Ok(false)
        });
        let is_steady = copied.await.map_err(DataError::Tree)?;
        if is_steady { Ok(()) } else { Err(DataError::Unsteady) }
    }

    async fn restore(&self, context: &Context<'_>, from: &Path, site: &Site) -> Done {
        let (from, to) = (from.join(TREE), context.path(site, &self.path));
        on_thread(move || replace(&from, &to)).await.map_err(DataError::Tree)
    }

    async fn inspect(&self, context: &Context<'_>, site: &Site) -> Done<Counts> {
        let dir = context.path(site, &self.path);
        let counted = on_thread(move || {
            let files = stamps(&dir)?;
            let n = files.len() as u64;
            let bytes = files.iter().map(|(_, stamp)| stamp.2).sum();
            Ok(Counts::from([("files".to_owned(), n), ("bytes".to_owned(), bytes)]))
        });
        counted.await.map_err(DataError::Tree)
    }

    fn may_be_empty(&self) -> bool {
        true
    }

    fn place(&self) -> Option<Place<'_>> {
        Some(Place::Directory(&self.path))
    }
}

/// Puts a copy of one tree in the place of another.
fn replace(from: &Path, to: &Path) -> io::Result<()> {
    if let Some(parent) = to.parent() {
        Dir::have(parent, 0o755)?;
    }
    let beside = beside(to, "restored");
    let before = beside.with_extension("before");
    durable::remove_tree(&beside)?;
    copy(from, &beside)?;
    durable::sync_all_of(&beside)?;
    // Two renames: between them, the previous data is under its other name.
    durable::remove_tree(&before)?;
    rename(to, &before)?;
    rename(&beside, to)?;
    durable::remove_tree(&before)
}

/// One name of a directory to another; one that is not there is fine.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let (dir, name) = Dir::parent(from)?;
    match dir.rename(&name, &dir, to.file_name().unwrap_or_default()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        renamed => renamed,
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    path.with_file_name(format!(".{name}.{suffix}"))
}

/// Modification time in seconds and nanoseconds, size, change time, inode: what a write, or another
/// file in the place of this one, changes.
type Stamp = (i64, i64, u64, i64, i64, u64);

/// Every plain file with its stamp, by path.
fn stamps(dir: &Path) -> io::Result<Vec<(PathBuf, Stamp)>> {
    let mut stamps = Vec::new();
    Dir::open(dir)?.walk(&mut |met| {
        if met.meta.is_file() {
            stamps.push((met.path.to_owned(), stamp(met.meta)));
        }
        Ok(())
    })?;
    Ok(stamps)
}

fn stamp(meta: &Metadata) -> Stamp {
    let changed = (meta.ctime(), meta.ctime_nsec());
    (meta.mtime(), meta.mtime_nsec(), meta.len(), changed.0, changed.1, meta.ino())
}

/// Copies a directory as it is. Sockets, pipes and devices are no data.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let (parent, name) = Dir::parent(to)?;
    Dir::open(from)?.copy_to(&parent, &name).map(drop)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_copy_of_a_tree_shows_that_the_tree_has_changed() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("sub")).unwrap();
        fs::write(from.join("sub/a"), "x").unwrap();
        let before = stamps(&from).unwrap();
        copy(&from, &to).unwrap();
        assert_eq!(stamps(&from).unwrap(), before);
        fs::write(from.join("sub/a"), "y").unwrap();
        assert_eq!(fs::read_to_string(to.join("sub/a")).unwrap(), "x");
        assert_ne!(stamps(&from).unwrap(), before);
    }
}
