//! Names of a staged tree that lead out of it: to `shared/`, and to directories of the release's own that
//! may be written to. They are symlinks, relative ones, so that they are good wherever the root is.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use crate::core::ids::ReleaseId;
use crate::os::beneath::{self, Dir};
use crate::store::layout::ServiceLayout;

/// Puts them in. Returns what has to be put into `shared/` first, by hand; what can be made there is made by
/// [`make_shared`].
///
/// # Errors
/// The system's; also where something else than a directory is on the way.
pub fn put(
    staged: &Path,
    paths: &ServiceLayout,
    release: ReleaseId,
    (links, writable): (&[PathBuf], &[PathBuf]),
    owner: Option<(u32, u32)>,
) -> io::Result<Vec<String>> {
    let mut missing = Vec::new();
    for path in links {
        let there = paths.shared().join(path);
        if !is_directory(path) && there.symlink_metadata().is_err() {
            missing.push(format!("links: {} is not there: put it there", there.display()));
        }
        let (dir, name) = place(staged, path, None)?;
        clear(&dir, name)?;
        dir.symlink(name, lead(path, "shared").as_os_str())?;
    }
    let own = paths.writable(release);
    beneath::remove_tree(&own)?;
    for path in writable {
        let (dir, name) = place(staged, path, None)?;
        let (to, _) = place(&own, path, None)?;
        match dir.rename(name, &to, name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                drop(to.make_dir(name, 0o755)?);
            }
            moved => moved?,
        }
        let there = to.dir(name)?;
        // Nobody else has got at it yet.
        if let Some((uid, gid)) = owner {
            there.give_to(uid, gid)?;
            there.walk(&mut |met| beneath::give(met.dir.pin(met.name)?, (Some(uid), Some(gid))))?;
        }
        let below = format!("writable/{release}");
        dir.symlink(name, lead(path, &below).as_os_str())?;
    }
    Ok(missing)
}

/// Makes the directories in `shared/` that names of a tree lead to.
///
/// # Errors
/// The system's.
pub fn make_shared(
    paths: &ServiceLayout,
    links: &[PathBuf],
    owner: Option<(u32, u32)>,
) -> io::Result<()> {
    for path in links.iter().filter(|path| is_directory(path)) {
        let (dir, name) = place(&paths.shared(), path, owner)?;
        if matches!(dir.look(name), Err(error) if error.kind() == io::ErrorKind::NotFound) {
            let made = dir.make_dir(name, 0o755)?;
            owner.map_or(Ok(()), |(uid, gid)| made.give_to(uid, gid))?;
        }
    }
    Ok(())
}

/// A name with a dot is a file's, which nobody can make up.
fn is_directory(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    path.as_os_str().as_encoded_bytes().ends_with(b"/") || !name.contains(&b'.')
}

/// The directory of a path, made where it is missing, through no link; and the last name.
fn place<'a>(
    top: &Path,
    path: &'a Path,
    owner: Option<(u32, u32)>,
) -> io::Result<(Dir, &'a OsStr)> {
    let mut dir = Dir::have(top, 0o755)?;
    for part in path.parent().into_iter().flat_map(Path::components) {
        let below = dir.have_dir(part.as_os_str(), 0o755)?;
        if let Some((uid, gid)) = owner {
            below.give_to(uid, gid)?;
        }
        dir = below;
    }
    Ok((dir, path.file_name().unwrap_or_default()))
}

fn clear(dir: &Dir, name: &OsStr) -> io::Result<()> {
    match dir.look(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(meta) if meta.is_dir() => beneath::remove_tree(&dir.path_to(name)),
        found => found.and_then(|_| dir.remove_file(name)),
    }
}

/// From a name of the tree `releases/N`, up to the service's directory and down again.
fn lead(path: &Path, to: &str) -> PathBuf {
    let up = "../".repeat(path.components().count() + 1);
    // Its last slash is only a word for a directory.
    let path: PathBuf = path.components().collect();
    Path::new(&up).join(to).join(path)
}
