//! Backups: taken while the service runs, restored to scratch and checked before anybody relies on
//! them. The databases' own tools do it, as the service's user; what they write is checked here.
//!
//! A crash leaves half a backup without a receipt, and copies in scratch: both are swept at the
//! next start ([`sweep`]), and the commands that made them are ended.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use crate::api::{BackupEntry, Trouble};
use crate::config::model::{Backup, Driver, Settings};
use crate::core::exit::Exit;
use crate::core::ids::{OpId, ReleaseId};
use crate::os::{clock, fs, proc};
use crate::store::receipt::{self, Receipt, Rehearsed};
use crate::store::{release, seal};
use crate::supervisor::data::drivers::{command, files, postgres, sqlite};
use crate::supervisor::service::Service;
use crate::supervisor::service::refusal;
use crate::supervisor::tasks::task::{self, Ended, Oneshot};
use crate::text;

/// What was counted: rows by table, or files and bytes.
pub type Counts = BTreeMap<String, u64>;

/// With what a driver works: the service, and whose user and environment its tools get.
pub struct Hand<'a> {
    pub(crate) service: &'a Rc<Service>,
    backup: Backup,
    release: ReleaseId,
    pub(crate) settings: Settings,
    log: PathBuf,
}

/// Where a driver finds the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Site {
    /// What the service works on.
    Live,
    /// A copy: a directory in the place of `shared/`, and a database's name.
    Scratch {
        /// The directory.
        dir: PathBuf,
        /// The database, with a server.
        database: String,
    },
}

/// A copy of the data that programs can work on.
#[derive(Debug)]
pub struct Copied {
    site: Site,
    /// What was counted in it.
    pub counts: Counts,
}

impl Copied {
    /// What a program with these settings gets in its environment to work on it.
    #[must_use]
    pub fn env(&self, hand: &Hand<'_>, settings: &Settings) -> Vec<(String, String)> {
        hand.env(&self.site, settings)
    }
}

/// The configured driver's name.
#[must_use]
pub fn driver_name(driver: &Driver) -> &'static str {
    match driver {
        Driver::Sqlite { .. } => "sqlite",
        Driver::Postgres { .. } => "postgres",
        Driver::Files { .. } => "files",
        Driver::Command { .. } => "command",
    }
}

impl<'a> Hand<'a> {
    /// For a service that has backups configured and a release that runs on the data.
    #[must_use]
    pub fn of(service: &'a Rc<Service>, log: PathBuf) -> Option<Self> {
        let backup = service.config().backup.clone()?;
        let release =
            service.live_crew().map(|crew| crew.release).or(service.durable.last_good())?;
        let settings = release::settings(&service.paths, release);
        let settings = settings.unwrap_or_else(|_| service.config().settings.clone());
        Some(Self { service, backup, release, settings, log })
    }

    /// The release whose data it is.
    #[must_use]
    pub fn release(&self) -> ReleaseId {
        self.release
    }

    /// Puts a backup in the place of the live data. Nobody may be working on it.
    ///
    /// # Errors
    /// The driver's.
    pub async fn put(&self, from: &Path) -> Result<(), String> {
        self.restore(from, &Site::Live).await
    }

    /// Runs one of the driver's tools.
    pub(crate) async fn run(
        &self,
        name: &str,
        words: &[&str],
        env: Vec<(String, String)>,
        input: Option<String>,
    ) -> Result<Ended, String> {
        let oneshot = Oneshot {
            name: name.to_owned(),
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            env,
            release: self.release,
            settings: self.settings.clone(),
            limit: self.backup.deadline,
            input: input.map(String::into_bytes),
            log: Some(self.log.clone()),
        };
        let ended = task::run(self.service, oneshot).await.map_err(|error| error.to_string())?;
        if ended.is_good() { Ok(ended) } else { Err(format!("{name}: {}", ended.why())) }
    }

    /// A file or directory of the driver's, where this site has it. An absolute path below
    /// `shared/` is one below `shared/`.
    pub(crate) fn path(&self, site: &Site, path: &Path) -> PathBuf {
        let shared = self.service.paths.shared();
        let plain: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
        let path = plain.strip_prefix(&shared).unwrap_or(&plain);
        match site {
            Site::Live => joined(&shared, path),
            Site::Scratch { dir, .. } => joined(dir, path.strip_prefix("/").unwrap_or(path)),
        }
    }

    /// Gives what the driver's tools shall write into to the service's user.
    pub(crate) fn give(&self, path: &Path) -> std::io::Result<()> {
        match self.settings.user.as_deref().and_then(proc::user) {
            Some(user) => fs::give_to(path, user.uid, user.gid),
            None => Ok(()),
        }
    }

    /// A directory of the service's user's, which nobody else can look into.
    pub(crate) fn own_dir(&self, dir: &Path) -> Result<(), String> {
        let made = fs::create_dir(dir, 0o700).and_then(|()| self.give(dir));
        made.map_err(|error| format!("{}: {error}", dir.display()))
    }

    async fn take(&self, dir: &Path) -> Result<(), String> {
        match &self.backup.driver {
            Driver::Sqlite { path, .. } => sqlite::take(self, path, dir).await,
            Driver::Postgres { url_env, .. } => postgres::take(self, url_env, dir).await,
            Driver::Files { path } => files::take(self, path, dir).await,
            Driver::Command { take, .. } => command::take(self, take, dir).await,
        }
    }

    async fn restore(&self, from: &Path, site: &Site) -> Result<(), String> {
        match &self.backup.driver {
            Driver::Sqlite { path, .. } => sqlite::restore(self, path, from, site).await,
            Driver::Postgres { url_env, .. } => postgres::restore(self, url_env, from, site).await,
            Driver::Files { path } => files::restore(self, path, from, site).await,
            Driver::Command { restore, .. } => command::restore(self, restore, from, site).await,
        }
    }

    /// Checks the data and counts what is in it.
    ///
    /// # Errors
    /// Why it is not whole.
    pub async fn inspect(&self, site: &Site) -> Result<Counts, String> {
        match &self.backup.driver {
            Driver::Sqlite { path, query } => {
                sqlite::inspect(self, path, query.as_deref(), site).await
            }
            Driver::Postgres { url_env, query } => {
                postgres::inspect(self, url_env, query.as_deref(), site).await
            }
            Driver::Files { path } => files::inspect(self, path, site).await,
            Driver::Command { check, .. } => command::inspect(self, check.as_deref(), site).await,
        }
    }

    /// What a program gets in its environment to work on a copy.
    pub(crate) fn env(&self, site: &Site, settings: &Settings) -> Vec<(String, String)> {
        let Site::Scratch { dir, .. } = site else { return Vec::new() };
        let mut moves = vec![(self.service.paths.shared(), dir.clone())];
        let mut env = settings.env.clone();
        match &self.backup.driver {
            Driver::Sqlite { path, .. } | Driver::Files { path } => {
                moves.push((self.path(&Site::Live, path), self.path(site, path)));
            }
            Driver::Postgres { url_env, .. } => env.extend(postgres::env(settings, url_env, site)),
            Driver::Command { .. } => {}
        }
        for value in env.values_mut() {
            for (from, to) in &moves {
                *value = moved(value, &from.to_string_lossy(), &to.to_string_lossy());
            }
        }
        env.retain(|name, value| settings.env.get(name) != Some(value));
        env.insert("HALLEY_SHARED".to_owned(), dir.to_string_lossy().into_owned());
        env.into_iter().collect()
    }
}

/// A path below another; `.` is that one itself.
fn joined(base: &Path, path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() { base.to_owned() } else { base.join(path) }
}

/// A text in which a path is another; what only begins with the same letters is another path.
fn moved(text: &str, from: &str, to: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(from) {
        let after = &rest[at + from.len()..];
        let goes_on = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        out.push_str(&rest[..at]);
        out.push_str(if after.starts_with(goes_on) { from } else { to });
        rest = after;
    }
    out.push_str(rest);
    out
}

/// What stands against a backup now: tools that are not there, data that is not there.
pub async fn obstacles(service: &Rc<Service>) -> Vec<String> {
    let Some(backup) = service.config().backup.clone() else { return Vec::new() };
    let tools: &[&str] = match &backup.driver {
        Driver::Sqlite { .. } => &["sqlite3"],
        Driver::Postgres { .. } => &["pg_dump", "pg_restore", "createdb", "dropdb", "psql"],
        Driver::Files { .. } | Driver::Command { .. } => &[],
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |tool: &str| std::env::split_paths(&path).any(|dir| dir.join(tool).is_file());
    let missing = tools.iter().filter(|tool| !is_there(tool));
    let missing: Vec<String> =
        missing.map(|tool| format!("backup: {tool} is not installed")).collect();
    let (Driver::Postgres { url_env, .. }, true) = (&backup.driver, missing.is_empty()) else {
        return missing;
    };
    let Some(hand) = Hand::of(service, service.paths.logs().join("backup.log")) else {
        return missing;
    };
    let refused = postgres::may_copy(&hand, url_env).await;
    refused.err().map(|why| format!("backup: {why}")).into_iter().collect()
}

/// Why there is no room for a backup and a copy of it.
#[must_use]
pub fn no_room(service: &Service) -> Option<String> {
    let backup = service.config().backup.clone()?;
    let last = receipt::list(&service.paths).first().map_or(0, |receipt| receipt.bytes);
    let now = match &backup.driver {
        Driver::Sqlite { path, .. } => service.paths.shared().join(path).metadata().ok(),
        _ => None,
    };
    let bytes = now.map_or(0, |meta| meta.len()).max(last);
    let free = fs::free(service.paths.dir()).ok()?.bytes;
    (free < bytes.saturating_mul(2)).then(|| {
        let (needed, free) = (text::size(bytes * 2), text::size(free));
        format!("a backup and a copy of it need {needed}, the disk has {free} left")
    })
}

/// Removes backups that are too many or too old; the newest stays.
pub async fn prune(hand: &Hand<'_>) {
    let (paths, keep) = (hand.service.paths.clone(), hand.backup.clone());
    let pruned = on_thread(move || {
        receipt::prune(&paths, keep.keep, keep.keep_for);
        Ok(())
    });
    if let Err(why) = pruned.await {
        tracing::warn!(service = %hand.service.name, why, "removing old backups");
    }
}

/// Takes a backup of the present.
///
/// # Errors
/// Why there is none; nothing is left of it.
pub async fn take(hand: &Hand<'_>, op: Option<OpId>) -> Result<Receipt, String> {
    let paths = &hand.service.paths;
    let begun = clock::tick();
    let at = clock::now_rfc3339();
    let by = op.map_or("by-hand".to_owned(), |op| format!("op-{:07}", op.0));
    let id = format!("{}-{by}", clock::now_rfc3339_ms().replace(['-', ':'], ""));
    let dir = receipt::data_dir(paths, &id);
    let system = |error: std::io::Error| format!("{}: {error}", dir.display());
    fs::create_dir(&paths.backups().join(&id), 0o711).map_err(system)?;
    hand.own_dir(&dir)?;
    let made = async {
        hand.take(&dir).await?;
        let dir = dir.clone();
        on_thread(move || {
            let listing = seal::list(&dir)?;
            fs::sync_all_of(&dir)?;
            Ok(listing)
        })
        .await
    };
    let written = made.await.and_then(|listing| {
        if listing.size_bytes == 0 {
            let name = driver_name(&hand.backup.driver);
            return Err(format!("the {name} driver reported success, but wrote nothing"));
        }
        let receipt = Receipt {
            version: 1,
            id: id.clone(),
            driver: driver_name(&hand.backup.driver).to_owned(),
            release: Some(hand.release.0),
            op: op.map(|op| op.0),
            at,
            took_ms: clock::tick().since_ms(begun),
            bytes: listing.size_bytes,
            digest: listing.digest,
            schema: hand.service.durable.state().schema.clone(),
            rehearsed: None,
        };
        receipt::write(paths, &receipt).map_err(system)?;
        Ok(receipt)
    });
    if written.is_err()
        && let Err(error) = fs::remove_tree(&paths.backups().join(&id))
    {
        tracing::warn!(service = %hand.service.name, %error, "removing an incomplete backup");
    }
    written
}

/// Restores a backup to scratch, checks it, and notes in its receipt that it could be.
///
/// # Errors
/// Why it is no backup.
pub async fn copy(hand: &Hand<'_>, receipt: &mut Receipt) -> Result<Copied, String> {
    let service = hand.service;
    let begun = clock::tick();
    let paths = service.paths.clone();
    let looked = receipt.clone();
    if let Some(why) = on_thread(move || Ok(receipt::damage(&paths, &looked))).await? {
        return Err(why);
    }
    let dir = service.paths.scratch().join(&receipt.id);
    hand.own_dir(&dir)?;
    let database = postgres::scratch_name(service.name.as_str(), &receipt.id);
    let site = Site::Scratch { dir, database };
    let from = receipt::data_dir(&service.paths, &receipt.id);
    let restored = match hand.restore(&from, &site).await {
        Ok(()) => hand.inspect(&site).await,
        Err(why) => Err(why),
    };
    let counts = match restored {
        Ok(counts) => counts,
        Err(why) => {
            drop_site(hand, &site).await;
            return Err(why);
        }
    };
    receipt.rehearsed = Some(Rehearsed {
        at: clock::now_rfc3339(),
        took_ms: clock::tick().since_ms(begun),
        counts: counts.clone(),
    });
    if let Err(error) = receipt::write(&service.paths, receipt) {
        tracing::warn!(service = %service.name, %error, "recording a rehearsal");
    }
    Ok(Copied { site, counts })
}

/// Removes a copy.
pub async fn discard(hand: &Hand<'_>, copied: Copied) {
    drop_site(hand, &copied.site).await;
}

async fn drop_site(hand: &Hand<'_>, site: &Site) {
    let Site::Scratch { dir, database } = site else { return };
    if let Driver::Postgres { url_env, .. } = &hand.backup.driver
        && let Err(why) = postgres::discard(hand, url_env, database).await
    {
        tracing::warn!(service = %hand.service.name, why, "removing a copy");
    }
    let dir = dir.clone();
    if let Err(why) = on_thread(move || fs::remove_tree(&dir)).await {
        tracing::warn!(service = %hand.service.name, why, "removing a copy");
    }
}

/// Whatever takes as long as the data is great does not hold the supervisor up.
pub(crate) async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, String> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?;
    done.map_err(|error| error.to_string())
}

/// At start: what a crash has left of backups and copies. A copy's directory is removed after its
/// database, so that a crash in between forgets neither.
pub fn sweep(service: &Rc<Service>) {
    receipt::sweep(&service.paths);
    let Ok(entries) = std::fs::read_dir(service.paths.scratch()) else { return };
    let service = Rc::clone(service);
    let left: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    if left.is_empty() {
        return;
    }
    tokio::task::spawn_local(async move {
        let hand = Hand::of(&service, service.paths.run().join("sweep.log"));
        for dir in left {
            let id = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let database = postgres::scratch_name(service.name.as_str(), &id);
            match &hand {
                Some(hand) => drop_site(hand, &Site::Scratch { dir, database }).await,
                None => drop(fs::remove_tree(&dir)),
            }
        }
    });
}

/// Counts, for people.
#[must_use]
pub fn summary(counts: &Counts) -> String {
    match (counts.get("files"), counts.get("bytes")) {
        (Some(files), Some(bytes)) if counts.len() == 2 => {
            format!("{files} files, {}", text::size(*bytes))
        }
        _ if counts.is_empty() => "checked".to_owned(),
        _ => {
            let n: u64 = counts.values().sum();
            let tables = if counts.len() == 1 { "table" } else { "tables" };
            format!("{n} rows in {} {tables}", counts.len())
        }
    }
}

/// A backup, as it is told.
#[must_use]
pub fn entry(receipt: Receipt) -> BackupEntry {
    let (rehearsed, counts) = match receipt.rehearsed {
        Some(rehearsed) => (Some(rehearsed.at), rehearsed.counts),
        None => (None, Counts::new()),
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
    }
}

/// With what data is worked on by hand.
///
/// # Errors
/// When no backup is configured, or there is no data.
pub fn by_hand<'a>(service: &'a Rc<Service>, done: &str) -> Result<Hand<'a>, Trouble> {
    if service.config().backup.is_none() {
        let why = format!("[service.{}.backup] is not configured", service.name);
        return Err(refusal::refusal(service, done, &why, Exit::Usage, &["status"]));
    }
    let why = "no release has made any data yet";
    let none = || refusal::refusal(service, done, why, Exit::NoTarget, &[]);
    Hand::of(service, service.paths.logs().join("backup.log")).ok_or_else(none)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_moved_and_its_neighbours_are_not() {
        let moved = |text: &str| moved(text, "/srv/app.db", "/copy/app.db");
        assert_eq!(moved("sqlite:////srv/app.db?x=1"), "sqlite:////copy/app.db?x=1");
        assert_eq!(moved("/srv/app.db-old:/srv/app.db"), "/srv/app.db-old:/copy/app.db");
        assert_eq!(moved("/srv/app"), "/srv/app");
    }

    #[test]
    fn counts_are_told_as_what_they_are() {
        let counts = |pairs: &[(&str, u64)]| -> Counts {
            pairs.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect()
        };
        assert_eq!(summary(&counts(&[("files", 2), ("bytes", 1500)])), "2 files, 1.5 kB");
        assert_eq!(summary(&counts(&[("a", 2), ("b", 3)])), "5 rows in 2 tables");
        assert_eq!(summary(&counts(&[("a", 2)])), "2 rows in 1 table");
        assert_eq!(summary(&counts(&[])), "checked");
    }
}
