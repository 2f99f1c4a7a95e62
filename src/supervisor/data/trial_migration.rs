//! A backup is taken, and the release is tried on a copy of the data before live data is touched:
//! the backup is restored to scratch and checked, migrated there, and both the new release and the
//! old one are started on it.

use std::path::PathBuf;
use std::rc::Rc;

use crate::config::model::Settings;
use crate::core::exit::Exit;
use crate::core::ids::ReleaseId;
use crate::core::operation::machine::Succession;
use crate::core::operation::way_back::WayBack;
use crate::core::refused_write;
use crate::os::beneath::Dir;
use crate::os::clock;
use crate::store::receipt::{Cause, Receipt};
use crate::store::release;
use crate::supervisor::data::alteration;
use crate::supervisor::data::backup::{self, Copied, Hand};
use crate::supervisor::data::doors;
use crate::supervisor::data::error::DataError;
use crate::supervisor::data::fencing::Fencing;
use crate::supervisor::data::fresh::{self, Fresh};
use crate::supervisor::data::migration;
use crate::supervisor::data::site::Means;
use crate::supervisor::health::probe::Transcript;
use crate::supervisor::service::candidate::Candidate;
use crate::supervisor::service::confinement::Confinement;

use crate::supervisor::rollback_readiness::rehearsal;
use crate::supervisor::service::Service;
use crate::supervisor::service::phase_result::PhaseResult;
use crate::supervisor::tasks::task::{self, Background, Task};
use crate::text;

/// What came of the backup before a release.
pub(crate) enum Taken {
    /// It was taken.
    Backup(Box<Receipt>),
    /// None was: this one is fresh enough.
    Kept(Box<Fresh>),
    /// It is the first release, and there is no data before it.
    NoData(DataError),
    /// None is configured.
    Off,
}

/// Takes a backup of the present, or uses one that is fresh enough. The first release may find data that others made.
///
/// # Errors
/// Why there is none.
pub(crate) async fn backup(
    service: &Rc<Service>,
    candidate: &Candidate,
) -> Result<Taken, DataError> {
    let log = service.paths.output(candidate.op);
    let Some(hand) = Hand::bringing(service, candidate.release, log) else {
        return Ok(Taken::Off);
    };
    if let Some(fresh) = fresh::of(&hand) {
        return Ok(Taken::Kept(Box::new(fresh)));
    }
    let is_first = backup::present(service).is_none();
    match backup::take(&hand, Some(candidate.op), Cause::Release).await {
        Ok(receipt) => Ok(Taken::Backup(Box::new(receipt))),
        Err(why) if is_first && (why.is_no_data() || is_blank(&hand, &why)) => {
            Ok(Taken::NoData(why))
        }
        Err(why) => Err(why),
    }
}

/// Whether the configured command made no backup, or an empty one, because there is nothing in `shared/`. Its data
/// may be elsewhere, so that this is no reason to migrate.
fn is_blank(hand: &Hand<'_>, why: &DataError) -> bool {
    let shared = hand.context.service.paths.shared();
    let shared = Dir::open(&shared).and_then(|shared| shared.names());
    matches!(why, DataError::Command { .. } | DataError::Empty { .. })
        && hand.is_by_command()
        && shared.is_ok_and(|names| names.is_empty())
        && hand.context.settings.migrate.is_none()
}

/// A backup in one line.
pub(crate) fn receipt_text(receipt: &Receipt) -> String {
    let size = text::size(receipt.bytes);
    let left_out = backup::left_out(receipt);
    format!("{} {size}, sha256 {}{left_out}", receipt.id, &receipt.digest[..12])
}

/// Restores it to scratch, checks it, migrates the copy, tries both releases on it. The copy is
/// gone afterwards, whatever came of it.
pub(crate) async fn rehearse(
    service: &Rc<Service>,
    candidate: &Candidate,
    mut receipt: Receipt,
    transcript: &mut Transcript,
) -> PhaseResult {
    let log = service.paths.output(candidate.op);
    let Some(hand) = Hand::bringing(service, candidate.release, log) else {
        return PhaseResult::skip("there is no backup");
    };
    let begun = clock::tick();
    let copied = match backup::copy(&hand, &mut receipt).await {
        Ok(copied) => copied,
        Err(why) => {
            backup::prune(&hand).await;
            let id = receipt.id;
            return PhaseResult::refused(
                Exit::BackupFailed,
                format!("backup {id} cannot be restored: {why}"),
            );
        }
    };
    let summary = copied.summary();
    let mut warnings: Vec<String> = copied.lost_text().into_iter().collect();
    warnings.extend(hand.kept_from());
    let tried = fenced(service, candidate, &hand, &copied, transcript, &mut warnings).await;
    let left = backup::discard(&hand, copied).await;
    backup::prune(&hand).await;
    match tried {
        Ok(said) => {
            let took = text::seconds(begun, clock::tick());
            warnings.extend(left);
            PhaseResult::ok(format!("{summary}{said}, in {took}")).with_warnings(warnings)
        }
        Err((exit, why)) => {
            let lines: Vec<String> = [why].into_iter().chain(left).collect();
            PhaseResult::refused(exit, format!("on a copy of the data: {}", lines.join("\n")))
        }
    }
}

/// What the release does with a copy, behind a fence; what it was kept from is told beside it.
async fn fenced(
    service: &Rc<Service>,
    candidate: &Candidate,
    hand: &Hand<'_>,
    copied: &Copied,
    transcript: &mut Transcript,
    warnings: &mut Vec<String>,
) -> Result<String, (Exit, String)> {
    let not_possible = doors::fence_is_possible(service).err().map(str::to_owned);
    let not_isolated = match copied.means() {
        Means::None { why } => Some(why.clone()),
        Means::Mounts | Means::Landlock { .. } => None,
    };
    if let Some(why) = not_possible.or(not_isolated) {
        warnings.push(format!("no program is tried on a copy of the data here: {why}"));
        return Ok("; no program is tried on it".to_owned());
    }
    let fencing = Fencing::open(service, hand, copied).await;
    let fencing = fencing.map_err(|error| (Exit::BackupFailed, error.to_string()))?;
    let before = alteration::traits(hand).await;
    let before = before.map_err(|error| (Exit::BackupFailed, error.to_string()))?;
    let trial = Trial { service, candidate, hand, copied, fencing: &fencing };
    let tried = tried(&trial, transcript, warnings).await;
    let report = fencing.report();
    let breach = fencing.breach().into_iter().chain(alteration::undone(hand, &before).await);
    let breach = breach.reduce(|one, other| format!("{one}\n{other}"));
    match (tried, breach) {
        (Ok(_), Some(breach)) => Err((Exit::BackupFailed, breach)),
        (Err((exit, why)), breach) => {
            let hint = write_hint(service, &why);
            let lines: Vec<String> =
                breach.into_iter().chain([why]).chain(hint).chain(report).collect();
            Err((exit, lines.join("\n")))
        }
        (Ok(said), None) => {
            warnings.extend(report);
            Ok(said)
        }
    }
}

/// The line that lets a program write where it said that it could not.
fn write_hint(service: &Service, why: &str) -> Option<String> {
    if !refused_write::is_said(why) {
        return None;
    }
    let dir = refused_write::dir(why).unwrap_or("DIRECTORY");
    let listed = service.config().rehearse_write.clone();
    let all = listed.iter().map(|dir| dir.to_string_lossy().into_owned()).chain([dir.to_owned()]);
    let all: Vec<String> = all.map(|dir| format!("{dir:?}")).collect();
    Some(format!(
        "if it may write there, write rehearse_write = [{}] in the service's section; what a \
         rehearsal writes is thrown away",
        all.join(", ")
    ))
}

/// A release that is tried on a copy.
struct Trial<'a> {
    service: &'a Rc<Service>,
    candidate: &'a Candidate,
    hand: &'a Hand<'a>,
    copied: &'a Copied,
    fencing: &'a Fencing,
}

impl Trial<'_> {
    /// What programs of a release with these settings are kept to.
    fn confinement(
        &self,
        release: ReleaseId,
        settings: &Settings,
    ) -> Result<Confinement, (Exit, String)> {
        let kept_to = self.copied.confinement(self.hand, release, settings);
        let kept_to = kept_to.map_err(|error| (Exit::BackupFailed, error.to_string()))?;
        Ok(self.fencing.around(kept_to))
    }
}

/// What the release does with a copy.
async fn tried(
    trial: &Trial<'_>,
    transcript: &mut Transcript,
    warnings: &mut Vec<String>,
) -> Result<String, (Exit, String)> {
    let Trial { service, candidate, .. } = *trial;
    let new = release::settings(&service.paths, candidate.release);
    let new = new.map_err(|error| (Exit::PreflightRefused, error.to_string()))?;
    let confinement = trial.confinement(candidate.release, &new)?;
    let on = OnCopy {
        service,
        release: candidate.release,
        settings: &new,
        confinement: &confinement,
        log: service.paths.output(candidate.op),
        mark: migration::mark(service, candidate.op, "copy"),
    };
    let mut said =
        migrate_copy(&on).await.map_err(|error| (Exit::MigrationFailed, error.to_string()))?;
    // Whether a program that allows only one instance runs on another copy of the data is unknown.
    if candidate.succession == Succession::InTurn {
        return Ok(said);
    }
    let started = rehearsal::run(service, candidate.release, new, &confinement, transcript).await;
    started.map_err(|why| (Exit::BackupFailed, format!("the new release does not run: {why}")))?;
    said.push_str("; the new release runs on it");
    let Some(target) = candidate.back_to else { return Ok(said) };
    let old = release::settings(&service.paths, target);
    let old = old.map_err(|error| (Exit::RehearsalFailed, error.to_string()))?;
    let confinement = trial.confinement(target, &old)?;
    let back = rehearsal::run(service, target, old, &confinement, transcript).await;
    match (back, candidate.way_back) {
        (Ok(_), _) => said.push_str(&format!(", so does release {target}")),
        (Err(why), WayBack::Waived | WayBack::Wanted | WayBack::Lost) => {
            let why = format!("release {target} does not run on the migrated data: {why}");
            rehearsal::note(service, Some(target), &why);
            warnings.push(why);
        }
        (Err(why), WayBack::Required) => {
            return Err((
                Exit::RehearsalFailed,
                format!("a rollback after it would not work: release {target}: {why}"),
            ));
        }
    }
    Ok(said)
}

/// A migration that is tried on a copy.
pub(super) struct OnCopy<'a> {
    pub(super) service: &'a Rc<Service>,
    /// Whose migration it is.
    pub(super) release: ReleaseId,
    pub(super) settings: &'a Settings,
    pub(super) confinement: &'a Confinement,
    pub(super) log: PathBuf,
    /// By what its processes are known.
    pub(super) mark: String,
}

/// Brings a copy to the schema that a release provides. Returns what was done, for people.
pub(super) async fn migrate_copy(on: &OnCopy<'_>) -> Result<String, DataError> {
    let OnCopy { service, release, settings, confinement, .. } = *on;
    let Some(migrate) = &settings.migrate else { return Ok(String::new()) };
    let wanted = settings.schema.as_ref().map(|schema| &schema.provides);
    let before = migration::version(service, release, settings, confinement).await?;
    if let Some(has) = before.filter(|before| Some(before) == wanted) {
        return Ok(format!("; it has schema {has} already"));
    }
    let begun = clock::tick();
    let run = Task {
        name: "migrate (on a copy)".to_owned(),
        words: migrate.command.clone(),
        env: Vec::new(),
        confinement: confinement.clone(),
        release,
        settings: settings.clone(),
        limit: migrate.deadline,
        background: Background::Awaited(on.mark.clone()),
        input: None,
        log: Some(on.log.clone()),
    };
    DataError::unless_good("migrate", task::run(service, run).await?)?;
    let after = migration::version(service, release, settings, confinement).await?;
    if let (Some(after), Some(wanted)) = (after, wanted)
        && after != *wanted
    {
        return Err(DataError::WrongSchema { after, wanted: wanted.clone() });
    }
    let took = text::seconds(begun, clock::tick());
    Ok(format!("; migrated in {took}"))
}
