//! Backups: taken while the service runs, restored to scratch and checked before they are
//! relied on. The databases' own tools do it, as the service's user; their output is checked here.
//!
//! A crash leaves half a backup without a receipt, and copies in scratch: both are swept at the
//! next start ([`sweep`]), and the commands that made them are ended.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use crate::api::Trouble;
use crate::config::model::{Backup, Settings};
use crate::core::exit::Exit;
use crate::core::ids::{OpId, ReleaseId};
use crate::keeper::protocol::To;
use crate::os::beneath::Dir;
use crate::os::{clock, fs};
use crate::store::receipt::{self, Cause, Receipt, Rehearsed};
use crate::store::seal::{self, Hashes};
use crate::store::{release, restoration};
pub(crate) use crate::supervisor::data::backup_text::{left_out, summary};
use crate::supervisor::data::context::{Context, on_thread};
pub(crate) use crate::supervisor::data::driver::Counts;
use crate::supervisor::data::driver::{Driver, Taken};
use crate::supervisor::data::error::DataError;
use crate::supervisor::data::isolation;
use crate::supervisor::data::relay::Guard;
use crate::supervisor::data::replacement;
pub(crate) use crate::supervisor::data::site::{Means, Site};
use crate::supervisor::processes::host_command::ENDING;
use crate::supervisor::processes::whole_tree;
use crate::supervisor::service::Service;
use crate::supervisor::service::confinement::Confinement;
use crate::supervisor::service::refusal;
use crate::supervisor::spawn;

/// What takes, restores and checks the backups of a service.
pub(crate) struct Hand<'a> {
    pub(super) context: Context<'a>,
    backup: Backup,
}

/// A copy of the data that programs can work on.
#[derive(Debug)]
pub(crate) struct Copied {
    site: Site,
    /// What was counted in it.
    pub counts: Counts,
    /// What could not be counted or checked, and why.
    uncounted: Vec<String>,
    /// What is true of the live data and not of it.
    pub lost: Vec<String>,
}

impl Copied {
    /// What is in it, for people.
    pub(crate) fn summary(&self) -> String {
        let counted = summary(&self.counts);
        if self.uncounted.is_empty() {
            return counted;
        }
        format!("{counted}, {}", self.uncounted.join(", "))
    }

    /// What a restore would not bring back, for people.
    pub(crate) fn lost_text(&self) -> Option<String> {
        let lost = self.lost.join(", ");
        (!lost.is_empty()).then(|| format!("a restore would not bring back: {lost}"))
    }

    /// Where it is; none of the live data.
    pub(crate) fn dir(&self) -> Option<&Path> {
        match &self.site {
            Site::Scratch { dir, .. } => Some(dir),
            Site::Live => None,
        }
    }

    /// By what programs are kept to it.
    pub(crate) fn means(&self) -> &Means {
        match &self.site {
            Site::Scratch { means, .. } => means,
            Site::Live => &Means::Mounts,
        }
    }

    /// What programs of a release with these settings are kept to on it.
    ///
    /// # Errors
    /// When that cannot be prepared.
    pub(crate) fn confinement(
        &self,
        hand: &Hand<'_>,
        release: ReleaseId,
        settings: &Settings,
    ) -> Result<Confinement, DataError> {
        isolation::programs(&hand.context, hand.driver(), &self.site, release, settings)
    }
}

impl<'a> Hand<'a> {
    /// For a service that has backups configured and a release that runs on the data.
    #[must_use]
    pub(crate) fn of(service: &'a Rc<Service>, log: PathBuf) -> Option<Self> {
        Self::with(service, present(service)?, log)
    }

    /// For a service that brings a release: with none before it, the data may be there already.
    #[must_use]
    pub(crate) fn bringing(
        service: &'a Rc<Service>,
        candidate: ReleaseId,
        log: PathBuf,
    ) -> Option<Self> {
        Self::with(service, present(service).unwrap_or(candidate), log)
    }

    /// For a service of which a release is on the disk, also when none made it.
    fn by_any(service: &'a Rc<Service>, log: PathBuf) -> Option<Self> {
        let newest = || Some(release::all(&service.paths).last()?.release);
        Self::with(service, present(service).or_else(newest)?, log)
    }

    fn with(service: &'a Rc<Service>, release: ReleaseId, log: PathBuf) -> Option<Self> {
        let backup = service.config().backup.clone()?;
        let settings = release::settings(&service.paths, release);
        let settings = settings.unwrap_or_else(|_| service.config().settings.clone());
        let limit = backup.deadline;
        Some(Self {
            context: Context {
                service,
                release,
                settings,
                limit,
                log,
                kept_from: RefCell::default(),
                brought: RefCell::default(),
            },
            backup,
        })
    }

    /// What the driver's own commands on a copy were kept from since this was asked last.
    pub(crate) fn kept_from(&self) -> Vec<String> {
        self.context.kept_from.take()
    }

    /// The release whose data it is.
    #[must_use]
    pub(crate) fn release(&self) -> ReleaseId {
        self.context.release
    }

    /// Checks the data and counts what is in it.
    ///
    /// # Errors
    /// Why it is not whole.
    pub(crate) async fn inspect(&self, site: &Site) -> Result<Counts, DataError> {
        self.driver().inspect(&self.context, site).await
    }

    /// Counts what is in the data; whether it is whole, is not asked.
    ///
    /// # Errors
    /// Why it cannot be counted.
    pub(crate) async fn count(&self, site: &Site) -> Result<Counts, DataError> {
        self.driver().count(&self.context, site).await
    }

    /// Addresses by which programs could find the live data.
    pub(super) async fn addresses(&self) -> Result<Vec<To>, DataError> {
        self.driver().addresses(&self.context).await
    }

    /// What stands there while programs are tried out on a copy.
    pub(super) async fn guard(
        &self,
        copied: &Copied,
        dir: &Path,
    ) -> Result<Option<Guard>, DataError> {
        self.driver().guard(&self.context, &copied.site, dir).await
    }

    /// Variables by which a server knows the clients of this name.
    pub(crate) fn signature(&self, name: &str) -> Vec<(String, String)> {
        self.driver().signature(name)
    }

    /// Ends what a server still does for clients of this name, and for clients that are gone.
    ///
    /// # Errors
    /// When that is not known.
    pub(crate) async fn settle(&self, name: &str) -> Result<(), DataError> {
        self.driver().settle(&self.context, name).await
    }

    pub(super) fn driver(&self) -> &impl Driver {
        &self.backup.driver
    }

    /// Whether nothing is known of the data but what a configured command says.
    pub(super) fn is_by_command(&self) -> bool {
        matches!(self.backup.driver, crate::config::backup::Driver::Command(_))
    }

    pub(super) fn driver_name(&self) -> &'static str {
        self.backup.driver.name()
    }

    /// How old a backup may be that a release uses instead of taking one; absent: none is.
    pub(super) fn max_age(&self) -> Option<Duration> {
        self.backup.max_age
    }
}

/// The release that runs on the data.
pub(crate) fn present(service: &Service) -> Option<ReleaseId> {
    service.live_generation().map(|generation| generation.release).or(service.durable.last_good())
}

/// What stands against a backup now: tools that are not there, data that is not there.
pub(crate) async fn obstacles(service: &Rc<Service>) -> Vec<String> {
    let Some(backup) = service.config().backup.clone() else { return Vec::new() };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |tool: &str| std::env::split_paths(&path).any(|dir| dir.join(tool).is_file());
    let missing = backup.driver.tools().iter().filter(|tool| !is_there(tool));
    let missing: Vec<String> =
        missing.map(|tool| format!("backup: {tool} is not installed")).collect();
    if !missing.is_empty() {
        return missing;
    }
    let Some(hand) = Hand::of(service, service.paths.logs().join("backup.log")) else {
        return Vec::new();
    };
    let refused = hand.driver().ready(&hand.context).await;
    refused.err().map(|why| format!("backup: {why}")).into_iter().collect()
}

/// By what programs are kept to a copy of the data here; nothing where no backup is configured.
pub(crate) async fn means(service: &Rc<Service>) -> Option<Means> {
    service.config().backup.as_ref()?;
    Some(isolation::means(service).await)
}

/// Removes backups that are too many or too old; the newest stays.
pub(crate) async fn prune(hand: &Hand<'_>) {
    let (paths, keep) = (hand.context.service.paths.clone(), hand.backup.clone());
    let pruned = on_thread(move || {
        receipt::prune(&paths, keep.keep, keep.keep_for);
        Ok(())
    });
    if let Err(error) = pruned.await {
        tracing::warn!(service = %hand.context.service.name, %error, "removing old backups");
    }
}

/// Takes a backup of the present.
///
/// # Errors
/// Why there is none; nothing is left of it.
pub(crate) async fn take(
    hand: &Hand<'_>,
    op: Option<OpId>,
    cause: Cause,
) -> Result<Receipt, DataError> {
    let paths = &hand.context.service.paths;
    let begun = clock::tick();
    let at = clock::now_rfc3339();
    let by = op.map_or("by-hand".to_owned(), |op| format!("op-{:07}", op.0));
    let id = format!("{}-{by}", clock::now_rfc3339_ms().replace(['-', ':'], ""));
    let dir = receipt::data_dir(paths, &id);
    let system = DataError::at(&dir);
    fs::create_dir(&paths.backups().join(&id), 0o711).map_err(&system)?;
    hand.context.own_dir(&dir)?;
    let made = async {
        let Taken { hashes, left_out } = hand.driver().take(&hand.context, &dir).await?;
        let dir = dir.clone();
        let listed = on_thread(move || {
            let listing = seal::list_known(&dir, &hashes)?;
            fs::sync_all_of(&dir)?;
            Ok(listing)
        });
        Ok((listed.await.map_err(&system)?, left_out))
    };
    let written = made.await.and_then(|(listing, left_out)| {
        if listing.size_bytes == 0 && !hand.driver().may_be_empty() {
            let tool = format!("the {} driver", hand.backup.driver.name());
            return Err(DataError::Empty { tool, wrote: "nothing" });
        }
        let receipt = Receipt {
            version: 1,
            id: id.clone(),
            seq: receipt::next_seq(paths),
            driver: hand.backup.driver.name().to_owned(),
            release: Some(hand.context.release.0),
            op: op.map(|op| op.0),
            at,
            took_ms: clock::tick().since_ms(begun),
            bytes: listing.size_bytes,
            digest: listing.digest,
            schema: hand.context.service.durable.state().schema.clone(),
            rehearsed: None,
            pinned: None,
            needed: None,
            cause: Some(cause),
            left_out,
            taken: Some(receipt::Taken {
                tick_ms: begun.0,
                boot_id: hand.context.service.shared.boot_id.clone(),
            }),
            source: Some(hand.source()),
        };
        receipt::write(paths, &receipt).map_err(&system)?;
        Ok(receipt)
    });
    if written.is_err()
        && let Err(error) = fs::remove_tree(&paths.backups().join(&id))
    {
        tracing::warn!(service = %hand.context.service.name, %error, "removing an incomplete backup");
    }
    written
}

/// Restores a backup to scratch, checks it, and notes in its receipt that it could be.
///
/// # Errors
/// Why it is no backup.
pub(crate) async fn copy(hand: &Hand<'_>, receipt: &mut Receipt) -> Result<Copied, DataError> {
    let service = hand.context.service;
    let begun = clock::tick();
    let from = receipt::data_dir(&service.paths, &receipt.id);
    let hashes_it = hand.driver().hashes_what_it_copies();
    if !hashes_it {
        is_as_written(hand, receipt, Hashes::default()).await?;
    }
    let site = scratch(hand, &receipt.id).await?;
    let restored = match hand.driver().restore(&hand.context, &from, &site).await {
        Ok(copied) if hashes_it => is_as_written(hand, receipt, copied).await,
        restored => restored.map(drop),
    };
    let looked_at = match restored {
        Ok(()) => looked_at(hand, site.clone()).await,
        Err(why) => Err(why),
    };
    let copied = match looked_at {
        Ok(copied) => copied,
        Err(why) => {
            drop(drop_site(hand, &site).await);
            if matches!(why, DataError::Damaged(_)) {
                note_rehearsed(service, receipt, None);
            }
            return Err(why);
        }
    };
    let rehearsed = Rehearsed {
        at: clock::now_rfc3339(),
        took_ms: clock::tick().since_ms(begun),
        counts: copied.counts.clone(),
    };
    note_rehearsed(service, receipt, Some(rehearsed));
    Ok(copied)
}

/// An empty copy, for what is tried where there is no data; none of data that is not in files.
///
/// # Errors
/// When it cannot be made.
pub(crate) async fn nothing(hand: &Hand<'_>) -> Result<Option<Copied>, DataError> {
    if hand.driver().place().is_none() {
        return Ok(None);
    }
    let site = scratch(hand, "nothing").await?;
    let (uncounted, lost) = (Vec::new(), Vec::new());
    Ok(Some(Copied { site, counts: Counts::default(), uncounted, lost }))
}

async fn scratch(hand: &Hand<'_>, name: &str) -> Result<Site, DataError> {
    let service = hand.context.service;
    let dir = service.paths.scratch().join(name);
    // What its user may have put into one that a crash has left is no part of it.
    let left = dir.clone();
    on_thread(move || isolation::discard(&left)).await.map_err(DataError::at(&dir))?;
    hand.context.own_dir(&dir)?;
    Ok(Site::Scratch { dir, means: isolation::means(service).await })
}

/// Notes that a backup could be restored, or that it cannot be any more.
fn note_rehearsed(service: &Service, receipt: &mut Receipt, rehearsed: Option<Rehearsed>) {
    receipt.rehearsed = rehearsed;
    if let Err(error) = receipt::write(&service.paths, receipt) {
        tracing::warn!(service = %service.name, %error, "recording a rehearsal");
    }
}

/// Whether a backup's files are those that were written, or those that were copied out of it.
async fn is_as_written(
    hand: &Hand<'_>,
    receipt: &Receipt,
    copied: Hashes,
) -> Result<(), DataError> {
    let paths = hand.context.service.paths.clone();
    let from = receipt::data_dir(&paths, &receipt.id);
    let receipt = receipt.clone();
    let checked = on_thread(move || Ok(receipt::check(&paths, &receipt, &copied)));
    Ok(checked.await.map_err(DataError::at(&from))??)
}

async fn looked_at(hand: &Hand<'_>, site: Site) -> Result<Copied, DataError> {
    let counts = hand.inspect(&site).await?;
    let uncounted = hand.driver().uncounted(&hand.context, &site).await?;
    let lost = hand.driver().lost(&hand.context, &site).await?;
    Ok(Copied { site, counts, uncounted, lost })
}

/// Removes a copy. Returns what of it stays, and why.
pub(crate) async fn discard(hand: &Hand<'_>, copied: Copied) -> Option<String> {
    drop_site(hand, &copied.site).await
}

async fn drop_site(hand: &Hand<'_>, site: &Site) -> Option<String> {
    let Site::Scratch { dir, .. } = site else { return None };
    whole_tree::kill_on_copy(dir, ENDING).await;
    let dropped = hand.driver().discard(&hand.context, site).await;
    let left = dropped.err().map(|why| format!("the copy of the data stays in its server: {why}"));
    let dir = dir.clone();
    let removed = on_thread(move || isolation::discard(&dir)).await;
    let left = left.or(removed.err().map(|error| format!("the copy of the data stays: {error}")));
    if let Some(why) = &left {
        tracing::warn!(service = %hand.context.service.name, why, "removing a copy");
    }
    left
}

/// At start: what a crash has left of backups and copies. A copy's directory is removed after its
/// database, so that a crash in between forgets neither.
pub(crate) fn sweep(service: &Rc<Service>) {
    receipt::sweep(&service.paths);
    let scratch = service.paths.scratch();
    let Ok(names) = Dir::open(&scratch).and_then(|dir| dir.names()) else { return };
    let service = Rc::clone(service);
    let left: Vec<PathBuf> = names.into_iter().map(|name| scratch.join(name)).collect();
    let is_proven = restoration::is_proven(&service.paths);
    if left.is_empty() && !is_proven {
        return;
    }
    spawn::local(async move {
        let hand = Hand::by_any(&service, service.paths.run().join("sweep.log"));
        if let Some(hand) = hand.as_ref().filter(|_| is_proven) {
            hand.let_go().await;
        }
        for dir in left {
            whole_tree::kill_on_copy(&dir, ENDING).await;
            match &hand {
                Some(hand) if replacement::is_mark(&dir) => hand.sweep_staged(&dir).await,
                Some(hand) => {
                    drop(drop_site(hand, &Site::Scratch { dir, means: Means::Mounts }).await)
                }
                None => drop(isolation::discard(&dir)),
            }
        }
    });
}

/// With what data is worked on by hand.
///
/// # Errors
/// When no backup is configured, or there is no data.
pub(crate) fn by_hand<'a>(service: &'a Rc<Service>, done: &str) -> Result<Hand<'a>, Trouble> {
    if service.config().backup.is_none() {
        let why = format!("[service.{}.backup] is not configured", service.name);
        return Err(refusal::refusal(service, done, &why, Exit::Usage, &["status"]));
    }
    let why = "no release has made any data yet";
    let none = || refusal::refusal(service, done, why, Exit::NoTarget, &[]);
    Hand::by_any(service, service.paths.logs().join("backup.log")).ok_or_else(none)
}
