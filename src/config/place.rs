//! Where a Halley lives: `root` and `socket`, so that several live side by side.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::raw::Section;

/// Longest path of a unix socket: `sun_path` has 108 bytes and ends with a NUL (unix(7)).
const SOCKET_BYTES_MAX: usize = 107;

/// The two paths that everything else follows from.
pub(super) struct Place {
    pub(super) root: PathBuf,
    pub(super) socket: PathBuf,
}

/// Reads `root` and `socket`; relative ones are taken from `base`. Without `root` it is
/// `/var/lib/halley` for the superuser and `~/.local/state/halley` for anyone else; without
/// `socket` it is `control.sock` in the root.
pub(super) fn read(top: &Section<'_>, base: &Path) -> Option<Place> {
    let is_root = nix::unistd::geteuid().is_root();
    let root = match path(top, "root", base) {
        Some(root) => root,
        None => default_root(is_root, std::env::var_os("HOME")).or_else(|| {
            top.problem("root", "is not given, and HOME is not set");
            None
        })?,
    };
    let socket = path(top, "socket", base).unwrap_or_else(|| root.join("control.sock"));
    let n_bytes = socket.as_os_str().len();
    if n_bytes > SOCKET_BYTES_MAX {
        let message =
            format!("{} has {n_bytes} bytes; a socket's path has at most 107", socket.display());
        top.problem_with_hint("socket", message, "use a shorter path");
    }
    Some(Place { root, socket })
}

/// Only the main file sets Halley's directory, its socket and its notification targets.
pub(super) fn refuse(top: &Section<'_>) {
    for key in ["root", "socket", "notify"].into_iter().filter(|key| top.has(key)) {
        top.problem_with_hint(key, "cannot be set in services.d", "set it in the main file");
    }
}

/// The absolute directory of a file.
pub(super) fn directory_of(file: &Path) -> PathBuf {
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    absolute.parent().map(Path::to_owned).unwrap_or_default()
}

fn path(top: &Section<'_>, key: &str, base: &Path) -> Option<PathBuf> {
    let text = top.text(key)?.value;
    if text.is_empty() {
        top.problem(key, "is empty");
    }
    if text == "~" || text.starts_with("~/") {
        top.problem_with_hint(key, "~ is not expanded", "write the path in full");
    }
    Some(base.join(text))
}

fn default_root(is_root: bool, home: Option<OsString>) -> Option<PathBuf> {
    if is_root {
        return Some(PathBuf::from("/var/lib/halley"));
    }
    let home = PathBuf::from(home?);
    home.is_absolute().then(|| home.join(".local/state/halley"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_superuser_has_a_place_of_its_own() {
        let home = || Some(OsString::from("/home/ann"));
        for (is_root, home, expected) in [
            (true, None, Some("/var/lib/halley")),
            (true, home(), Some("/var/lib/halley")),
            (false, home(), Some("/home/ann/.local/state/halley")),
            (false, Some(OsString::from("")), None),
            (false, None, None),
        ] {
            assert_eq!(default_root(is_root, home), expected.map(PathBuf::from));
        }
    }
}
