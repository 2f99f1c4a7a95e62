//! Notifications that are not delivered yet: `outbox/0000012.json`, one file for each target.
//!
//! A file is whole and on the disk before the end of its event is reported to any client, and it is
//! removed after its delivery: a crash in between delivers twice, with the same `id`. What could
//! not be delivered is laid aside in `outbox/dead/`. All of it is the owner's alone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::json;
use crate::os::fs as durable;

/// The version of this format.
pub const VERSION: u16 = 1;
/// What was laid aside is kept up to this number, the newest.
const N_DEAD_MAX: usize = 1000;

/// A file of the outbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    /// Version of this format.
    pub version: u16,
    /// The name of the target.
    pub target: String,
    /// What.
    pub notification: Notification,
}

/// What is sent to a target. Keys are only ever added. It never has values of the environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    /// Version of this record.
    pub version: u16,
    /// The same in each delivery of the notification: receivers discard duplicates by `id`.
    pub id: String,
    /// When it happened, RFC 3339.
    pub at: String,
    /// The machine's name.
    pub host: String,
    /// `committed`, `failed`, `rolled_back`, `rollback_failed`, `degraded`, …
    pub event: String,
    /// Whose; of a set, all names with commas.
    pub service: String,
    /// The operation's number, where it is about one; of a set, its own.
    pub op: Option<u64>,
    /// The release it is about.
    pub release: Option<u64>,
    /// What serves now.
    pub serving: Option<u64>,
    /// How the operation ended.
    pub outcome: Option<String>,
    /// Its exit code.
    pub exit: Option<u8>,
    /// What happened.
    pub what: String,
    /// Why.
    pub why: String,
    /// What is true for the user's users now.
    pub still: String,
    /// The exact commands to go on with.
    pub next: Vec<String>,
}

/// The directory.
#[derive(Debug, Clone)]
pub struct Outbox {
    dir: PathBuf,
}

impl Outbox {
    /// The outbox at this path.
    #[must_use]
    pub fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Makes its directories; half-written files of a crash are removed.
    ///
    /// # Errors
    /// The system's.
    pub fn prepare(&self) -> io::Result<()> {
        durable::create_dir(&self.dir, 0o700)?;
        durable::create_dir(&self.dead(), 0o700)?;
        for entry in fs::read_dir(&self.dir)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(".tmp") {
                drop(fs::remove_file(entry.path()));
            }
        }
        Ok(())
    }

    /// What was laid aside.
    #[must_use]
    pub fn dead(&self) -> PathBuf {
        self.dir.join("dead")
    }

    /// Numbers of what waits, oldest first.
    #[must_use]
    pub fn waiting(&self) -> Vec<u64> {
        numbers(&self.dir)
    }

    /// How many were laid aside.
    #[must_use]
    pub fn n_dead(&self) -> usize {
        numbers(&self.dead()).len()
    }

    /// A number higher than any there is.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        let last = |dir: &Path| numbers(dir).last().copied().unwrap_or(0);
        last(&self.dir).max(last(&self.dead())) + 1
    }

    /// Writes a letter and waits for the disk.
    ///
    /// # Errors
    /// The system's.
    pub fn put(&self, number: u64, letter: &Letter) -> io::Result<()> {
        durable::replace(&self.path(number), &json::to_vec(letter)?, 0o600)
    }

    /// Reads a letter; `None` when its file has been removed.
    ///
    /// # Errors
    /// The system's, and when it is not what was written.
    pub fn get(&self, number: u64) -> io::Result<Option<Letter>> {
        match fs::read(self.path(number)) {
            Ok(bytes) => Ok(Some(json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// It was delivered. After a power cut it may be there again, and is delivered again.
    ///
    /// # Errors
    /// The system's.
    pub fn remove(&self, number: u64) -> io::Result<()> {
        fs::remove_file(self.path(number))
    }

    /// Lays a letter aside.
    ///
    /// # Errors
    /// The system's.
    pub fn bury(&self, number: u64) -> io::Result<()> {
        let dead = self.dead();
        fs::rename(self.path(number), dead.join(name(number)))?;
        for old in numbers(&dead).iter().rev().skip(N_DEAD_MAX) {
            fs::remove_file(dead.join(name(*old)))?;
        }
        Ok(())
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(name(number))
    }
}

fn name(number: u64) -> String {
    format!("{number:07}.json")
}

fn numbers(dir: &Path) -> Vec<u64> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name());
    let number = |name: &std::ffi::OsString| name.to_str()?.strip_suffix(".json")?.parse().ok();
    let mut numbers: Vec<u64> = names.filter_map(|name| number(&name)).collect();
    numbers.sort_unstable();
    numbers
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn letter() -> Letter {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/outbox-v1.json");
        serde_json::from_slice(&fs::read(fixture).unwrap()).unwrap()
    }

    #[test]
    fn a_letter_of_version_1_loads_for_ever() {
        let letter = letter();
        assert_eq!((letter.target.as_str(), letter.notification.op), ("pager", Some(107)));
        assert_eq!(letter.notification.event, "rolled_back");
    }

    #[test]
    fn what_waits_is_the_owners_alone_and_goes_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("outbox");
        let outbox = Outbox::at(&path);
        outbox.prepare().unwrap();
        for number in [9, 10, 2] {
            outbox.put(number, &letter()).unwrap();
        }
        fs::write(path.join(".tmp123"), "half").unwrap();
        outbox.prepare().unwrap();
        assert!(!path.join(".tmp123").exists());
        assert_eq!((outbox.waiting(), outbox.next_number()), (vec![2, 9, 10], 11));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join("0000009.json"))), (0o700, 0o600));
        outbox.bury(10).unwrap();
        outbox.remove(2).unwrap();
        assert_eq!((outbox.waiting(), outbox.n_dead(), outbox.next_number()), (vec![9], 1, 11));
        assert_eq!(mode(&outbox.dead()), 0o700);
        assert_eq!(outbox.get(9).unwrap(), Some(letter()));
        assert_eq!(outbox.get(2).unwrap(), None);
        fs::write(path.join("0000009.json"), "{").unwrap();
        assert!(outbox.get(9).is_err());
    }
}
