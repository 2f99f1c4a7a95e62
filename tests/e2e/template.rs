//! A database server's directory as its first start leaves it: made once, then copied. Each start of
//! a server from nothing takes as long as a test that needs one.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Copies to `to`, which is not there yet, what `make` leaves in the directory that it is given. It
/// is made again for another server, or when what it depends on is another.
pub fn copy(server: &Path, depends_on: &[&str], make: impl FnOnce(&Path), to: &Path) {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(home).unwrap();
    let template = home.join(name(server, depends_on));
    let lock = File::create(home.join("template.lock")).unwrap();
    lock.lock().unwrap();
    if !template.exists() {
        // The server's user may not get to the place where it is kept.
        let dir = tempfile::tempdir().unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(dir.path(), open).unwrap();
        let made = dir.path().join("data");
        make(&made);
        let unfinished = template.with_extension("unfinished");
        drop(fs::remove_dir_all(&unfinished));
        copy_tree(&made, &unfinished);
        fs::rename(unfinished, &template).unwrap();
    }
    drop(lock);
    copy_tree(&template, to);
}

fn name(server: &Path, depends_on: &[&str]) -> PathBuf {
    let program = server.metadata().unwrap();
    let mut hasher = DefaultHasher::new();
    (program.len(), program.modified().unwrap(), depends_on).hash(&mut hasher);
    let kind = server.file_name().unwrap().to_string_lossy();
    PathBuf::from(format!("{kind}-{:016x}", hasher.finish()))
}

fn copy_tree(from: &Path, to: &Path) {
    let done = Command::new("cp").args(["-a", "--reflink=auto"]).args([from, to]).status().unwrap();
    assert!(done.success(), "cp {} {}", from.display(), to.display());
}
