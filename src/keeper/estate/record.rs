//! What the keeper has, written down by the supervisor: for a `halley-sup run` that comes when both
//! have been killed. It holds for one boot, so nothing is synced.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::core::ordered::Few;
use crate::json;
use crate::keeper::estate::Filter;
use crate::keeper::protocol::{ChildId, Heir, Identity, Watched};
use crate::os::proc;
use crate::os::recover::{FileId, id_of};

/// With more lines it is written anew.
const N_LINES_MAX: usize = 2_000;

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "tag:is", rename_all = "snake_case")]
enum Line {
    /// The first one.
    Boot { boot_id: String },
    /// A descriptor is kept.
    Kept { name: String, device: u64, inode: u64 },
    /// It is not any more.
    Dropped { name: String },
    /// A child is about to be started; its processes carry the token.
    Starts { child: ChildId, token: String },
    /// It runs.
    Heir { heir: Box<Heir> },
    /// It runs under a filter.
    Filter { child: ChildId, watched: Box<Watched> },
    /// It is forgotten, or did not start.
    Gone { child: ChildId },
}

/// The file, open.
#[derive(Debug)]
pub struct Record {
    path: PathBuf,
    file: File,
    n_lines: usize,
    /// A line is missing.
    has_gap: bool,
}

/// What a record says.
#[derive(Debug, Default)]
pub struct Known {
    /// The files of kept descriptors, by name.
    pub kept: Few<String, FileId>,
    /// Children that ran.
    pub heirs: Few<ChildId, Heir>,
    /// What calls are answered by, of children that were started under a filter.
    pub watched: Few<ChildId, Watched>,
    /// Tokens of children that may have been started.
    pub unborn: Few<ChildId, String>,
}

impl Record {
    /// Writes down what there is; whoever reads meanwhile reads the one before.
    ///
    /// # Errors
    /// The system's.
    pub fn begin<'a>(
        path: &Path,
        kept: impl Iterator<Item = (&'a str, BorrowedFd<'a>)>,
        heirs: impl Iterator<Item = &'a Heir>,
        filters: &[Filter],
    ) -> io::Result<Self> {
        let new = path.with_extension("new");
        let (path, file) = (path.to_owned(), File::create(&new)?);
        let mut record = Self { path, file, n_lines: 0, has_gap: false };
        let mut text = line(&Line::Boot { boot_id: proc::boot_id()? })?;
        for (name, fd) in kept {
            text.extend(line(&kept_line(name, fd)?)?);
        }
        for heir in heirs {
            text.extend(line(&Line::Heir { heir: Box::new(heir.clone()) })?);
        }
        for filter in filters {
            text.extend(line(&filter_line(filter))?);
        }
        record.file.write_all(&text)?;
        fs::rename(new, &record.path)?;
        Ok(record)
    }

    /// Whether it is to be written anew.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.n_lines > N_LINES_MAX || self.has_gap
    }

    /// A descriptor is kept.
    pub fn kept(&mut self, name: &str, fd: impl AsFd) {
        match kept_line(name, fd.as_fd()) {
            Ok(line) => self.note(&line),
            Err(error) => tracing::warn!(name, %error, "noting what is kept"),
        }
    }

    /// A descriptor is not kept any more.
    pub fn dropped(&mut self, name: &str) {
        self.note(&Line::Dropped { name: name.to_owned() });
    }

    /// A child is about to be started.
    pub fn starts(&mut self, child: ChildId, token: String) {
        self.note(&Line::Starts { child, token });
    }

    /// A child runs.
    pub fn heir(&mut self, heir: &Heir) {
        self.note(&Line::Heir { heir: Box::new(heir.clone()) });
    }

    /// A child runs under a filter.
    pub fn filter(&mut self, filter: &Filter) {
        self.note(&filter_line(filter));
    }

    /// A child is forgotten.
    pub fn gone(&mut self, child: ChildId) {
        self.note(&Line::Gone { child });
    }

    fn note(&mut self, what: &Line) {
        self.n_lines += 1;
        if let Err(error) = line(what).and_then(|text| self.file.write_all(&text)) {
            tracing::warn!(%error, "noting what the keeper has");
            self.has_gap = true;
        }
    }
}

fn kept_line(name: &str, fd: BorrowedFd<'_>) -> io::Result<Line> {
    let (device, inode) = id_of(fd)?;
    Ok(Line::Kept { name: name.to_owned(), device, inode })
}

fn filter_line(filter: &Filter) -> Line {
    Line::Filter { child: filter.child, watched: Box::new(filter.watched.clone()) }
}

fn line(line: &Line) -> io::Result<Vec<u8>> {
    let mut text = json::to_vec(line)?;
    text.push(b'\n');
    Ok(text)
}

impl Known {
    /// What the record of this boot says. A line that is not whole is the last one of a supervisor that
    /// was killed.
    #[must_use]
    pub fn read(path: &Path) -> Option<Self> {
        let text = fs::read(path).ok()?;
        let mut lines = text.split(|byte| *byte == b'\n').map(json::from_slice::<Line>);
        match lines.next()? {
            Ok(Line::Boot { boot_id }) if proc::boot_id().ok()? == boot_id => {}
            _ => return None,
        }
        let mut known = Self::default();
        for line in lines.flatten() {
            match line {
                Line::Boot { .. } => {}
                Line::Kept { name, device, inode } => {
                    known.kept.insert(name, (device, inode));
                }
                Line::Dropped { name } => drop(known.kept.remove(&name)),
                Line::Starts { child, token } => drop(known.unborn.insert(child, token)),
                Line::Heir { heir } => {
                    known.unborn.remove(&heir.child);
                    known.heirs.insert(heir.child, *heir);
                }
                Line::Filter { child, watched } => drop(known.watched.insert(child, *watched)),
                Line::Gone { child } => {
                    known.unborn.remove(&child);
                    known.heirs.remove(&child);
                }
            }
        }
        known.heirs.retain(|_, heir| Identity::is_alive(&heir.identity));
        Some(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heir(child: u64, pid: u32) -> Heir {
        let identity = proc::identity(i32::try_from(pid).unwrap()).unwrap();
        let (child, token) = (ChildId(child), format!("1-{child}"));
        Heir { child, label: String::new(), identity, end: None, token, mark: None, group: None }
    }

    #[test]
    fn who_comes_later_reads_what_is_there_and_half_a_line_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.ndjson");
        let (one, two) = (File::open("/dev/null").unwrap(), File::open("/dev/zero").unwrap());
        let me = heir(1, std::process::id());
        let kept = [("one", one.as_fd())].into_iter();
        let mut record = Record::begin(&path, kept, [&me].into_iter(), &[]).unwrap();
        record.kept("two", &two);
        record.dropped("one");
        record.starts(ChildId(2), "1-2".to_owned());
        record.starts(ChildId(3), "1-3".to_owned());
        record.gone(ChildId(3));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let dead = heir(4, child.id());
        child.wait().unwrap();
        record.heir(&dead);
        record.file.write_all(br#"{"is":"gone","ch"#).unwrap();
        let known = Known::read(&path).unwrap();
        assert_eq!(known.kept.keys().collect::<Vec<_>>(), ["two"]);
        assert_eq!(known.kept.get("two"), Some(&id_of(two.as_fd()).unwrap()));
        assert_eq!(known.heirs.values().collect::<Vec<_>>(), [&me]);
        assert_eq!(known.unborn.iter().collect::<Vec<_>>(), [(&ChildId(2), &"1-2".to_owned())]);
        let text = fs::read_to_string(&path).unwrap().replace(&proc::boot_id().unwrap(), "other");
        fs::write(&path, text).unwrap();
        assert!(Known::read(&path).is_none(), "it is of another boot");
    }
    #[test]
    fn a_record_with_a_gap_is_to_be_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let none = || std::iter::empty();
        let mut record =
            Record::begin(&dir.path().join("a"), none(), std::iter::empty(), &[]).unwrap();
        record.dropped("one");
        assert!(!record.is_due());
        record.file = File::options().write(true).open("/dev/full").unwrap();
        record.dropped("two");
        assert!(record.is_due());
    }
}
