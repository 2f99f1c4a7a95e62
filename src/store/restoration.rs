//! That a restore of live data was begun: `restore.json` in the service's directory, written
//! before anything is stopped, renamed to `restored.json` when the release has proven itself on the
//! data and before it gets its first connection. Found at a start, the first means: put back what was
//! there before. The second: what was there before is still kept, and may go.
//!
//! `restoring.json` is there from the beginning of the command to its end: one that is found at a start
//! was cut off, wherever it was, and nobody has written that into the history yet.

use std::io;

use serde::{Deserialize, Serialize};

use crate::core::ids::ServiceName;
use crate::json;
use crate::os::fs;
use crate::store::layout::{Layout, ServiceLayout};

const FILE: &str = "restore.json";
const PROVEN: &str = "restored.json";
const ASKED: &str = "restoring.json";

/// A restore that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restoration {
    /// Version of this format, now 1.
    pub version: u16,
    /// The backup that is put in place.
    pub backup: String,
    /// The backup of the earlier data; none when it failed and the request allowed that.
    pub before: Option<String>,
    /// The user that requested the restore.
    pub actor: String,
    /// When, RFC 3339.
    pub at: String,
    /// What was begun.
    #[serde(default)]
    pub step: Step,
    /// By what the processes are known of the migration that it runs; none when it needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration: Option<String>,
    /// Whoever asked for it knows that it can be neither ended nor undone for now.
    #[serde(default)]
    pub told: bool,
    /// Services that use the same data and are stopped as long as this is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<String>,
    /// The release whose data it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<u64>,
    /// When it began, in milliseconds since that boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<Began>,
}

/// A moment of a boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Began {
    /// Milliseconds since it.
    pub tick_ms: u64,
    /// Which boot.
    pub boot_id: String,
}

/// How far a restore came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The data is as it was: connections are held, or are about to be.
    Hold,
    /// The data is being replaced. Also of records of before there were steps.
    #[default]
    Put,
    /// The release has proven itself on it; only the command is not over.
    Proven,
}

/// Writes down that one was asked for, or has proven itself.
///
/// # Errors
/// The system's.
pub fn ask(paths: &ServiceLayout, restoration: &Restoration) -> io::Result<()> {
    fs::replace(&paths.dir().join(ASKED), &json::to_vec(restoration)?, 0o600)
}

/// The one that was asked for and of which nobody was told how it ended.
///
/// # Errors
/// When it cannot be read.
pub fn asked(paths: &ServiceLayout) -> io::Result<Option<Restoration>> {
    read_file(paths, ASKED)
}

/// How that ended has been told.
///
/// # Errors
/// The system's.
pub fn answered(paths: &ServiceLayout) -> io::Result<()> {
    remove(paths, ASKED)
}

/// Writes it down, durably.
///
/// # Errors
/// The system's.
pub fn begin(paths: &ServiceLayout, restoration: &Restoration) -> io::Result<()> {
    fs::replace(&paths.dir().join(FILE), &json::to_vec(restoration)?, 0o600)
}

/// The restore that was begun and not ended.
///
/// # Errors
/// When it cannot be read.
pub fn read(paths: &ServiceLayout) -> io::Result<Option<Restoration>> {
    read_file(paths, FILE)
}

fn read_file(paths: &ServiceLayout, file: &str) -> io::Result<Option<Restoration>> {
    match std::fs::read(paths.dir().join(file)) {
        Ok(text) => Ok(Some(json::from_slice(&text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The service whose restore keeps this one stopped.
#[must_use]
pub fn keeps_stopped(layout: &Layout, name: &ServiceName) -> Option<ServiceName> {
    let entries = std::fs::read_dir(layout.root()).ok()?.flatten();
    let others = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut others = others.filter(|other: &ServiceName| other != name);
    others.find(|other| {
        let text = std::fs::read(layout.service(other).dir().join(FILE)).unwrap_or_default();
        let begun = json::from_slice::<Users>(&text);
        begun.is_ok_and(|begun| begun.users.iter().any(|user| user == name.as_str()))
    })
}

/// Of a record whose other values may be a newer version's.
#[derive(Deserialize)]
struct Users {
    #[serde(default)]
    users: Vec<String>,
}

/// The release runs on the restored data: from here on it is never undone.
///
/// # Errors
/// The system's: it is as if it were not proven.
pub fn prove(paths: &ServiceLayout) -> io::Result<()> {
    std::fs::rename(paths.dir().join(FILE), paths.dir().join(PROVEN))?;
    fs::sync_dir(paths.dir())
}

/// Whether this one was proven.
#[must_use]
pub fn has_proven(paths: &ServiceLayout, restoration: &Restoration) -> bool {
    let proven = read_file(paths, PROVEN).ok().flatten();
    let is_it = |proven: Restoration| {
        (proven.at, proven.backup) == (restoration.at.clone(), restoration.backup.clone())
    };
    restoration.step == Step::Proven || proven.is_some_and(is_it)
}

/// Whether one was proven whose previous data is still kept.
#[must_use]
pub fn is_proven(paths: &ServiceLayout) -> bool {
    paths.dir().join(PROVEN).exists()
}

/// The previous data of a proven one is gone.
///
/// # Errors
/// The system's.
pub fn settle(paths: &ServiceLayout) -> io::Result<()> {
    remove(paths, PROVEN)
}

/// It was undone.
///
/// # Errors
/// The system's.
pub fn end(paths: &ServiceLayout) -> io::Result<()> {
    remove(paths, FILE)
}

fn remove(paths: &ServiceLayout, file: &str) -> io::Result<()> {
    match std::fs::remove_file(paths.dir().join(file)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::sync_dir(paths.dir()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_there_until_it_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Layout::new(dir.path()).service(&"web".parse().unwrap());
        std::fs::create_dir_all(paths.dir()).unwrap();
        assert_eq!(read(&paths).unwrap(), None);
        let restoration = Restoration {
            version: 1,
            backup: "2".to_owned(),
            before: Some("3".to_owned()),
            actor: "me".to_owned(),
            at: String::new(),
            step: Step::Put,
            migration: Some("mark".to_owned()),
            told: true,
            users: vec!["worker".to_owned()],
            release: Some(7),
            began: Some(Began { tick_ms: 5, boot_id: "b".to_owned() }),
        };
        begin(&paths, &restoration).unwrap();
        assert_eq!(read(&paths).unwrap().as_ref(), Some(&restoration));
        let keeps = |name: &str| keeps_stopped(&Layout::new(dir.path()), &name.parse().unwrap());
        assert_eq!(keeps("worker"), Some("web".parse().unwrap()));
        assert_eq!((keeps("api"), keeps("web")), (None, None));
        end(&paths).unwrap();
        end(&paths).unwrap();
        assert_eq!(read(&paths).unwrap(), None);
        ask(&paths, &Restoration { step: Step::Hold, ..restoration.clone() }).unwrap();
        let asked_for = asked(&paths).unwrap().unwrap();
        assert!(!has_proven(&paths, &asked_for));
        begin(&paths, &restoration).unwrap();
        prove(&paths).unwrap();
        assert!(has_proven(&paths, &asked_for));
        let other = Restoration { at: "later".to_owned(), ..asked_for };
        assert!(!has_proven(&paths, &other));
        answered(&paths).unwrap();
        answered(&paths).unwrap();
        assert_eq!(asked(&paths).unwrap(), None);
        assert_eq!((read(&paths).unwrap(), is_proven(&paths)), (None, true));
        settle(&paths).unwrap();
        assert!(!is_proven(&paths));
        // A step of a newer version is no other, and its users stay stopped.
        let newer = serde_json::to_string(&restoration).unwrap().replace("put", "sideways");
        std::fs::write(paths.dir().join(FILE), newer).unwrap();
        let unknown = read(&paths).unwrap_err().to_string();
        assert!(unknown.contains("unknown variant `sideways`"), "{unknown}");
        assert_eq!(keeps("worker"), Some("web".parse().unwrap()));
        // As it was written before there were steps.
        let old = r#"{"version":1,"backup":"2","before":"3","actor":"me","at":""}"#;
        std::fs::write(paths.dir().join(FILE), old).unwrap();
        let plain = Restoration {
            migration: None,
            told: false,
            users: Vec::new(),
            release: None,
            began: None,
            ..restoration
        };
        assert_eq!(read(&paths).unwrap(), Some(plain));
    }
}
