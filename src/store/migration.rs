//! The record that a migration of live data was begun (`ops/N/migration.json`): written before the
//! migration, so that it is not run again without a check.

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};

use crate::core::ids::OpId;
use crate::json;
use crate::os::fs;
use crate::store::layout::ServiceLayout;

const FILE: &str = "migration.json";

/// A migration that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migration {
    /// Version of this format, now 1.
    pub version: u16,
    /// When, RFC 3339.
    pub at: String,
    /// The schema's version before the migration, when a probe is configured.
    pub before: Option<String>,
    /// The backup that was taken before it.
    #[serde(default)]
    pub backup: Option<String>,
    /// What was counted in the data before it: rows by table, files and bytes.
    #[serde(default)]
    pub counts: Option<BTreeMap<String, u64>>,
    /// Its process, once it runs.
    #[serde(default)]
    pub process: Option<Process>,
}

/// A process, as no other one is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Process id.
    pub pid: i32,
    /// When it was started, in clock ticks since boot.
    pub start_ticks: u64,
    /// In which boot.
    pub boot_id: String,
}

/// Writes it down, durably.
///
/// # Errors
/// The system's.
pub fn begin(paths: &ServiceLayout, op: OpId, migration: &Migration) -> io::Result<()> {
    fs::replace(&paths.op(op).join(FILE), &json::to_vec(migration)?, 0o600)
}

/// What an operation has begun; `None` when it has not.
///
/// # Errors
/// When it cannot be read: it may have been begun.
pub fn read(paths: &ServiceLayout, op: OpId) -> io::Result<Option<Migration>> {
    match std::fs::read(paths.op(op).join(FILE)) {
        Ok(text) => Ok(Some(json::from_slice(&text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::layout::Layout;

    #[test]
    fn what_cannot_be_read_may_have_been_begun() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Layout::new(dir.path()).service(&"web".parse().unwrap());
        std::fs::create_dir_all(paths.op(OpId(1))).unwrap();
        assert_eq!(read(&paths, OpId(1)).unwrap(), None);
        let process = Process { pid: 7, start_ticks: 8, boot_id: "b".to_owned() };
        let migration = Migration {
            version: 1,
            at: "x".to_owned(),
            before: Some("6".to_owned()),
            backup: Some("b".to_owned()),
            counts: Some(BTreeMap::from([("rows".to_owned(), 5)])),
            process: Some(process),
        };
        begin(&paths, OpId(1), &migration).unwrap();
        assert_eq!(read(&paths, OpId(1)).unwrap(), Some(migration.clone()));
        // As it was written before processes and counts were.
        let old = r#"{"version":1,"at":"x","before":"6"}"#;
        std::fs::write(paths.op(OpId(1)).join(FILE), old).unwrap();
        let plain = Migration { backup: None, counts: None, process: None, ..migration };
        assert_eq!(read(&paths, OpId(1)).unwrap(), Some(plain));
        std::fs::write(paths.op(OpId(1)).join(FILE), "{").unwrap();
        assert!(read(&paths, OpId(1)).is_err());
    }
}
