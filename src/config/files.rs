//! The files of a configuration: as they are, or as they were when they were last good.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::json;
use crate::os::beneath::Dir;

/// Reads files, and keeps what was read; or gives back what was kept.
#[derive(Debug, Default)]
pub struct Files {
    texts: RefCell<BTreeMap<String, String>>,
    /// Files of services among them.
    named: RefCell<BTreeSet<String>>,
    are_kept: bool,
}

impl Files {
    /// Those that were kept; `None` when it is not what [`Self::keep`] gave.
    #[must_use]
    pub fn kept(bytes: &[u8]) -> Option<Self> {
        Some(Self::of(json::from_slice(bytes).ok()?))
    }

    /// The same of texts by their paths.
    #[must_use]
    pub fn of(texts: BTreeMap<String, String>) -> Self {
        Self { texts: RefCell::new(texts), are_kept: true, ..Self::default() }
    }

    /// The texts of all that was read, by their paths.
    #[must_use]
    pub fn texts(&self) -> BTreeMap<String, String> {
        self.texts.borrow().clone()
    }

    /// The same without what a service's `env_file` says, which belongs on no disk twice.
    #[must_use]
    pub fn own_texts(&self) -> BTreeMap<String, String> {
        let named = self.named.borrow();
        let mut texts = self.texts();
        texts.retain(|name, _| !named.contains(name));
        texts
    }

    /// All that was read, to be kept. It has what is in them, secrets too.
    #[must_use]
    pub fn keep(&self) -> Vec<u8> {
        json::to_vec(&*self.texts.borrow()).unwrap_or_default()
    }

    /// A file of the administrator's.
    pub(super) fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.read_by(path, &|| fs::read(path))
    }

    /// A file that may lie where a service's user can write: it is not read through a link of that
    /// user's to somebody else's, and a FIFO in its place is not waited for.
    pub(super) fn read_named(&self, path: &Path) -> io::Result<Vec<u8>> {
        let read = || {
            let (dir, name) = Dir::holder(path)?;
            let mut bytes = Vec::new();
            dir.file(name)?.read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        self.named.borrow_mut().insert(path.to_string_lossy().into_owned());
        // One that was not kept is as it is.
        match self.read_by(path, &read) {
            Err(error) if self.are_kept && error.kind() == ErrorKind::NotFound => read(),
            done => done,
        }
    }

    fn read_by(&self, path: &Path, read: &dyn Fn() -> io::Result<Vec<u8>>) -> io::Result<Vec<u8>> {
        let name = path.to_string_lossy().into_owned();
        if self.are_kept {
            let text = self.texts.borrow().get(&name).cloned();
            return text.map(String::into_bytes).ok_or(ErrorKind::NotFound.into());
        }
        let bytes = read()?;
        // What is no text is not good.
        if let Ok(text) = String::from_utf8(bytes.clone()) {
            self.texts.borrow_mut().insert(name, text);
        }
        Ok(bytes)
    }

    /// What is in a folder, in no order.
    pub(super) fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        if self.are_kept {
            let all = self.texts.borrow();
            let all = all.keys().map(PathBuf::from);
            return Ok(all.filter(|path| path.parent() == Some(folder)).collect());
        }
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
    }
}
