//! A service's durable state: one small file, replaced whole. Replacing it is the commit.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::api::Trouble;
use crate::store::layout::ServiceLayout;
use crate::store::reserve;

/// The version of this format.
const VERSION: u16 = 1;

/// What must survive everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The version of this format.
    pub version: u16,
    /// What a reboot starts. Only a commit moves it.
    pub last_good: Option<Served>,
    /// The release that was left last and is kept warm.
    #[serde(default)]
    pub standby: Option<Standby>,
    /// Artifacts that were rolled back: releasing one again needs `--force`.
    #[serde(default)]
    pub frozen: Vec<Frozen>,
    /// Releases that are never pruned.
    #[serde(default)]
    pub pinned: Vec<u64>,
    /// The service was stopped with `stop`.
    #[serde(default)]
    pub stopped: bool,
    /// Numbers below this one have been given to a release.
    #[serde(default)]
    pub next_release: u64,
    /// A rollback failed: sticky until the next commit.
    #[serde(default)]
    pub alarm: Option<Trouble>,
    /// No releases until it is thawed.
    #[serde(default)]
    pub freeze: Option<Freeze>,
    /// The last rehearsal of a rollback.
    #[serde(default)]
    pub rehearsal: Option<Rehearsal>,
    /// The version of the schema that the data has, as the last migration left it.
    #[serde(default)]
    pub schema: Option<String>,
    /// Backups up to this one, in the order of all, are of data that a migration or a restore has
    /// replaced since.
    #[serde(default)]
    pub replaced_after: u64,
}

/// No releases of the service until it is thawed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    /// When, RFC 3339.
    pub at: String,
    /// The user that set the freeze.
    pub actor: String,
    /// Why.
    pub why: String,
}

/// The last rehearsal of a rollback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearsal {
    /// The release that was tried.
    pub release: u64,
    /// When, RFC 3339.
    pub at: String,
    /// How much of it was tried.
    pub depth: Depth,
    /// Why a rollback to the release is not possible; absent when it is.
    pub why: Option<String>,
}

/// How deep a rehearsal goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Depth {
    /// The release was started and probed.
    Full,
    /// Its tree and its settings were looked at.
    Light,
}

impl Depth {
    /// Its word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Light => "light",
        }
    }
}

/// A release as it was put live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// Which.
    pub release: u64,
    /// Its processes' generation.
    pub generation: u64,
    /// The operation that put it live.
    pub op: u64,
}

/// A release that was left and is kept warm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standby {
    /// Which.
    pub release: u64,
    /// Its processes' generation.
    pub generation: u64,
    /// Until this tick of this boot.
    pub until_ms: u64,
    /// The boot that the tick belongs to.
    pub boot_id: String,
}

/// An artifact that was rolled back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    /// sha256 over its tree.
    pub digest: String,
    /// The release it was.
    pub release: u64,
    /// Why it was rolled back.
    pub why: String,
    /// When, RFC 3339.
    pub at: String,
}

/// Why there is no state.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The system's own reason.
    #[error("{path}: {source}")]
    System {
        /// The file.
        path: PathBuf,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// It cannot be read. It is left as it is.
    #[error("{path} cannot be read and is left as it is: {source}")]
    Garbled {
        /// The file.
        path: PathBuf,
        /// Where it stops making sense.
        #[source]
        source: serde_json::Error,
    },
    /// A newer Halley wrote it.
    #[error("{path} has version {found}, this halley-sup reads {VERSION}")]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u16,
    },
}

impl Default for State {
    fn default() -> Self {
        Self {
            version: VERSION,
            last_good: None,
            standby: None,
            frozen: Vec::new(),
            pinned: Vec::new(),
            stopped: false,
            next_release: 1,
            alarm: None,
            freeze: None,
            rehearsal: None,
            schema: None,
            replaced_after: 0,
        }
    }
}

impl State {
    /// Reads a state; a file that is not there is a service that never ran.
    ///
    /// # Errors
    /// [`StateError`]: never an empty state in the place of an unreadable one.
    pub fn load(path: &Path) -> Result<Self, StateError> {
        let path = path.to_owned();
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(StateError::System { path, source }),
        };
        let state: Self = serde_json::from_slice(&text)
            .map_err(|source| StateError::Garbled { path: path.clone(), source })?;
        match state.version {
            VERSION => Ok(state),
            found => Err(StateError::Version { path, found }),
        }
    }

    /// Replaces the file, in one durable step.
    ///
    /// # Errors
    /// [`StateError::System`]; the old state stands.
    pub fn save(&self, paths: &ServiceLayout) -> Result<(), StateError> {
        let path = paths.state();
        let system = |source| StateError::System { path: path.clone(), source };
        let text = serde_json::to_vec_pretty(self).map_err(|error| system(error.into()))?;
        reserve::replace(&paths.reserve(), &path, &text).map_err(system)
    }

    /// The frozen artifact of this digest.
    #[must_use]
    pub fn frozen(&self, digest: &str) -> Option<&Frozen> {
        self.frozen.iter().find(|frozen| frozen.digest == digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_of_version_1_loads_for_ever() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/state-v1.json");
        let state = State::load(&path).unwrap();
        assert_eq!(state.last_good, Some(Served { release: 43, generation: 9, op: 107 }));
        assert_eq!(state.standby.unwrap().release, 42);
        assert_eq!(state.frozen[0].release, 41);
        assert_eq!((state.stopped, state.next_release), (false, 44));
    }

    #[test]
    fn what_cannot_be_read_is_an_error_and_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        assert_eq!(State::load(&path).unwrap(), State::default());
        for garbled in ["", "{", "[]", r#"{"version":1"#] {
            std::fs::write(&path, garbled).unwrap();
            let error = State::load(&path).unwrap_err();
            assert!(error.to_string().contains("state.json"), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), garbled);
        }
        std::fs::write(&path, r#"{"version":2,"last_good":null}"#).unwrap();
        assert!(matches!(State::load(&path), Err(StateError::Version { found: 2, .. })));
    }
}
