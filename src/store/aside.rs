//! Trees on their way out. Setting one aside is one rename, whatever its size; what was set aside is removed
//! by a thread, and what a crash leaves of it by the one of the next start.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::os::beneath::unguessable;
use crate::os::fs::remove_tree;
use crate::store::layout::ServiceLayout;
use crate::store::reserve;

const GONE: &str = ".gone-";

/// Sets a tree, or a file, aside. One that is not there is fine.
///
/// # Errors
/// The system's.
pub fn put(paths: &ServiceLayout, path: &Path) -> io::Result<()> {
    let moved = || -> io::Result<()> {
        if fs::symlink_metadata(path)?.is_dir() {
            // For others than root: to give a directory another parent takes the right to write to it.
            fs::set_permissions(path, Permissions::from_mode(0o700))?;
        }
        fs::rename(path, paths.staging().join(unguessable(OsStr::new(GONE))?))
    };
    match moved() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // A new name may need a block, which is what removing it gives.
        Err(error) if reserve::is_full(&error) => remove_tree(path),
        moved => moved,
    }
}

/// Whether what has this name in `staging/` was set aside.
#[must_use]
pub fn is_gone(name: &OsStr) -> bool {
    name.to_string_lossy().starts_with(GONE)
}

/// Removes what was set aside.
///
/// # Errors
/// The system's.
pub fn clear(paths: &ServiceLayout) -> io::Result<()> {
    for entry in fs::read_dir(paths.staging())? {
        let entry = entry?;
        if is_gone(&entry.file_name()) {
            remove_tree(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::ReleaseId;
    use crate::store::layout::Layout;
    use crate::store::{intake, release};

    #[test]
    fn a_sealed_tree_is_set_aside_whole_and_removed_later() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Layout::new(dir.path()).service(&"web".parse().unwrap());
        paths.create().unwrap();
        let tree = paths.release(ReleaseId(1));
        fs::create_dir_all(tree.join("bin")).unwrap();
        fs::write(tree.join("bin/web"), "x").unwrap();
        fs::create_dir_all(paths.staging().join("7/lib")).unwrap();
        fs::write(paths.incoming().join("8.part"), "x").unwrap();
        fs::set_permissions(&tree, Permissions::from_mode(0o555)).unwrap();
        release::remove(&paths, ReleaseId(1)).unwrap();
        intake::sweep(&paths).unwrap();
        let left = || fs::read_dir(paths.staging()).unwrap().flatten();
        assert!(!tree.exists() && fs::read_dir(paths.incoming()).unwrap().next().is_none());
        assert_eq!(left().count(), 3, "nothing is removed where others wait for it");
        assert!(left().any(|entry| entry.path().join("bin/web").is_file()));
        intake::sweep(&paths).unwrap();
        clear(&paths).unwrap();
        assert_eq!(left().count(), 0);
    }
}
