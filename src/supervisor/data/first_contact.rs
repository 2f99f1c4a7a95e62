//! The first release of a service whose data is not there yet, as far as the configuration says. Its
//! migration is tried on nothing first: where it changes files that are there, there is data, and
//! `backup.path` does not lead to it.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::core::exit::Exit;
use crate::core::operation::way_back::WayBack;
use crate::os::beneath::{Dir, Met};
use crate::store::release;
use crate::supervisor::data::backup::{self, Copied, Hand};
use crate::supervisor::data::context::on_thread;
use crate::supervisor::data::doors;
use crate::supervisor::data::error::DataError;
use crate::supervisor::data::fencing::Fencing;
use crate::supervisor::data::migration;
use crate::supervisor::data::site::Means;
use crate::supervisor::data::trial_migration::{OnCopy, migrate_copy};
use crate::supervisor::service::Service;
use crate::supervisor::service::candidate::Candidate;
use crate::supervisor::service::phase_result::PhaseResult;
use crate::text;

/// Files that are named in a message, at most.
const NAMED: usize = 3;

/// Tries the migration of a first release for which there is no backup.
pub(crate) async fn rehearse(service: &Rc<Service>, candidate: &Candidate) -> PhaseResult {
    let none = PhaseResult::skip("there is no backup");
    let is_first = backup::present(service).is_none();
    let log = service.paths.output(candidate.op);
    let hand = Hand::bringing(service, candidate.release, log).filter(|_| is_first);
    let Some(hand) = hand.filter(|hand| hand.context.settings.migrate.is_some()) else {
        return none;
    };
    let on_nothing = match backup::nothing(&hand).await {
        Ok(Some(copied)) => copied,
        Ok(None) => return none,
        Err(why) => return refused(&why),
    };
    let tried = tried(service, candidate, &hand, &on_nothing).await;
    backup::discard(&hand, on_nothing).await;
    match tried {
        Ok(Tried::Not) => none,
        Ok(Tried::Changed(files)) if files.is_empty() => {
            PhaseResult::ok("the migration runs where there is no data")
        }
        Ok(Tried::Changed(files)) => {
            let why = format!(
                "backup.path leads to no data, but the migration changes {}: name that, so that it is \
                 backed up before",
                files.join(", ")
            );
            match candidate.way_back {
                WayBack::Required | WayBack::Wanted | WayBack::Lost => {
                    PhaseResult::refused(Exit::BackupFailed, why)
                }
                WayBack::Waived => PhaseResult::ok("").with_warnings([why]),
            }
        }
        Err(why) => refused(&why),
    }
}

fn refused(why: &DataError) -> PhaseResult {
    let exit = match why {
        DataError::Command { .. } | DataError::WrongSchema { .. } => Exit::MigrationFailed,
        _ => Exit::BackupFailed,
    };
    PhaseResult::refused(exit, format!("where there is no data: {why}"))
}

enum Tried {
    /// It cannot be kept from what is live here.
    Not,
    /// The files in `shared/` that it changed.
    Changed(Vec<String>),
}

async fn tried(
    service: &Rc<Service>,
    candidate: &Candidate,
    hand: &Hand<'_>,
    on_nothing: &Copied,
) -> Result<Tried, DataError> {
    let is_isolated = matches!(on_nothing.means(), Means::Mounts);
    if !is_isolated || doors::fence_is_possible(service).is_err() {
        return Ok(Tried::Not);
    }
    let Ok(settings) = release::settings(&service.paths, candidate.release) else {
        return Ok(Tried::Not);
    };
    let fencing = Fencing::open(service, hand, on_nothing).await?;
    let confinement = on_nothing.confinement(hand, candidate.release, &settings)?;
    migrate_copy(&OnCopy {
        service,
        release: candidate.release,
        settings: &settings,
        confinement: &fencing.around(confinement),
        log: service.paths.output(candidate.op),
        mark: migration::mark(service, candidate.op, "nothing"),
    })
    .await?;
    let shared = service.paths.shared();
    let Some(over) = on_nothing.dir().map(Path::to_owned) else { return Ok(Tried::Not) };
    let below = shared.clone();
    let changed = on_thread(move || changed(&below, &over)).await;
    Ok(Tried::Changed(changed.map_err(DataError::at(&shared))?))
}

/// The first files below that are not what they were in the layer over them. A program that only opens
/// one makes the kernel copy it, with its time.
fn changed(below: &Path, over: &Path) -> io::Result<Vec<String>> {
    let below = Dir::open(below)?;
    let mut changed = Vec::new();
    Dir::open(over)?.walk(&mut |met| {
        if changed.len() < NAMED && is_changed(&below, met)? {
            changed.push(text::path(met.path));
        }
        Ok(())
    })?;
    Ok(changed)
}

/// The file in its place below; one without content is no data.
fn before(below: &Dir, path: &Path) -> io::Result<Option<Metadata>> {
    let parent = path.parent().map_or_else(PathBuf::new, Path::to_owned);
    let dir = if parent.as_os_str().is_empty() { None } else { Some(below.dir(&parent)) };
    let dir = match dir.transpose() {
        Ok(dir) => dir,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(name) = path.file_name() else { return Ok(None) };
    match dir.as_ref().unwrap_or(below).look(name) {
        Ok(meta) => Ok(Some(meta).filter(|meta| meta.is_file() && meta.len() > 0)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_changed(below: &Dir, met: &Met<'_>) -> io::Result<bool> {
    // What was written last to a database of SQLite may be beside it.
    let name = met.name.to_string_lossy();
    if let Some(database) = name.strip_suffix("-wal").filter(|_| met.meta.len() > 0) {
        return Ok(before(below, &met.path.with_file_name(database))?.is_some());
    }
    let of = |meta: &Metadata| (meta.is_file(), meta.len(), meta.mtime(), meta.mtime_nsec());
    Ok(before(below, met.path)?.is_some_and(|before| of(&before) != of(met.meta)))
}
