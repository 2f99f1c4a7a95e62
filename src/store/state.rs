//! A service's durable state: one small file, replaced whole. Replacing it is the commit.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::api::Trouble;
use crate::json;
use crate::store::layout::ServiceLayout;
use crate::store::{line, reserve};

/// The version of this format.
const VERSION: u16 = 1;

/// What must survive everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The version of this format.
    pub version: u16,
    /// What a reboot starts. Only a commit moves it. It is written always: what lacks it is no state.
    #[serde(deserialize_with = "Option::deserialize")]
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
    /// Its checksum is of another text. It is left as it is.
    #[error("{path} is not what was written and is left as it is")]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// Releases were staged, so there was one.
    #[error("{path} is missing, and {releases} has releases")]
    Missing {
        /// The file.
        path: PathBuf,
        /// Where they are.
        releases: PathBuf,
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
    /// Reads a service's state. A service without one and without releases never ran.
    ///
    /// # Errors
    /// [`StateError`]: never an empty state in the place of an unreadable or a lost one.
    pub fn load(paths: &ServiceLayout) -> Result<Self, StateError> {
        let path = paths.state();
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::first(paths),
            Err(source) => return Err(StateError::System { path, source }),
        };
        let state: Self = json::from_slice(&text)
            .map_err(|source| StateError::Garbled { path: path.clone(), source })?;
        if state.version != VERSION {
            return Err(StateError::Version { path, found: state.version });
        }
        if line::is_sealed(&text) { Ok(state) } else { Err(StateError::Damaged { path }) }
    }

    /// The state of a service to which nothing was released: its number is saved before a release
    /// is staged.
    fn first(paths: &ServiceLayout) -> Result<Self, StateError> {
        let (path, releases) = (paths.state(), paths.releases());
        let has_any = |dir: &Path| !ServiceLayout::numbers(dir).is_empty();
        if has_any(&releases) || has_any(&paths.metas()) {
            return Err(StateError::Missing { path, releases });
        }
        Ok(Self::default())
    }

    /// Replaces the file, in one durable step.
    ///
    /// # Errors
    /// [`StateError::System`]; the old state stands.
    pub fn save(&self, paths: &ServiceLayout) -> Result<(), StateError> {
        let path = paths.state();
        let system = |source| StateError::System { path: path.clone(), source };
        let text = json::to_vec_pretty(self).map_err(|error| system(error.into()))?;
        let text = String::from_utf8_lossy(&text).into_owned();
        reserve::replace(&paths.reserve(), &path, line::sealed(text).as_bytes()).map_err(system)
    }

    /// The frozen artifact of this digest.
    #[must_use]
    pub fn frozen(&self, digest: &str) -> Option<&Frozen> {
        self.frozen.iter().find(|frozen| frozen.digest == digest)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::store::layout::Layout;

    fn service() -> (tempfile::TempDir, ServiceLayout) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Layout::new(dir.path()).service(&"web".parse().unwrap());
        paths.create().unwrap();
        (dir, paths)
    }

    #[test]
    fn a_state_of_version_1_loads_for_ever() {
        let (_dir, paths) = service();
        for fixture in ["state-v1.json", "state-v1-sum.json"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(fixture);
            fs::copy(path, paths.state()).unwrap();
            let state = State::load(&paths).unwrap();
            assert_eq!(state.last_good, Some(Served { release: 43, generation: 9, op: 107 }));
            assert_eq!(state.standby.unwrap().release, 42);
            assert_eq!(state.frozen[0].release, 41);
            assert_eq!((state.stopped, state.next_release), (false, 44));
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_error_and_stays_as_it_is() {
        let (_dir, paths) = service();
        let path = paths.state();
        assert_eq!(State::load(&paths).unwrap(), State::default());
        for garbled in ["", "{", "[]", r#"{"version":1"#, r#"{"version":1,"stopped":false}"#] {
            fs::write(&path, garbled).unwrap();
            let error = State::load(&paths).unwrap_err();
            assert!(error.to_string().contains("state.json"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), garbled);
        }
        fs::write(&path, r#"{"version":2,"last_good":null}"#).unwrap();
        assert!(matches!(State::load(&paths), Err(StateError::Version { found: 2, .. })));
    }

    #[test]
    fn a_number_that_has_changed_on_the_disk_is_seen() {
        let (_dir, paths) = service();
        let state = State { next_release: 44, ..State::default() };
        state.save(&paths).unwrap();
        assert_eq!(State::load(&paths).unwrap(), state);
        let text = fs::read_to_string(paths.state()).unwrap();
        fs::write(paths.state(), text.replace("44", "45")).unwrap();
        assert!(matches!(State::load(&paths), Err(StateError::Damaged { .. })));
        // An editor adds a newline; who takes the sum away as well knows what they do.
        fs::write(paths.state(), text.clone() + "\n").unwrap();
        assert_eq!(State::load(&paths).unwrap(), state);
        let (without, _) = text.rsplit_once(",\n").unwrap();
        fs::write(paths.state(), without.replace("44", "45") + "\n}\n").unwrap();
        assert_eq!(State::load(&paths).unwrap().next_release, 45);
    }

    #[test]
    fn a_service_with_releases_has_had_a_state() {
        let (_dir, paths) = service();
        fs::create_dir(paths.release(crate::core::ids::ReleaseId(1))).unwrap();
        assert!(matches!(State::load(&paths), Err(StateError::Missing { .. })));
    }
}
