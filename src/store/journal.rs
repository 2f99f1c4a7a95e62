//! The journal of one operation: `ops/0000107/journal.ndjson`, one JSON object a line.
//!
//! The first line is the intent, then each phase before it is performed and after. A line ends
//! with a checksum of itself: a torn tail is seen and dropped, garbage in the middle is an error.
//! Announcing a phase waits for the disk; noting its end does not, the next announcement does.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::core::ids::OpId;
use crate::core::operation::machine::Kind;
use crate::os::fs as durable;
use crate::store::layout::{ServiceLayout, numbered};
use crate::store::{line, reserve};

pub use crate::store::intent::Intent;
pub use crate::store::record::Record;

/// The version of this format.
const VERSION: u16 = 1;
const FILE: &str = "journal.ndjson";
/// Room that is taken for a journal when it begins.
const ROOM_BYTES: u64 = 32 * 1024;
/// Journals that are kept; the history keeps a line of each for ever.
pub const N_KEPT: usize = 200;

/// Why a journal cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The system's own reason.
    #[error("{path}: {source}")]
    System {
        /// The file.
        path: PathBuf,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// A line in the middle is not what was written.
    #[error("{path}: line {line} is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
    },
}

/// A journal that is being written.
#[derive(Debug)]
pub struct Journal {
    /// Absent while the disk does not take it.
    file: Option<File>,
    /// It is not there yet, not even its first line.
    is_new: bool,
    /// The lines that wait for the file.
    waiting: Vec<u8>,
    path: PathBuf,
    reserve: PathBuf,
    /// Up to here it is what was written: what a failed write has left behind lies after it.
    len_bytes: u64,
}

impl Drop for Journal {
    /// Gives back the room that was not used.
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            drop(file.set_len(self.len_bytes));
        }
    }
}

impl Journal {
    /// Begins an operation's journal with its intent; both lie in the directory when this returns,
    /// and on the disk after the first announcement. A release gets nothing of the reserve; anything else
    /// goes on without a disk, and what it notes is written down as soon as there is one.
    ///
    /// # Errors
    /// The system's; nothing is left behind.
    pub fn create(paths: &ServiceLayout, intent: &Intent) -> Result<Self, JournalError> {
        let (dir, reserve) = (paths.op(OpId(intent.op)), paths.reserve());
        if intent.kind == Kind::Release.name() {
            return Self::create_in(&dir, reserve, intent);
        }
        let path = dir.join(FILE);
        let first = line::print(intent)
            .map_err(|source| JournalError::System { path: path.clone(), source })?;
        let mut made = Err(io::ErrorKind::StorageFull.into());
        let begun = reserve::spend(&reserve, &mut || {
            made = Ok(begin(&dir, &first)?);
            Ok(())
        });
        match begun.and(made) {
            Err(error) if durable::is_of_disk(&error) => {
                tracing::error!(path = %path.display(), %error, "the journal waits for the disk");
                let mut journal = Self::without(path, reserve);
                (journal.is_new, journal.waiting) = (true, first);
                Ok(journal)
            }
            made => Self::of(&dir, reserve, made),
        }
    }

    fn without(path: PathBuf, reserve: PathBuf) -> Self {
        Self { file: None, is_new: false, waiting: Vec::new(), path, reserve, len_bytes: 0 }
    }

    /// Begins a journal of any kind in a directory of its own.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub(super) fn create_in(
        dir: &Path,
        reserve: PathBuf,
        first: &impl Serialize,
    ) -> Result<Self, JournalError> {
        let made = line::print(first).and_then(|first| begin(dir, &first));
        Self::of(dir, reserve, made)
    }

    /// Goes on with a journal; what follows its last whole line is cut off. One that the disk does not let
    /// be written to is written as soon as it does.
    ///
    /// # Errors
    /// The system's.
    pub fn reopen(paths: &ServiceLayout, op: OpId) -> Result<Self, JournalError> {
        match Self::reopen_in(&paths.op(op), paths.reserve()) {
            Err(JournalError::System { path, source }) if durable::is_of_disk(&source) => {
                tracing::error!(path = %path.display(), error = %source, "the journal waits for the disk");
                Ok(Self::without(path, paths.reserve()))
            }
            reopened => reopened,
        }
    }

    /// Goes on with a journal of any kind.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn reopen_in(dir: &Path, reserve: PathBuf) -> Result<Self, JournalError> {
        Self::of(dir, reserve, reopen(&dir.join(FILE)))
    }

    fn of(
        dir: &Path,
        reserve: PathBuf,
        file: io::Result<(File, u64)>,
    ) -> Result<Self, JournalError> {
        let path = dir.join(FILE);
        match file {
            Ok((file, len_bytes)) => {
                let mut journal = Self::without(path, reserve);
                (journal.file, journal.len_bytes) = (Some(file), len_bytes);
                Ok(journal)
            }
            Err(source) => Err(JournalError::System { path, source }),
        }
    }

    /// Writes a line and waits until it is on the disk.
    ///
    /// # Errors
    /// As [`note`](Self::note).
    pub fn announce(&mut self, record: &impl Serialize) -> Result<(), JournalError> {
        self.note(record)?;
        let synced = self.file.as_ref().map_or(Ok(()), File::sync_data);
        synced.map_err(|source| self.system(source))
    }

    /// Writes a line.
    ///
    /// # Errors
    /// The system's; on a full disk the reserve is given back first. Nothing of the line is left.
    pub fn note(&mut self, record: &impl Serialize) -> Result<(), JournalError> {
        let text = line::print(record).map_err(|source| self.system(source))?;
        let at = self.len_bytes;
        let Some(file) = &self.file else { return self.begin_late(&text) };
        let written = reserve::spend(&self.reserve, &mut || {
            file.write_all_at(&text, at).inspect_err(|_| {
                // The next line is written over what this leaves, should it fail.
                drop(file.set_len(at));
            })
        });
        written.map_err(|source| self.system(source))?;
        self.len_bytes += text.len() as u64;
        Ok(())
    }

    /// The disk did not take the journal before: once more, with all lines since.
    fn begin_late(&mut self, text: &[u8]) -> Result<(), JournalError> {
        self.waiting.extend_from_slice(text);
        let dir = self.path.parent().unwrap_or(&self.path);
        let opened = if self.is_new {
            // What the first try has left there.
            drop(durable::remove_tree(dir));
            begin(dir, &self.waiting)
        } else {
            reopen(&self.path).and_then(|(file, len)| {
                file.write_all_at(&self.waiting, len)?;
                Ok((file, len + self.waiting.len() as u64))
            })
        };
        let (file, len_bytes) = opened.map_err(|source| self.system(source))?;
        (self.file, self.len_bytes, self.waiting) = (Some(file), len_bytes, Vec::new());
        Ok(())
    }

    fn system(&self, source: io::Error) -> JournalError {
        JournalError::System { path: self.path.clone(), source }
    }
}

/// A journal that is there, and how long its whole lines are.
fn reopen(path: &Path) -> io::Result<(File, u64)> {
    let bytes = fs::read(path)?;
    let len = line::whole_bytes(&bytes) as u64;
    let file = File::options().write(true).open(path)?;
    // The next line is written over what this leaves, should it fail.
    drop(file.set_len(len));
    Ok((file, len))
}

/// A journal's directory and its first line, or nothing.
fn begin(dir: &Path, first: &[u8]) -> io::Result<(File, u64)> {
    let path = dir.join(FILE);
    let made = || -> io::Result<File> {
        fs::create_dir(dir)?;
        let file = File::options().write(true).create_new(true).open(&path)?;
        // A disk that becomes full later has room for what follows.
        if let Err(error) = fallocate(&file, FallocateFlags::KEEP_SIZE, 0, ROOM_BYTES) {
            tracing::debug!(path = %path.display(), %error, "no room is taken beforehand");
        }
        file.write_all_at(first, 0)?;
        durable::sync_dir(dir)?;
        dir.parent().map_or(Ok(()), durable::sync_dir)?;
        Ok(file)
    };
    let made = made().inspect_err(|error| {
        if error.kind() != io::ErrorKind::AlreadyExists {
            drop(durable::remove_tree(dir));
        }
    });
    Ok((made?, first.len() as u64))
}

/// Reads a journal. `None` when it was torn before its intent was whole: nothing was done yet.
///
/// # Errors
/// [`JournalError::Damaged`] when a line before the last is not what was written.
pub fn read(
    paths: &ServiceLayout,
    op: OpId,
) -> Result<Option<(Intent, Vec<Record>)>, JournalError> {
    read_in(&paths.op(op))
}

/// Reads a journal of any kind.
///
/// # Errors
/// As [`read`].
pub(super) fn read_in<I: DeserializeOwned, R: DeserializeOwned>(
    dir: &Path,
) -> Result<Option<(I, Vec<R>)>, JournalError> {
    let path = dir.join(FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(JournalError::System { path, source }),
    };
    let text = String::from_utf8_lossy(&bytes);
    let whole = text.rsplit_once('\n').map_or("", |(whole, _torn)| whole);
    let lines: Vec<&str> = whole.lines().collect();
    let Some(intent) = lines.first().and_then(|text| line::parse(text)) else {
        return if lines.len() < 2 {
            Ok(None)
        } else {
            Err(JournalError::Damaged { path, line: 1 })
        };
    };
    let mut records = Vec::new();
    for (n, text) in lines.iter().enumerate().skip(1) {
        let record = line::parse(text);
        if record.is_none() || !line::is_whole(text) {
            tracing::warn!(path = %path.display(), line = n + 1, "half a line counts as not written");
        }
        match record {
            Some(record) => records.push(record),
            // A power cut may tear the last line anywhere, also behind its newline's block.
            None if n + 1 == lines.len() || line::is_half(text) => {}
            None => return Err(JournalError::Damaged { path, line: n + 1 }),
        }
    }
    Ok(Some((intent, records)))
}

/// The newest operation, if it has no result.
///
/// # Errors
/// When its journal cannot be read.
pub fn open_operation(
    paths: &ServiceLayout,
) -> Result<Option<(Intent, Vec<Record>)>, JournalError> {
    let Some(newest) = ServiceLayout::numbers(&paths.ops()).pop() else { return Ok(None) };
    let read = read(paths, OpId(newest))?;
    Ok(read.filter(|(_, records)| !records.iter().any(|record| record.outcome.is_some())))
}

/// The file of an operation's journal.
#[must_use]
pub fn path(paths: &ServiceLayout, op: OpId) -> PathBuf {
    paths.op(op).join(FILE)
}

/// The number of the next operation.
#[must_use]
pub fn next_op(paths: &ServiceLayout) -> OpId {
    OpId(ServiceLayout::numbers(&paths.ops()).pop().unwrap_or(0) + 1)
}

/// An intent of this version.
#[must_use]
pub fn version() -> u16 {
    VERSION
}

/// Removes old journals from a directory of them, with their own directories, and returns those that
/// could not be removed.
#[must_use]
pub fn prune(journals: &Path) -> Vec<(PathBuf, io::Error)> {
    let numbers = ServiceLayout::numbers(journals);
    let old = numbers.iter().rev().skip(N_KEPT).map(|number| numbered(journals, *number));
    old.filter_map(|path| durable::remove_tree(&path).err().map(|error| (path, error))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::Outcome;
    use crate::core::operation::outcome::Word;
    use crate::store::layout::Layout;

    fn intent() -> Intent {
        Intent {
            version: VERSION,
            op: 1,
            kind: "release".to_owned(),
            actor: "ci \"quoted\"\n".to_owned(),
            source: "build.tar.zst".to_owned(),
            at: "2026-11-23T12:00:00Z".to_owned(),
            boot_id: "b".to_owned(),
            release: 1,
            generation: 1,
            old: None,
            warm: None,
            left: None,
            before: String::new(),
            strategy: String::new(),
            shares: Vec::new(),
            max_gap_ms: None,
            ladder: vec![],
            inconclusive: "promote".to_owned(),
            succession: "overlap".to_owned(),
            n_steps: 0,
            force: false,
            no_way_back: None,
        }
    }

    fn written(n: usize) -> (tempfile::TempDir, ServiceLayout, Vec<Record>) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Layout::new(dir.path()).service(&"web".parse().unwrap());
        paths.create().unwrap();
        let mut journal = Journal::create(&paths, &intent()).unwrap();
        let records: Vec<Record> =
            (0..n).map(|n| Record::start(&format!("gate{n}"), "asked", None)).collect();
        for record in &records {
            journal.announce(record).unwrap();
        }
        (dir, paths, records)
    }

    proptest! {
        #[test]
        fn a_tail_torn_at_any_byte_costs_only_the_lines_it_reaches(cut in 0_usize..600) {
            let (_dir, paths, records) = written(3);
            let file = paths.op(OpId(1)).join(FILE);
            let bytes = fs::read(&file).unwrap();
            let cut = cut.min(bytes.len());
            fs::write(&file, &bytes[..bytes.len() - cut]).unwrap();
            if let Some((read_intent, read_records)) = read(&paths, OpId(1)).unwrap() {
                prop_assert_eq!(read_intent, intent());
                prop_assert_eq!(&read_records[..], &records[..read_records.len()]);
                prop_assert!(cut > 0 || read_records.len() == 3);
                let mut journal = Journal::reopen(&paths, OpId(1)).unwrap();
                let more = Record::start("more", "asked", None);
                journal.announce(&more).unwrap();
                let (_, again) = read(&paths, OpId(1)).unwrap().unwrap();
                prop_assert_eq!(again.last(), Some(&more));
            } else {
                prop_assert!(cut > 300);
            }
        }
    }

    #[test]
    fn damage_in_the_middle_is_an_error_that_names_the_line() {
        let (_dir, paths, _) = written(3);
        let file = paths.op(OpId(1)).join(FILE);
        let text = fs::read_to_string(&file).unwrap().replacen("gate0", "gateX", 1);
        fs::write(&file, text).unwrap();
        let error = read(&paths, OpId(1)).unwrap_err();
        assert!(error.to_string().ends_with("line 2 is damaged"), "{error}");
    }

    #[test]
    fn an_operation_is_open_until_its_result_is_written() {
        let (_dir, paths, _) = written(1);
        assert!(open_operation(&paths).unwrap().is_some());
        assert_eq!(next_op(&paths), OpId(2));
        let outcome = Outcome::new(Word::Committed.into(), "web", 1);
        Journal::reopen(&paths, OpId(1)).unwrap().announce(&Record::result(outcome)).unwrap();
        assert!(open_operation(&paths).unwrap().is_none());
    }

    #[test]
    fn a_journal_of_version_1_loads_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Layout::new(dir.path()).service(&"web".parse().unwrap());
        paths.create().unwrap();
        fs::create_dir(paths.op(OpId(107))).unwrap();
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/journal-v1.ndjson");
        fs::copy(fixture, paths.op(OpId(107)).join(FILE)).unwrap();
        let (intent, records) = read(&paths, OpId(107)).unwrap().unwrap();
        assert_eq!((intent.op, intent.release, intent.ladder), (107, 43, vec![42, 41]));
        assert_eq!(records[0].phase, "receive");
    }

    #[test]
    fn the_newest_journals_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let n_kept = u64::try_from(N_KEPT).unwrap();
        for number in 1..=n_kept + 2 {
            let path = numbered(dir.path(), number);
            fs::create_dir(&path).unwrap();
            fs::write(path.join(FILE), "").unwrap();
        }
        assert!(prune(dir.path()).is_empty());
        let left = ServiceLayout::numbers(dir.path());
        assert_eq!((left.len(), left[0]), (N_KEPT, 3));
    }

    #[test]
    fn a_journal_that_the_disk_takes_later_has_every_line() {
        let (_dir, paths, _) = written(0);
        let op = OpId(1);
        let waiting = line::print(&intent()).unwrap();
        let mut journal = Journal::without(path(&paths, op), paths.reserve());
        (journal.is_new, journal.waiting) = (true, waiting);
        // Its directory cannot be made.
        fs::remove_dir_all(paths.ops()).unwrap();
        journal.announce(&Record::start("back_gate:0", "asked", None)).unwrap_err();
        fs::create_dir(paths.ops()).unwrap();
        journal.announce(&Record::start("back_flip:0", "asked", None)).unwrap();
        journal.announce(&Record::start("back_commit:0", "asked", None)).unwrap();
        drop(journal);
        // One that is there is gone on with, also when it is opened late.
        let mut journal = Journal::without(path(&paths, op), paths.reserve());
        journal.announce(&Record::start("done", "asked", None)).unwrap();
        let (read_intent, records) = read(&paths, op).unwrap().unwrap();
        let phases: Vec<_> = records.iter().map(|record| record.phase.as_str()).collect();
        assert_eq!(read_intent, intent());
        assert_eq!(phases, ["back_gate:0", "back_flip:0", "back_commit:0", "done"]);
    }
}
