//! The include file that nginx reads, and its old content while it is changed.
//!
//! The file is replaced whole. What nginx had before is kept beside it from before the change until
//! nginx was reloaded, under a name that no `include` pattern matches. Where it is still there, a
//! flip was cut short (the supervisor was killed), and the file alone does not show what nginx runs
//! with: the next flip tests and reloads whatever the file holds.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::os::fs as disk;
use crate::supervisor::proxy::error::EntryError;

/// Stands for the old content where there was no file.
const NO_FILE: &str = "# halley-sup: there was no file\n";
/// The include file's mode where there was none; the old one's otherwise.
const MODE: u32 = 0o644;

/// The include file, and the one beside it that holds its old content in a flip.
#[derive(Debug)]
pub(crate) struct Include {
    /// The include file.
    pub file: PathBuf,
    before: PathBuf,
}

impl Include {
    /// A symlink is followed: what it leads to is replaced, not the link.
    #[must_use]
    pub(crate) fn of(file: &Path) -> Self {
        let file = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
        let mut name = OsString::from(".");
        name.push(file.file_name().unwrap_or_default());
        name.push(".halley-before");
        Self { before: file.with_file_name(name), file }
    }

    /// What stands in it; none when there is no file.
    ///
    /// # Errors
    /// [`EntryError::File`].
    pub(crate) fn content(&self) -> Result<Option<String>, EntryError> {
        read(&self.file)
    }

    /// Keeps what nginx runs with. A content that is kept already is older and stays: a flip was
    /// cut short, and nginx may not have loaded the file's content.
    ///
    /// # Errors
    /// [`EntryError::File`].
    pub(crate) fn keep_before(&self, now: Option<&str>) -> Result<(), EntryError> {
        if self.before.exists() {
            return Ok(());
        }
        self.write(&self.before, now.unwrap_or(NO_FILE))
    }

    /// Puts in its place another content, whole and for good.
    ///
    /// # Errors
    /// [`EntryError::File`].
    pub(crate) fn replace(&self, text: &str) -> Result<(), EntryError> {
        self.write(&self.file, text)
    }

    /// Whether a flip ended before nginx was reloaded.
    #[must_use]
    pub(crate) fn was_cut_short(&self) -> bool {
        self.before.exists()
    }

    /// Brings back what was kept.
    ///
    /// # Errors
    /// [`EntryError::File`].
    pub(crate) fn restore(&self) -> Result<(), EntryError> {
        match read(&self.before)? {
            None => Ok(()),
            Some(before) if before == NO_FILE => remove(&self.file),
            Some(before) => self.write(&self.file, &before),
        }
    }

    /// The flip is over, either way.
    ///
    /// # Errors
    /// [`EntryError::File`].
    pub(crate) fn forget_before(&self) -> Result<(), EntryError> {
        remove(&self.before)
    }

    fn write(&self, path: &Path, text: &str) -> Result<(), EntryError> {
        let mode = fs::metadata(&self.file).map_or(MODE, |meta| meta.permissions().mode() & 0o7777);
        disk::replace(path, text.as_bytes(), mode).map_err(|error| {
            file_error(path, error, "halley-sup writes the servers there".to_owned())
        })
    }
}

/// The text of a file; none when there is none.
///
/// # Errors
/// [`EntryError::File`].
pub(crate) fn read(path: &Path) -> Result<Option<String>, EntryError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(file_error(path, error, "it holds the servers of an upstream".to_owned()))
        }
    }
}

/// Removes a file, if there is one.
///
/// # Errors
/// [`EntryError::File`].
pub(crate) fn remove(path: &Path) -> Result<(), EntryError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(file_error(path, error, format!("rm {}", path.display())))
        }
        _ => Ok(()),
    }
}

/// The system's error about a file.
#[must_use]
pub(crate) fn file_error(path: &Path, source: io::Error, next: String) -> EntryError {
    EntryError::File { path: path.to_owned(), source, next }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_first_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("web.conf");
        let link = dir.path().join("link.conf");
        for old in [None, Some("one")] {
            let include = Include::of(if old.is_some() { &link } else { &file });
            include.keep_before(old).unwrap();
            include.keep_before(Some("two")).unwrap();
            include.replace("three").unwrap();
            assert!(include.was_cut_short());
            include.restore().unwrap();
            include.forget_before().unwrap();
            assert!(!include.was_cut_short());
            assert_eq!(include.content().unwrap().as_deref(), old);
            fs::write(&file, "one").unwrap();
            std::os::unix::fs::symlink(&file, &link).ok();
        }
        assert!(link.is_symlink());
    }
}
