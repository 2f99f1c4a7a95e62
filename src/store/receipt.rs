//! The receipt of a backup: `backups/<id>/receipt.json`, written last. A directory without one is
//! rubbish.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::api::BackupEntry;
use crate::core::ordered;
use crate::core::time::Tick;
use crate::json;
use crate::os::{clock, fs};
use crate::store::intake::hex;
use crate::store::layout::ServiceLayout;
use crate::store::seal::{self, Hashes};

const FILE: &str = "receipt.json";
const DATA: &str = "data";

/// A backup that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Version of this format, now 1.
    pub version: u16,
    /// Its name, with the time of the clock as it was then.
    pub id: String,
    /// Its place in the order of all backups, from 1 on; 0 in receipts of before there was one. The
    /// clock may have been put back meanwhile.
    #[serde(default)]
    pub seq: u64,
    /// `sqlite`, `postgres`, `files` or `command`.
    pub driver: String,
    /// The release that served.
    pub release: Option<u64>,
    /// The operation it was taken in; absent when by hand.
    pub op: Option<u64>,
    /// When, RFC 3339.
    pub at: String,
    /// How long it took.
    pub took_ms: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// sha256 over its files.
    pub digest: String,
    /// Version of the data's schema, where it is known.
    pub schema: Option<String>,
    /// That it was restored to scratch, and checked.
    pub rehearsed: Option<Rehearsed>,
    /// Why it is kept whatever else is pruned; absent when it is not.
    #[serde(default)]
    pub pinned: Option<String>,
    /// What it has that a failed migration took from the live data: it is kept as long as its age allows,
    /// until it is restored. Absent when that is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needed: Option<String>,
    /// Why it was taken; absent in receipts of before that was recorded.
    #[serde(default)]
    pub cause: Option<Cause>,
    /// What was there and is no part of it: FIFOs, sockets, devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// When, by the clock of a boot; absent in receipts of before that was recorded.
    #[serde(default)]
    pub taken: Option<Taken>,
    /// [`fingerprint`] of what it was taken of, and by what.
    #[serde(default)]
    pub source: Option<String>,
}

/// A moment of a boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Milliseconds since the boot.
    pub tick_ms: u64,
    /// The boot.
    pub boot_id: String,
}

impl Taken {
    /// As a tick of that boot.
    #[must_use]
    pub fn tick(&self) -> Tick {
        Tick(self.tick_ms)
    }
}

/// One word for all of these, from which they cannot be read: a URL has a password.
#[must_use]
pub fn fingerprint(parts: &[String]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    hex(&digest.finalize())
}

/// Why a backup was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A release was about to begin.
    Release,
    /// Somebody asked for it.
    Request,
    /// A restore was about to replace the data that it holds.
    Restore {
        /// The backup that was restored.
        instead: String,
        /// The restore was undone: what it holds is the data again.
        #[serde(default)]
        undone: bool,
    },
}

impl Cause {
    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Release => "before a release".to_owned(),
            Self::Request => "on request".to_owned(),
            Self::Restore { instead, .. } => format!("before the restore of {instead}"),
        }
    }
}

/// A backup was restored to scratch, and checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearsed {
    /// When, RFC 3339.
    pub at: String,
    /// How long it took.
    pub took_ms: u64,
    /// What was counted in the copy: rows by table, files and bytes.
    pub counts: BTreeMap<String, u64>,
}

/// Where a backup's data is.
#[must_use]
pub fn data_dir(paths: &ServiceLayout, id: &str) -> PathBuf {
    paths.backups().join(id).join(DATA)
}

/// Writes a receipt, durably.
///
/// # Errors
/// The system's.
pub fn write(paths: &ServiceLayout, receipt: &Receipt) -> io::Result<()> {
    let path = paths.backups().join(&receipt.id).join(FILE);
    fs::replace(&path, &json::to_vec_pretty(receipt)?, 0o600)
}

/// All backups with a receipt, newest first.
#[must_use]
pub fn list(paths: &ServiceLayout) -> Vec<Receipt> {
    let Ok(entries) = std::fs::read_dir(paths.backups()) else { return Vec::new() };
    let texts = entries.flatten().filter_map(|entry| std::fs::read(entry.path().join(FILE)).ok());
    let mut receipts: Vec<Receipt> =
        texts.filter_map(|text| json::from_slice(&text).ok()).collect();
    ordered::sort(&mut receipts, |a, b| (a.seq, &a.id) > (b.seq, &b.id));
    receipts
}

/// The place of the next backup in the order of all.
#[must_use]
pub fn next_seq(paths: &ServiceLayout) -> u64 {
    list(paths).first().map_or(0, |newest| newest.seq) + 1
}

/// Keeps a backup whatever else is pruned, unless one is kept so already: that one is of an earlier
/// state. Returns the one that is kept.
///
/// # Errors
/// The system's.
pub fn pin(paths: &ServiceLayout, id: &str, why: &str) -> io::Result<Option<String>> {
    let all = list(paths);
    if let Some(pinned) = all.iter().find(|receipt| receipt.pinned.is_some()) {
        return Ok(Some(pinned.id.clone()));
    }
    let Some(receipt) = all.into_iter().find(|receipt| receipt.id == id) else { return Ok(None) };
    write(paths, &Receipt { pinned: Some(why.to_owned()), ..receipt })?;
    Ok(Some(id.to_owned()))
}

/// Notes what a failed migration took away that the pinned backup has; the first one stays noted.
///
/// # Errors
/// The system's.
pub fn need(paths: &ServiceLayout, why: &str) -> io::Result<()> {
    let pinned = list(paths).into_iter().find(|receipt| receipt.pinned.is_some());
    match pinned.filter(|receipt| receipt.needed.is_none()) {
        Some(receipt) => write(paths, &Receipt { needed: Some(why.to_owned()), ..receipt }),
        None => Ok(()),
    }
}

/// From here on no backup is kept whatever its age. One that has lost data is not counted with the
/// others; these are returned. `restored` is the one whose data is live again.
///
/// # Errors
/// The system's.
pub fn unpin(paths: &ServiceLayout, restored: Option<&str>) -> io::Result<Vec<Receipt>> {
    let mut needed = Vec::new();
    for mut receipt in list(paths) {
        let is_restored = restored == Some(&receipt.id);
        if receipt.pinned.is_none() && !is_restored {
            continue;
        }
        receipt.pinned = None;
        receipt.needed.take_if(|_| is_restored);
        write(paths, &receipt)?;
        needed.extend(receipt.needed.is_some().then_some(receipt));
    }
    Ok(needed)
}

/// A backup, as reported.
#[must_use]
pub fn entry(receipt: Receipt) -> BackupEntry {
    let (rehearsed, counts) = match receipt.rehearsed {
        Some(rehearsed) => (Some(rehearsed.at), rehearsed.counts),
        None => (None, BTreeMap::new()),
    };
    BackupEntry {
        id: receipt.id,
        at: receipt.at,
        driver: receipt.driver,
        bytes: receipt.bytes,
        digest: receipt.digest,
        release: receipt.release,
        op: receipt.op,
        rehearsed,
        counts,
        pinned: receipt.pinned.or(receipt.needed),
        schema: receipt.schema,
        cause: receipt.cause.map(|cause| cause.text()),
        left_out: receipt.left_out,
    }
}

/// Why a backup's files are not those that were written.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// There are others, or others are in them.
    #[error("backup {id} is damaged: its digest differs")]
    Differs {
        /// The backup.
        id: String,
    },
    /// They cannot be read.
    #[error("backup {id}: {source}")]
    Unreadable {
        /// The backup.
        id: String,
        /// The error.
        #[source]
        source: io::Error,
    },
}

/// Whether a backup's files are those that were written. What was copied out of it is hashed already:
/// then it is the copy that is checked.
///
/// # Errors
/// [`Damage`].
pub fn check(paths: &ServiceLayout, receipt: &Receipt, copied: &Hashes) -> Result<(), Damage> {
    let id = receipt.id.clone();
    match seal::list_known(&data_dir(paths, &id), copied) {
        Ok(listing) if listing.digest == receipt.digest => Ok(()),
        Ok(_) => Err(Damage::Differs { id }),
        Err(source) => Err(Damage::Unreadable { id, source }),
    }
}

/// Removes what was begun and has no receipt.
pub fn sweep(paths: &ServiceLayout) {
    let Ok(entries) = std::fs::read_dir(paths.backups()) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        if !path.join(FILE).is_file()
            && let Err(error) = fs::remove_tree(&path)
        {
            tracing::warn!(path = %path.display(), %error, "removing an incomplete backup");
        }
    }
}

/// Removes backups that are too many or too old; the newest stays, and what is pinned.
pub fn prune(paths: &ServiceLayout, keep: u32, keep_for: Duration) {
    for receipt in superfluous(&list(paths), keep, keep_for) {
        let dir = paths.backups().join(&receipt);
        // Without its receipt it is rubbish, also when a crash comes in between.
        let removed = std::fs::remove_file(dir.join(FILE)).and_then(|()| fs::remove_tree(&dir));
        if let Err(error) = removed {
            tracing::warn!(path = %dir.display(), %error, "removing an old backup");
        }
    }
}

/// The newest that was rehearsed stays, whatever came after it; without one, the newest.
fn superfluous(newest_first: &[Receipt], keep: u32, keep_for: Duration) -> Vec<String> {
    let keep = usize::try_from(keep).unwrap_or(usize::MAX);
    let is_old = |receipt: &Receipt| clock::age(&receipt.at).is_some_and(|age| age > keep_for);
    let is_held = |receipt: &&Receipt| {
        receipt.pinned.is_some() || receipt.needed.is_some() && !is_old(receipt)
    };
    let free: Vec<_> = newest_first.iter().filter(|receipt| !is_held(receipt)).collect();
    let best = free.iter().position(|receipt| receipt.rehearsed.is_some()).unwrap_or(0);
    let all = free.into_iter().enumerate().filter(|(n, _)| *n != best);
    all.filter(|(n, receipt)| *n >= keep || is_old(receipt)).map(|(_, r)| r.id.clone()).collect()
}

#[cfg(test)]
impl Receipt {
    /// One for tests, of which nothing is known but its name.
    pub(crate) fn example(id: &str) -> Self {
        Self {
            version: 1,
            id: id.to_owned(),
            seq: 0,
            pinned: None,
            needed: None,
            left_out: Vec::new(),
            taken: None,
            source: None,
            driver: "files".to_owned(),
            release: None,
            op: None,
            at: String::new(),
            took_ms: 0,
            bytes: 1,
            digest: String::new(),
            schema: None,
            rehearsed: None,
            cause: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::layout::Layout;

    fn receipt(id: &str, at: &str) -> Receipt {
        Receipt {
            at: at.to_owned(),
            took_ms: 1,
            bytes: 2,
            digest: "d".to_owned(),
            ..Receipt::example(id)
        }
    }

    #[test]
    fn the_newest_is_always_kept() {
        let now = clock::now_rfc3339();
        let old = "2020-01-01T00:00:00Z";
        let day = Duration::from_secs(86_400);
        let all = [receipt("4", &now), receipt("3", &now), receipt("2", old), receipt("1", old)];
        assert_eq!(superfluous(&all, 3, day), ["2", "1"]);
        assert_eq!(superfluous(&all, 1, day), ["3", "2", "1"]);
        assert_eq!(superfluous(&all[2..], 5, day), ["1"]);
        // One that could be restored outlives newer ones that could not.
        let mut all = all;
        let rehearsed = Rehearsed { at: now, took_ms: 1, counts: BTreeMap::new() };
        all[2].rehearsed = Some(rehearsed);
        assert_eq!(superfluous(&all, 1, day), ["3", "1"]);
        // What is pinned stays, and takes no other's place.
        all[3].pinned = Some("a migration failed".to_owned());
        assert_eq!(superfluous(&all, 1, day), ["3"]);
    }

    #[test]
    fn a_receipt_of_version_1_loads_for_ever() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read(path.join("tests/data/receipt-v1.json")).unwrap();
        let old: Receipt = serde_json::from_slice(&text).unwrap();
        assert_eq!((old.seq, old.pinned, old.release), (0, None, Some(41)));
        assert_eq!(old.rehearsed.unwrap().counts["rows"], 1_000);
    }

    #[test]
    fn the_order_is_that_in_which_they_were_taken_whatever_the_clock_said() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Layout::new(dir.path()).service(&"web".parse().unwrap());
        assert_eq!(next_seq(&paths), 1);
        for (id, seq) in [("2026", 0), ("2027", 0), ("1970", 1), ("1971", 2)] {
            std::fs::create_dir_all(data_dir(&paths, id)).unwrap();
            write(&paths, &Receipt { seq, ..receipt(id, "") }).unwrap();
        }
        let ids: Vec<_> = list(&paths).into_iter().map(|receipt| receipt.id).collect();
        assert_eq!(ids, ["1971", "1970", "2027", "2026"]);
        assert_eq!(next_seq(&paths), 3);
        // The first state that something went wrong with is the one to keep.
        assert_eq!(pin(&paths, "1970", "why").unwrap().as_deref(), Some("1970"));
        assert_eq!(pin(&paths, "1971", "why").unwrap().as_deref(), Some("1970"));
        need(&paths, "one row").unwrap();
        need(&paths, "two rows").unwrap();
        let needed = unpin(&paths, None).unwrap();
        assert_eq!(needed[0].needed.as_deref(), Some("one row"));
        assert_eq!(unpin(&paths, Some("1970")).unwrap(), []);
        assert!(list(&paths).iter().all(|it| it.pinned.is_none() && it.needed.is_none()));
        assert_eq!(pin(&paths, "1971", "why").unwrap().as_deref(), Some("1971"));
        assert_eq!(pin(&paths, "none", "why").unwrap().as_deref(), Some("1971"));
    }

    #[test]
    fn half_a_backup_is_swept_and_a_changed_byte_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Layout::new(dir.path()).service(&"web".parse().unwrap());
        for id in ["1", "2"] {
            std::fs::create_dir_all(data_dir(&paths, id)).unwrap();
            std::fs::write(data_dir(&paths, id).join("a"), "x").unwrap();
        }
        let listing = seal::list(&data_dir(&paths, "1")).unwrap();
        let whole = Receipt { digest: listing.digest, ..receipt("1", "") };
        write(&paths, &whole).unwrap();
        sweep(&paths);
        assert_eq!(list(&paths), std::slice::from_ref(&whole));
        assert!(!data_dir(&paths, "2").exists());
        assert!(check(&paths, &whole, &Hashes::default()).is_ok());
        std::fs::write(data_dir(&paths, "1").join("a"), "y").unwrap();
        assert!(matches!(check(&paths, &whole, &Hashes::default()), Err(Damage::Differs { .. })));
        std::fs::remove_dir_all(data_dir(&paths, "1")).unwrap();
        assert!(matches!(
            check(&paths, &whole, &Hashes::default()),
            Err(Damage::Unreadable { .. })
        ));
    }
}
