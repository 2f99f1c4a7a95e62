//! That a restore of live data was begun: `restore.json` in the service's directory, written
//! before the data is touched, removed after the service runs on it. Found at a start, it means:
//! put back what was there before.

use std::io;

use serde::{Deserialize, Serialize};

use crate::os::fs;
use crate::store::layout::ServiceLayout;

const FILE: &str = "restore.json";

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

/// It is over.
///
/// # Errors
/// The system's.
pub fn end(paths: &ServiceLayout) -> io::Result<()> {
    match std::fs::remove_file(paths.dir().join(FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::sync_dir(paths.dir()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::layout::Layout;

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
        };
        begin(&paths, &restoration).unwrap();
        assert_eq!(read(&paths).unwrap(), Some(restoration));
        end(&paths).unwrap();
        end(&paths).unwrap();
        assert_eq!(read(&paths).unwrap(), None);
    }
}
