//! How an artifact becomes a release: received, verified, staged. The blocking part runs in a
//! thread; calling the operation off waits for it.

use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use crate::api::Event;
use crate::config::Problem;
use crate::config::model::Settings;
use crate::core::exit::Exit;
use crate::core::ids::OpId;
use crate::os::clock;
use crate::store::intake::{self as artifact, IntakeError, Limits, Received};
use crate::store::release::{self, Manifest};
use crate::store::seal;
use crate::supervisor::operation::assignment::Assignment;
use crate::supervisor::operation::intake::{Intake, Staged};
use crate::supervisor::service::Service;
use crate::supervisor::service::operation::Operation;
use crate::supervisor::service::phase_result::PhaseResult;
use crate::supervisor::spawn;
use crate::text;

/// Watchers want to see an intake move, not every chunk of it.
const PROGRESS_BYTES: u64 = 1024 * 1024;

/// The artifact's bytes, from the client's descriptor.
pub(crate) async fn receive(
    service: &Rc<Service>,
    operation: &Rc<Operation>,
    intake: &mut Intake,
) -> PhaseResult {
    let Some(source) = intake.source.take() else {
        return PhaseResult::refused(Exit::ArtifactRejected, "the request has no artifact");
    };
    let (paths, op) = (service.paths.clone(), operation.id);
    let cap_bytes = service.config().artifact_bytes_max;
    let cancelled = Arc::clone(&intake.cancelled);
    let idle = Arc::clone(&intake.idle).lock_owned().await;
    let (progress, mut seen) = tokio::sync::watch::channel((0, None));
    let worker = spawn::blocking(move || {
        let mut n_told = 0;
        let mut report = |n, total| {
            if n - n_told >= PROGRESS_BYTES {
                n_told = n;
                progress.send_replace((n, total));
            }
        };
        let mut limits = Limits { cap_bytes, cancelled: &cancelled, progress: &mut report };
        let received = artifact::receive(source, &paths, op, &mut limits);
        drop(idle);
        received
    });
    let mut worker = std::pin::pin!(worker);
    let received = loop {
        tokio::select! {
            biased;
            received = &mut worker => break received,
            Ok(()) = seen.changed() => {
                let (bytes, total) = *seen.borrow_and_update();
                operation.tell(Event::Progress { bytes, total });
            }
        }
    };
    match received {
        Ok(Ok(received)) => {
            let detail = match &received {
                Received::Archive { n_bytes, digest, .. } => {
                    format!("{}, sha256 {}", text::size(*n_bytes), &digest[..12])
                }
                Received::Tree { n_bytes } => format!("{}, a directory", text::size(*n_bytes)),
            };
            intake.received = Some(received);
            PhaseResult::ok(detail)
        }
        Ok(Err(error)) => refuse_intake(&error),
        Err(error) => PhaseResult::refused(Exit::Internal, format!("the intake failed: {error}")),
    }
}

/// Unpacks the artifact, lists its files and reads its `release.toml`.
pub(crate) async fn verify(service: &Rc<Service>, op: OpId, intake: &mut Intake) -> PhaseResult {
    let Some(received) = intake.received.clone() else {
        return PhaseResult::refused(Exit::ArtifactRejected, "nothing was received");
    };
    let paths = service.paths.clone();
    let cap_bytes = service.config().artifact_bytes_max;
    let cancelled = Arc::clone(&intake.cancelled);
    let idle = Arc::clone(&intake.idle).lock_owned().await;
    let worker = spawn::blocking(move || {
        let listed =
            artifact::unpack(&received, &paths, op, cap_bytes, &cancelled).and_then(|dir| {
                let listing = seal::list(&dir).map_err(|e| IntakeError::system(&dir, e))?;
                Ok((dir, listing))
            });
        drop(idle);
        listed
    });
    let (dir, listing) = match worker.await {
        Ok(Ok(listed)) => listed,
        Ok(Err(error)) => return refuse_intake(&error),
        Err(error) => {
            return PhaseResult::refused(Exit::Internal, format!("the intake failed: {error}"));
        }
    };
    let (settings, label) = match overlay(service, &dir) {
        Ok(overlay) => overlay,
        Err(error) => {
            return PhaseResult::refused(Exit::ArtifactRejected, error.to_string());
        }
    };
    let detail = format!(
        "{}, {}, tree {}",
        text::count(listing.n_files, "file"),
        text::size(listing.size_bytes),
        &listing.digest[..12]
    );
    intake.staged = Some(Staged { dir, listing, settings, label });
    PhaseResult::ok(detail)
}

/// Why an artifact's `release.toml` cannot be taken.
#[derive(Debug, thiserror::Error)]
enum OverlayError {
    /// It cannot be read.
    #[error("release.toml: {0}")]
    Read(#[source] io::Error),
    /// Every problem in it.
    #[error("{}", lines(.0))]
    Wrong(Vec<Problem>),
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// The host's settings with the artifact's `release.toml` over them.
fn overlay(service: &Service, dir: &Path) -> Result<(Settings, Option<String>), OverlayError> {
    let config = service.config();
    let file = dir.join("release.toml");
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok((config.settings.clone(), None));
        }
        Err(error) => return Err(OverlayError::Read(error)),
    };
    let has_listener = config.is_called_by_streams();
    let name = Path::new("release.toml");
    crate::config::release::overlay(&config.settings, &config.pinned, has_listener, name, &text)
        .map(|overlay| (overlay.settings, overlay.label))
        .map_err(OverlayError::Wrong)
}

/// Sealed, synced, named.
pub(crate) async fn stage(
    service: &Rc<Service>,
    assignment: &Assignment,
    intake: &Intake,
) -> PhaseResult {
    let Some(staged) = &intake.staged else {
        return PhaseResult::refused(Exit::ArtifactRejected, "nothing was staged");
    };
    let manifest = Manifest {
        version: 1,
        digest: staged.listing.digest.clone(),
        n_files: staged.listing.n_files,
        size_bytes: staged.listing.size_bytes,
        at: clock::now_rfc3339(),
        source: assignment.source_name.clone(),
        actor: assignment.actor.clone(),
        label: staged.label.clone(),
    };
    let (dir, listing, settings) =
        (staged.dir.clone(), staged.listing.clone(), staged.settings.clone());
    let (paths, release) = (service.paths.clone(), assignment.release);
    // A number is given out once, whatever becomes of it.
    if let Err(error) = service.durable.save(|state| state.next_release = release.0 + 1) {
        return PhaseResult::refused(Exit::NoSpace, error.to_string());
    }
    let idle = Arc::clone(&intake.idle).lock_owned().await;
    let worker = spawn::blocking(move || {
        let written = release::write(&paths, release, &manifest, &listing, &settings)
            .map_err(|error| IntakeError::system(&error.path, error.source))
            .and_then(|()| {
                seal::seal(&dir, &paths, release).map_err(|e| IntakeError::system(&dir, e))
            });
        drop(idle);
        written
    });
    match worker.await {
        Ok(Ok(())) => PhaseResult::ok(format!("releases/{release}")),
        Ok(Err(error)) => refuse_intake(&error),
        Err(error) => PhaseResult::refused(Exit::Internal, format!("staging failed: {error}")),
    }
}

fn refuse_intake(error: &IntakeError) -> PhaseResult {
    let text = match error {
        IntakeError::System { .. } => error.to_string(),
        _ => format!("the artifact {}", error.to_string().trim_start_matches("it ")),
    };
    PhaseResult::refused(error.exit(), &text)
}
