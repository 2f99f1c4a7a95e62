//! A tree of files: copied file by file. It is as consistent as its writers leave it: what changed
//! while it was copied is copied again, a few times; then it is an error.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::config::backup::files::Files;
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
        fs::create_dir_all(parent)?;
    }
    let beside = beside(to, "restored");
    let before = beside.with_extension("before");
    durable::remove_tree(&beside)?;
    copy(from, &beside)?;
    durable::sync_all_of(&beside)?;
    // Two renames: between them, the previous data is under its other name.
    durable::remove_tree(&before)?;
    match fs::rename(to, &before) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::rename(&beside, to)?;
    durable::remove_tree(&before)
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
    for entry in entries(dir)? {
        let meta = fs::symlink_metadata(&entry)?;
        if meta.is_dir() {
            stamps.extend(self::stamps(&entry)?);
        } else if meta.is_file() {
            stamps.push((entry, stamp(&meta)));
        }
    }
    Ok(stamps)
}

fn stamp(meta: &Metadata) -> Stamp {
    let changed = (meta.ctime(), meta.ctime_nsec());
    (meta.mtime(), meta.mtime_nsec(), meta.len(), changed.0, changed.1, meta.ino())
}

fn entries(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir)? {
        paths.push(entry?.path());
    }
    paths.sort();
    Ok(paths)
}

/// Copies a directory with modes, owners and symlinks. Sockets, pipes and devices are no data.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in entries(from)? {
        let target = to.join(entry.file_name().unwrap_or_default());
        let meta = match fs::symlink_metadata(&entry) {
            // It was removed meanwhile: the stamps show it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            meta => meta?,
        };
        if meta.is_dir() {
            copy(&entry, &target)?;
        } else if meta.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&entry)?, &target)?;
        } else if meta.is_file() {
            match fs::copy(&entry, &target) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                copied => copied?,
            };
            own(&target, &meta)?;
        }
    }
    let meta = fs::metadata(from)?;
    own(to, &meta)
}

fn own(path: &Path, meta: &Metadata) -> io::Result<()> {
    // The owner first: to change it takes special bits of the mode away.
    match durable::give_to(path, meta.uid(), meta.gid()) {
        // Without root everything is our own anyway.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        given => given?,
    }
    fs::set_permissions(path, fs::Permissions::from_mode(meta.mode() & 0o7777))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_copied_with_its_modes_and_links() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("from");
        fs::create_dir_all(from.join("sub")).unwrap();
        fs::write(from.join("sub/a"), "x").unwrap();
        fs::set_permissions(from.join("sub/a"), fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("sub/a", from.join("link")).unwrap();
        let to = dir.path().join("to");
        copy(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("link")).unwrap(), "x");
        assert!(fs::symlink_metadata(to.join("link")).unwrap().is_symlink());
        assert_eq!(fs::metadata(to.join("sub/a")).unwrap().mode() & 0o777, 0o640);
        // Independent files: a write here is not seen there.
        fs::write(from.join("sub/a"), "y").unwrap();
        assert_eq!(fs::read_to_string(to.join("sub/a")).unwrap(), "x");
        assert_ne!(stamps(&from).unwrap(), stamps(&to).unwrap());
    }
}
