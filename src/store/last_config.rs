//! The configuration as it was last good: `last-config.json` in the root, every file as it was read.
//!
//! A host whose files were spoilt comes up with it after a reboot. It is the owner's alone: a file may
//! have a password in it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::line;
use crate::os::fs as durable;

/// The version of this format.
pub const VERSION: u16 = 1;

/// What is in the file, which ends with a checksum.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// Version of this format.
    version: u16,
    /// The main file: another Halley's configuration is of no use.
    config: PathBuf,
    /// The texts by the files' paths.
    files: BTreeMap<String, String>,
}

/// Writes it and waits for the disk, unless it is there already.
///
/// # Errors
/// The system's; what was kept before stands.
pub fn keep(file: &Path, config: &Path, files: BTreeMap<String, String>) -> io::Result<()> {
    let bytes = line::print(&Record { version: VERSION, config: config.to_owned(), files })?;
    if fs::read(file).is_ok_and(|kept| kept == bytes) {
        return Ok(());
    }
    durable::replace(file, &bytes, 0o600)
}

/// What was kept of this configuration; `None` when there is none, or it is not what was written.
#[must_use]
pub fn kept(file: &Path, config: &Path) -> Option<BTreeMap<String, String>> {
    let text = fs::read_to_string(file).ok()?;
    let text = text.trim_end();
    let record: Record = line::is_whole(text).then(|| line::parse(text))??;
    (record.version == VERSION && record.config == config).then_some(record.files)
}

/// Whether there is one that is not what was written.
#[must_use]
pub fn is_damaged(file: &Path) -> bool {
    fs::read(file).is_ok_and(|bytes| {
        std::str::from_utf8(&bytes).map_or(true, |text| !line::is_whole(text.trim_end()))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn files(text: &str) -> BTreeMap<String, String> {
        BTreeMap::from([("/etc/halley/halley.toml".to_owned(), text.to_owned())])
    }

    #[test]
    fn what_was_kept_is_found_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let (file, config) = (dir.path().join("kept"), Path::new("/etc/halley/halley.toml"));
        assert_eq!(kept(&file, config), None);
        assert!(!is_damaged(&file));
        let text = "# a \"quote\", {\"at\":1} and\na second line";
        keep(&file, config, files(text)).unwrap();
        assert_eq!(kept(&file, config), Some(files(text)));
        assert_eq!(kept(&file, Path::new("/elsewhere.toml")), None);
        let written = fs::metadata(&file).unwrap();
        assert_eq!(written.mode() & 0o7777, 0o600);
        // The same again touches nothing.
        keep(&file, config, files(text)).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().ino(), written.ino());
        keep(&file, config, files("")).unwrap();
        assert_ne!(fs::metadata(&file).unwrap().ino(), written.ino());
        let whole = fs::read_to_string(&file).unwrap();
        for spoilt in [whole.replace("etc", "tmp"), whole[..whole.len() / 2].to_owned()] {
            fs::write(&file, spoilt).unwrap();
            assert!(is_damaged(&file) && kept(&file, config).is_none());
        }
    }

    #[test]
    fn one_of_version_1_loads_for_ever() {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/last-config-v1.json");
        let found = kept(&fixture, Path::new("/etc/halley/halley.toml"));
        assert_eq!(found, Some(files("[service.web]\nlisten = [\"tcp://127.0.0.1:1\"]\n")));
    }
}
