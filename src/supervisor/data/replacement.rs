//! The live data is replaced by a backup, in steps that can be taken back: staged beside it while the
//! service runs, put in its place while nothing runs, let go when the service has proven itself.
//!
//! A mark in scratch, `ID.staged`, says of which backup something is staged: a crash leaves it, and
//! the next start removes both ([`Hand::sweep_staged`]), unless a restore is unfinished that still
//! needs them.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::os::fs;
use crate::store::receipt::{self, Receipt};
use crate::store::restoration::{self, Restoration};
use crate::supervisor::data::backup::Hand;
use crate::supervisor::data::context::on_thread;
pub(crate) use crate::supervisor::data::driver::Undone;
use crate::supervisor::data::driver::{Counts, Driver};
use crate::supervisor::data::error::DataError;
use crate::supervisor::data::isolation;
use crate::supervisor::data::site::Site;
use crate::supervisor::service::Service;
use crate::text;

const MARK: &str = "staged";

/// Whether an entry of scratch says that a backup is staged.
pub(super) fn is_mark(path: &Path) -> bool {
    path.extension() == Some(OsStr::new(MARK))
}

/// The mark that a backup is staged: a directory, in which a driver may keep what it needs to undo.
pub(super) fn mark(service: &Service, id: &str) -> PathBuf {
    service.paths.scratch().join(format!("{id}.{MARK}"))
}

/// Whether the present is backed up before it is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Saved {
    /// It is.
    Yes,
    /// It may not be.
    No,
}

impl Hand<'_> {
    /// Whether the live data can be replaced, as far as that shows before anything is made or stopped.
    ///
    /// # Errors
    /// Why not.
    pub(crate) async fn replaceable(&self) -> Result<(), DataError> {
        self.driver().replaceable(&self.context).await
    }

    /// Makes of a backup what can take the place of the live data. Nothing is touched.
    ///
    /// # Errors
    /// The driver's; nothing is left of it.
    pub(crate) async fn stage(&self, id: &str) -> Result<(), DataError> {
        // One that an earlier restore has left would speak for this one when it is undone.
        self.unmark(id).await;
        let mark = self.mark(id);
        self.context.own_dir(&mark)?;
        let staged = self.driver().stage(&self.context, &self.data_of(id)).await;
        if staged.is_err() {
            self.unstage(id).await;
        }
        staged
    }

    /// Removes what was staged.
    pub(crate) async fn unstage(&self, id: &str) {
        let name = &self.context.service.name;
        if let Err(error) = self.driver().unstage(&self.context, &self.data_of(id)).await {
            tracing::warn!(service = %name, %error, "removing what was staged");
            return;
        }
        self.unmark(id).await;
    }

    /// Puts a staged backup in the place of the live data. No process may be using the data.
    ///
    /// # Errors
    /// The driver's; [`Self::take_back`] undoes what was done.
    pub(crate) async fn put(&self, id: &str) -> Result<(), DataError> {
        self.driver().put(&self.context, &self.data_of(id)).await
    }

    /// Brings the data back that a restore has replaced.
    ///
    /// # Errors
    /// The driver's; it can be tried again.
    pub(crate) async fn take_back(&self, restoration: &Restoration) -> Result<Undone, DataError> {
        let from = self.data_of(&restoration.backup);
        self.driver().take_back(&self.context, &from).await
    }

    /// What was there before may go.
    pub(crate) async fn let_go(&self) {
        let service = self.context.service;
        let settled = self.driver().let_go(&self.context).await;
        let settled = settled.and_then(|()| {
            restoration::settle(&service.paths).map_err(DataError::at(service.paths.dir()))
        });
        if let Err(error) = settled {
            tracing::warn!(service = %service.name, %error, "removing the data before a restore");
        }
    }

    /// The service runs on what was staged: there is nothing left of it to remove.
    pub(crate) async fn unmark(&self, id: &str) {
        let mark = self.mark(id);
        if let Err(error) = on_thread(move || isolation::discard(&mark)).await {
            tracing::warn!(service = %self.context.service.name, %error, "removing a mark");
        }
    }

    /// What a restore may have changed that does not come back when it is undone.
    pub(crate) fn not_taken_back(&self) -> Option<String> {
        self.driver().not_taken_back()
    }

    /// Why there is no room for what a restore makes: the backup, restored to scratch; the same beside
    /// the live data; and, when the present is `saved`, a backup of that with a copy. What a server
    /// has left is not known.
    pub(crate) fn no_room(&self, restored: &Receipt, saved: Saved) -> Option<String> {
        let paths = &self.context.service.paths;
        let last = receipt::list(paths).first().map_or(0, |receipt| receipt.bytes);
        let now = self.driver().live_bytes(&paths.shared()).unwrap_or(last);
        let own = match saved {
            Saved::Yes => restored.bytes.max(now.saturating_mul(2)),
            Saved::No => restored.bytes,
        };
        let counted = restored.rehearsed.as_ref().and_then(|it| it.counts.get("files"));
        let n_files = counted.copied().unwrap_or_default().saturating_add(N_FILES);
        let place = self.driver().place().map(|place| self.context.path(&Site::Live, place.path()));
        let beside = place.as_deref().and_then(Path::parent);
        let device = |path: &Path| path.metadata().ok().map(|meta| meta.dev());
        let is_one = beside.is_some_and(|beside| device(beside) == device(paths.dir()));
        if is_one {
            return lacks(paths.dir(), own.saturating_add(restored.bytes), n_files);
        }
        lacks(paths.dir(), own, n_files).or_else(|| lacks(beside?, restored.bytes, n_files))
    }

    /// What it means when no loss is shown.
    pub(crate) fn shows_no_loss(&self) -> &'static str {
        self.driver().shows_no_loss()
    }

    /// What may be lost and is not shown.
    pub(crate) fn sees_not(&self) -> &'static str {
        self.driver().sees_not()
    }

    /// What is new or was changed since a backup, where the driver can tell.
    ///
    /// # Errors
    /// The driver's.
    pub(crate) async fn changed(&self, id: &str) -> Result<Vec<String>, DataError> {
        self.driver().changed(&self.context, &self.data_of(id)).await
    }

    /// Counts what [`Self::put`] has displaced, and says what there was changed in place since the backup.
    ///
    /// # Errors
    /// The driver's.
    pub(crate) async fn displaced(&self, id: &str) -> Result<(Counts, Vec<String>), DataError> {
        self.driver().displaced(&self.context, &self.data_of(id)).await
    }

    /// At start: what a crash has left staged.
    pub(super) async fn sweep_staged(&self, mark: &Path) {
        let paths = &self.context.service.paths;
        let id = mark.file_stem().unwrap_or_default().to_string_lossy();
        if matches!(restoration::read(paths), Ok(None)) {
            self.unstage(&id).await;
        }
    }

    fn mark(&self, id: &str) -> PathBuf {
        mark(self.context.service, id)
    }

    fn data_of(&self, id: &str) -> PathBuf {
        receipt::data_dir(&self.context.service.paths, id)
    }
}

/// Files and directories that a restore makes beside the data.
const N_FILES: u64 = 32;

fn lacks(dir: &Path, needed: u64, n_files: u64) -> Option<String> {
    let fs::Free { bytes: free, inodes } = fs::free(dir).ok()?;
    if inodes < n_files {
        let dir = dir.display();
        return Some(format!(
            "the restore makes {n_files} files in {dir}, its disk has {inodes} left"
        ));
    }
    (free < needed).then(|| {
        let (needed, free) = (text::size(needed), text::size(free));
        format!("the restore needs {needed} in {}, its disk has {free} left", dir.display())
    })
}
