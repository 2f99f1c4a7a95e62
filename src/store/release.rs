//! What is known about a release beside its tree: `meta/N/`.
//!
//! It is written before the tree gets its name: a `meta/N` without a tree never finished its staging and is
//! removed at start.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use serde::de::{DeserializeOwned, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer as _, Serialize};

use crate::config::model::{Own, Settings};
use crate::core::ids::ReleaseId;
use crate::core::retention::Verdict;
use crate::json;
use crate::os::{clock, fs as durable};
use crate::store::aside;
use crate::store::layout::ServiceLayout;
use crate::store::reserve;
use crate::store::seal::{self, Entry, Listing};

/// What it is.
pub const MANIFEST: &str = "manifest.json";
/// The hashes of its files.
pub const HASHES: &str = "files.json";
/// The settings it runs with.
pub const SETTINGS: &str = "settings.json";
const OWN: &str = "own.json";
/// What became of it.
pub const VERDICT: &str = "verdict.json";

/// What a release is, written once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this format, now 1.
    pub version: u16,
    /// sha256 over the tree.
    pub digest: String,
    /// How many files.
    pub n_files: u64,
    /// Their bytes.
    pub size_bytes: u64,
    /// When it was staged, RFC 3339.
    pub at: String,
    /// What was named as its source.
    pub source: String,
    /// The user that released it.
    pub actor: String,
    /// Its own version, from `release.toml`.
    pub label: Option<String>,
}

/// What became of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct VerdictFile {
    version: u16,
    verdict: String,
    why: Option<String>,
    at: String,
}

/// A release on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its number.
    pub release: ReleaseId,
    /// What it is.
    pub manifest: Manifest,
    /// What became of it.
    pub verdict: Verdict,
    /// Why it is bad.
    pub why: Option<String>,
}

/// Why something about a release cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}", path = path.display())]
pub struct ReleaseError {
    /// The file.
    pub path: PathBuf,
    /// The error.
    #[source]
    pub source: io::Error,
}

/// Writes what is known about a staged release. Its verdict comes last: with it, it is whole.
///
/// # Errors
/// The system's.
pub fn write(
    paths: &ServiceLayout,
    release: ReleaseId,
    manifest: &Manifest,
    listing: &Listing,
    settings: &Settings,
) -> Result<(), ReleaseError> {
    let dir = paths.meta(release);
    durable::create_dir(&dir, 0o700)
        .map_err(|source| ReleaseError { path: dir.clone(), source })?;
    write_part(paths, release, MANIFEST, manifest)?;
    write_part(paths, release, HASHES, &listing.entries)?;
    write_part(paths, release, SETTINGS, settings)?;
    set_verdict(paths, release, Verdict::Staged, None)
}

/// Writes one of the files about a release.
///
/// # Errors
/// The system's.
pub fn write_part(
    paths: &ServiceLayout,
    release: ReleaseId,
    name: &str,
    value: &impl Serialize,
) -> Result<(), ReleaseError> {
    save(&paths.meta(release).join(name), value)
}

/// Records the verdict of a release.
///
/// # Errors
/// The system's.
pub fn set_verdict(
    paths: &ServiceLayout,
    release: ReleaseId,
    verdict: Verdict,
    why: Option<String>,
) -> Result<(), ReleaseError> {
    let verdict = VerdictFile {
        version: 1,
        verdict: verdict.name().to_owned(),
        why,
        at: clock::now_rfc3339(),
    };
    let path = paths.meta(release).join(VERDICT);
    let fail = |source| ReleaseError { path: path.clone(), source };
    let text = json::to_vec_pretty(&verdict).map_err(|error| fail(error.into()))?;
    reserve::replace(&paths.reserve(), &path, &text).map_err(fail)
}

/// The settings a release ran with.
///
/// # Errors
/// When they cannot be read.
pub fn settings(paths: &ServiceLayout, release: ReleaseId) -> Result<Settings, ReleaseError> {
    load(&paths.meta(release).join(SETTINGS))
}

/// What its manifest has.
///
/// # Errors
/// When it cannot be read.
pub fn manifest(paths: &ServiceLayout, release: ReleaseId) -> Result<Manifest, ReleaseError> {
    load(&paths.meta(release).join(MANIFEST))
}

/// What became of a release, and why it is bad.
///
/// # Errors
/// When it cannot be read.
pub fn verdict(
    paths: &ServiceLayout,
    release: ReleaseId,
) -> Result<(Verdict, Option<String>), ReleaseError> {
    let file: VerdictFile = load(&paths.meta(release).join(VERDICT))?;
    Ok(match Verdict::parse(&file.verdict) {
        Some(verdict) => (verdict, file.why),
        None => (Verdict::Unknown, Some(format!("unknown verdict {:?}", file.verdict))),
    })
}

/// Stores what a release has set itself.
///
/// # Errors
/// The system's.
pub fn write_own(paths: &ServiceLayout, release: ReleaseId, own: &Own) -> Result<(), ReleaseError> {
    save(&paths.meta(release).join(OWN), own)
}

/// What a release has set itself; for releases of earlier versions it is not known.
///
/// # Errors
/// When it cannot be read.
pub fn own(paths: &ServiceLayout, release: ReleaseId) -> Result<Own, ReleaseError> {
    load(&paths.meta(release).join(OWN))
}

/// What is known about one release.
///
/// # Errors
/// When it cannot be read.
pub fn known(paths: &ServiceLayout, release: ReleaseId) -> Result<Known, ReleaseError> {
    let (verdict, why) = verdict(paths, release)?;
    Ok(Known { release, manifest: manifest(paths, release)?, verdict, why })
}

/// What is not understood of the releases on this disk, a text each. Such a release stays.
#[must_use]
pub fn doubts(paths: &ServiceLayout) -> Vec<String> {
    let numbers = ServiceLayout::numbers(&paths.releases()).into_iter().map(ReleaseId);
    let doubt = |release| match known(paths, release) {
        // One that is being staged has no verdict yet.
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(format!("release {release}: {error}")),
        Ok(Known { verdict: Verdict::Unknown, why, .. }) => {
            Some(format!("release {release}: {}", why.unwrap_or_default()))
        }
        Ok(_) => None,
    };
    numbers.filter_map(doubt).collect()
}

/// All releases that are whole, oldest first.
#[must_use]
pub fn all(paths: &ServiceLayout) -> Vec<Known> {
    let numbers = ServiceLayout::numbers(&paths.releases());
    numbers.into_iter().filter_map(|n| known(paths, ReleaseId(n)).ok()).collect()
}

/// What is missing from a release's tree, or is not what was sealed; empty when it is whole. What
/// was added is no damage: programs that run as root leave caches in it.
///
/// # Errors
/// When the tree or its hashes cannot be read.
pub fn damage(paths: &ServiceLayout, release: ReleaseId) -> Result<Vec<String>, ReleaseError> {
    let path = paths.release(release);
    let present = seal::list(&path).map_err(|source| ReleaseError { path, source })?.entries;
    // They are in the order of their paths.
    let is_there = |entry: &Entry| {
        let at = present.binary_search_by(|other| other.path.cmp(&entry.path));
        at.is_ok_and(|at| present[at] == *entry)
    };
    let mut missing = Vec::new();
    let path = paths.meta(release).join(HASHES);
    let fail = |source| ReleaseError { path: path.clone(), source };
    let file = BufReader::new(File::open(&path).map_err(fail)?);
    let each = |entry: Entry| {
        if !is_there(&entry) {
            missing.push(entry.path);
        }
    };
    each_of(file, each).map_err(fail)?;
    Ok(missing)
}

/// Hands over one entry of a file after the other: all of them would take much memory.
fn each_of(file: impl Read, each: impl FnMut(Entry)) -> io::Result<()> {
    struct Each<F>(F);
    impl<'de, F: FnMut(Entry)> Visitor<'de> for Each<F> {
        type Value = ();

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a list of files")
        }

        fn visit_seq<A: SeqAccess<'de>>(mut self, mut entries: A) -> Result<(), A::Error> {
            while let Some(entry) = entries.next_element()? {
                (self.0)(entry);
            }
            Ok(())
        }
    }
    let mut file = serde_json::Deserializer::from_reader(file);
    file.deserialize_seq(Each(each))?;
    Ok(file.end()?)
}

/// Removes a release, its tree first: what is left without a tree is no release. The tree is set aside.
///
/// # Errors
/// The system's.
pub fn remove(paths: &ServiceLayout, release: ReleaseId) -> Result<(), ReleaseError> {
    let path = paths.release(release);
    aside::put(paths, &path).map_err(|source| ReleaseError { path, source })?;
    let path = paths.writable(release);
    durable::remove_tree(&path).map_err(|source| ReleaseError { path, source })?;
    let path = paths.meta(release);
    durable::remove_tree(&path).map_err(|source| ReleaseError { path, source })
}

/// Removes what never became a release, and what is left of one that was removed: a meta without a tree.
/// A tree stays, whatever of its meta was lost, and so does the meta of a release that is still named.
///
/// # Errors
/// The system's.
pub fn sweep(paths: &ServiceLayout, named: &[ReleaseId]) -> Result<(), ReleaseError> {
    for release in ServiceLayout::numbers(&paths.metas()).into_iter().map(ReleaseId) {
        if !named.contains(&release) && !paths.release(release).exists() {
            remove(paths, release)?;
        }
    }
    Ok(())
}

fn save(path: &Path, value: &impl Serialize) -> Result<(), ReleaseError> {
    let fail = |source| ReleaseError { path: path.to_owned(), source };
    let write = &mut |file: &mut dyn Write| json::to_writer_pretty(file, value);
    durable::replace_by(path, 0o600, write).map_err(fail)
}

fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ReleaseError> {
    let fail = |source| ReleaseError { path: path.to_owned(), source };
    let text = fs::read(path).map_err(fail)?;
    json::from_slice(&text).map_err(|error| fail(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::layout::Layout;

    #[test]
    fn a_verdict_that_is_not_understood_is_no_other_and_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Layout::new(dir.path()).service(&"web".parse().unwrap());
        paths.create().unwrap();
        let release = ReleaseId(3);
        let manifest = serde_json::json!({
            "version": 1, "digest": "", "n_files": 0, "size_bytes": 0, "at": "", "source": "",
            "actor": "", "label": null,
        });
        for dir in [paths.meta(release), paths.release(release)] {
            fs::create_dir_all(dir).unwrap();
        }
        let write = |name: &str, text: &str| {
            fs::write(paths.meta(release).join(name), text).unwrap();
        };
        write("manifest.json", &manifest.to_string());
        set_verdict(&paths, release, Verdict::Staged, None).unwrap();
        assert_eq!(doubts(&paths), [""; 0]);
        let text = fs::read_to_string(paths.meta(release).join("verdict.json")).unwrap();
        write("verdict.json", &text.replace("staged", "mature"));
        let found = known(&paths, release).unwrap();
        assert_eq!(found.verdict, Verdict::Unknown);
        assert_eq!(doubts(&paths), ["release 3: unknown verdict \"mature\""]);
        write("verdict.json", "{");
        assert_eq!(doubts(&paths).len(), 1);
    }

    #[test]
    fn what_version_1_wrote_about_a_release_loads_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Layout::new(dir.path()).service(&"web".parse().unwrap());
        paths.create().unwrap();
        let release = ReleaseId(3);
        for dir in [paths.meta(release), paths.release(release)] {
            fs::create_dir_all(dir).unwrap();
        }
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/meta-v1");
        for part in [MANIFEST, HASHES, SETTINGS, VERDICT] {
            fs::copy(fixtures.join(part), paths.meta(release).join(part)).unwrap();
        }
        fs::write(paths.release(release).join("VERSION"), "1").unwrap();
        let known = known(&paths, release).unwrap();
        assert_eq!(
            (known.verdict, known.why.as_deref()),
            (Verdict::Bad, Some("2 of 2 probes failed"))
        );
        assert_eq!(known.manifest.label.as_deref(), Some("1.4.2"));
        let written = serde_json::to_value(settings(&paths, release).unwrap()).unwrap();
        let text = fs::read(fixtures.join(SETTINGS)).unwrap();
        assert_eq!(written, serde_json::from_slice::<serde_json::Value>(&text).unwrap());
        assert_eq!(damage(&paths, release).unwrap(), [""; 0]);
        fs::copy(fixtures.join("trial+2"), paths.dir().join("trial+2")).unwrap();
        let trial = crate::store::trial::read(&paths).unwrap().unwrap();
        assert_eq!((trial.release, trial.generation, trial.op, trial.n_tries_left), (3, 5, 7, 2));
    }

    #[test]
    fn a_release_without_a_verdict_is_swept_only_without_its_tree() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Layout::new(dir.path()).service(&"web".parse().unwrap());
        paths.create().unwrap();
        let [whole, half, named] = [3, 4, 5].map(ReleaseId);
        for release in [whole, half, named] {
            fs::create_dir(paths.meta(release)).unwrap();
        }
        fs::create_dir(paths.release(whole)).unwrap();
        sweep(&paths, &[named]).unwrap();
        let is_there = [whole, half, named].map(|release| paths.meta(release).is_dir());
        assert_eq!(is_there, [true, false, true]);
    }
}
