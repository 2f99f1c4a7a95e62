//! That a restore of live data was begun: `restore.json` in the service's directory, written
//! before anything is stopped, renamed to `restored.json` when the release has proven itself on the
//! data and before it gets its first connection. Found at a start, the first means: put back what was
//! there before. The second: what was there before is still kept, and may go.

use std::io;

use serde::{Deserialize, Serialize};

use crate::core::ids::ServiceName;
use crate::os::fs;
use crate::store::layout::{Layout, ServiceLayout};

const FILE: &str = "restore.json";
const PROVEN: &str = "restored.json";

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
}

/// Writes it down, durably.
///
/// # Errors
/// The system's.
pub fn begin(paths: &ServiceLayout, restoration: &Restoration) -> io::Result<()> {
    fs::replace(&paths.dir().join(FILE), &serde_json::to_vec(restoration)?, 0o600)
}

/// The restore that was begun and not ended.
///
/// # Errors
/// When it cannot be read.
pub fn read(paths: &ServiceLayout) -> io::Result<Option<Restoration>> {
    match std::fs::read(paths.dir().join(FILE)) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
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
        let begun = read(&layout.service(other)).ok().flatten();
        begun.is_some_and(|begun| begun.users.iter().any(|user| user == name.as_str()))
    })
}

/// The release runs on the restored data: from here on it is never undone.
///
/// # Errors
/// The system's: it is as if it were not proven.
pub fn prove(paths: &ServiceLayout) -> io::Result<()> {
    std::fs::rename(paths.dir().join(FILE), paths.dir().join(PROVEN))?;
    fs::sync_dir(paths.dir())
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
        };
        begin(&paths, &restoration).unwrap();
        assert_eq!(read(&paths).unwrap().as_ref(), Some(&restoration));
        let keeps = |name: &str| keeps_stopped(&Layout::new(dir.path()), &name.parse().unwrap());
        assert_eq!(keeps("worker"), Some("web".parse().unwrap()));
        assert_eq!((keeps("api"), keeps("web")), (None, None));
        end(&paths).unwrap();
        end(&paths).unwrap();
        assert_eq!(read(&paths).unwrap(), None);
        begin(&paths, &restoration).unwrap();
        prove(&paths).unwrap();
        assert_eq!((read(&paths).unwrap(), is_proven(&paths)), (None, true));
        settle(&paths).unwrap();
        assert!(!is_proven(&paths));
        // As it was written before there were steps.
        let old = r#"{"version":1,"backup":"2","before":"3","actor":"me","at":""}"#;
        std::fs::write(paths.dir().join(FILE), old).unwrap();
        let plain = Restoration { migration: None, told: false, users: Vec::new(), ..restoration };
        assert_eq!(read(&paths).unwrap(), Some(plain));
    }
}
