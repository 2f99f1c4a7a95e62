//! How an artifact becomes a release: received, verified, staged. The blocking part runs in a
//! thread; calling the operation off waits for it.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::api::Event;
use crate::config::Problem;
use crate::config::model::{self, Own, ReleaseKey, Settings};
use crate::core::exit::Exit;
use crate::os::{clock, proc};
use crate::store::intake::{self as artifact, Limits, Progress, Received};
use crate::store::intake_error::IntakeError;
use crate::store::leads;
use crate::store::release::{self, Manifest};
use crate::store::seal::{self, Hashes};
use crate::supervisor::instances::start;
use crate::supervisor::operation::assignment::Assignment;
use crate::supervisor::operation::intake::{Intake, Staged};
use crate::supervisor::processes::decoder::Decoder;
use crate::supervisor::service::Service;
use crate::supervisor::service::operation::Operation;
use crate::supervisor::service::phase_result::PhaseResult;
use crate::supervisor::spawn;
use crate::text;

/// Watchers want to see an intake move, not every chunk of it.
const PROGRESS_BYTES: u64 = 1024 * 1024;
const PROGRESS_ENTRIES: u64 = 1000;
/// For a decoder whose pipe is closed.
const ENDING: Duration = Duration::from_secs(1);

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
    let config = service.config();
    let (cap_bytes, tree) = (config.artifact_bytes_max, config.tree.clone());
    let received = beside(operation, intake, move |cancelled, progress| {
        let absolute_links = &tree.absolute_links;
        let mut limits = Limits { cap_bytes, absolute_links, cancelled, progress };
        artifact::receive(source, &paths, op, &mut limits)
    });
    match received.await {
        Ok(Ok(received)) => {
            let detail = match &received {
                Received::Archive { n_bytes, digest, .. } => {
                    format!("{}, sha256 {}", text::size(*n_bytes), &digest[..12])
                }
                Received::Tree { n_bytes, .. } => format!("{}, a directory", text::size(*n_bytes)),
            };
            intake.received = Some(received);
            PhaseResult::ok(detail)
        }
        Ok(Err(error)) => refuse_intake(&error),
        Err(error) => PhaseResult::refused(Exit::Internal, format!("the intake failed: {error}")),
    }
}

/// Does the blocking part of an intake in a thread, and tells watchers how far it is.
async fn beside<T: Send + 'static>(
    operation: &Operation,
    intake: &Intake,
    work: impl FnOnce(&AtomicBool, &mut dyn FnMut(Progress)) -> T + Send + 'static,
) -> io::Result<T> {
    let cancelled = Arc::clone(&intake.cancelled);
    let idle = Arc::clone(&intake.idle).lock_owned().await;
    let (progress, mut seen) = tokio::sync::watch::channel(Progress::default());
    let worker = spawn::lengthy(move || {
        let mut told = Progress::default();
        let mut report = |now: Progress| {
            let entries = now.entries.unwrap_or(0) - told.entries.unwrap_or(0);
            if now.bytes - told.bytes >= PROGRESS_BYTES || entries >= PROGRESS_ENTRIES {
                told = now;
                progress.send_replace(now);
            }
        };
        let done = work(&cancelled, &mut report);
        drop(idle);
        done
    });
    let mut worker = std::pin::pin!(worker);
    loop {
        tokio::select! {
            biased;
            done = &mut worker => return done,
            Ok(()) = seen.changed() => {
                let Progress { bytes, total, entries } = *seen.borrow_and_update();
                operation.tell(Event::Progress { bytes, total, entries });
            }
        }
    }
}

/// Unpacks the artifact, lists its files and reads its `release.toml`.
pub(crate) async fn verify(
    service: &Rc<Service>,
    operation: &Operation,
    assignment: &Assignment,
    intake: &mut Intake,
) -> PhaseResult {
    let (dir, n_left_out) = match unpack(service, operation, intake).await {
        Ok(unpacked) => unpacked,
        Err(refused) => return refused,
    };
    let config = service.config();
    let host = Host::of(&config);
    let (paths, release) = (service.paths.clone(), assignment.release);
    let staged = beside(operation, intake, move |cancelled, _| {
        let owner = config_owner(&host.settings);
        let led = leads::put(&dir, &paths, release, (&host.tree.links, &host.tree.writable), owner);
        match led.map_err(|error| refuse_intake(&IntakeError::system(&dir, error)))? {
            missing if missing.is_empty() => staged(dir, host, cancelled),
            missing => Err(PhaseResult::refused(Exit::PreflightRefused, missing.join("\n"))),
        }
    });
    let staged = match staged.await {
        Ok(Ok(staged)) => staged,
        Ok(Err(refused)) => return refused,
        Err(error) => {
            return PhaseResult::refused(Exit::Internal, format!("the intake failed: {error}"));
        }
    };
    let listing = &staged.listing;
    let detail = format!(
        "{}, {}, tree {}",
        text::count(listing.n_files, "file"),
        text::size(listing.size_bytes),
        &listing.digest[..12]
    );
    intake.staged = Some(staged);
    let left_out = (n_left_out > 0)
        .then(|| format!("{} of macOS (._NAME) left out", text::count(n_left_out, "file")));
    PhaseResult::ok(detail).with_warnings(left_out)
}

fn config_owner(settings: &Settings) -> Option<(u32, u32)> {
    let user = settings.user.as_deref().and_then(proc::user);
    user.map(|user| (user.uid, user.gid))
}

/// An archive is read by a decoder, a process without rights; what it says is checked and written here.
async fn unpack(
    service: &Rc<Service>,
    operation: &Operation,
    intake: &Intake,
) -> Result<(PathBuf, usize), PhaseResult> {
    let (paths, op) = (service.paths.clone(), operation.id);
    let path = match &intake.received {
        None => {
            return Err(PhaseResult::refused(Exit::ArtifactRejected, "nothing was received"));
        }
        Some(Received::Tree { n_left_out, .. }) => {
            return Ok((artifact::staging_dir(&paths, op), *n_left_out));
        }
        Some(Received::Archive { path, .. }) => path.clone(),
    };
    let internal =
        |error: &dyn std::fmt::Display| PhaseResult::refused(Exit::Internal, error.to_string());
    let archive = artifact::archive(&path).map_err(|error| refuse_intake(&error))?;
    let started = Decoder::start(&service.shared.link, service.name.as_str(), &archive).await;
    let (mut decoder, said) = started.map_err(|error| internal(&error))?;
    let config = service.config();
    let (cap_bytes, tree) = (config.artifact_bytes_max, config.tree.clone());
    let unpacked = beside(operation, intake, move |cancelled, progress| {
        let absolute_links = &tree.absolute_links;
        let mut limits = Limits { cap_bytes, absolute_links, cancelled, progress };
        artifact::unpack(said, &path, &paths, op, &mut limits)
    });
    let mut unpacked = std::pin::pin!(unpacked);
    let (unpacked, ended) = tokio::select! {
        biased;
        unpacked = &mut unpacked => (unpacked, None),
        ended = decoder.ended() => {
            // Its pipe ends with it.
            decoder.kill().await;
            (unpacked.await, Some(ended))
        }
    };
    match unpacked.map_err(|error| internal(&format!("the intake failed: {error}")))? {
        Err(IntakeError::Undecoded { why }) => {
            // Its pipe has ended, or nobody reads it any more: it is about to end.
            let ended = match ended {
                None => tokio::time::timeout(ENDING, decoder.ended()).await.ok(),
                ended => ended,
            };
            let ended = ended.map(|ended| format!(" ({ended})")).unwrap_or_default();
            Err(refuse_intake(&IntakeError::Undecoded { why: why + &ended }))
        }
        unpacked => unpacked.map_err(|error| PhaseResult {
            instead: error.converted(service.name.as_str()),
            ..refuse_intake(&error)
        }),
    }
}

/// What the host's configuration says that an artifact's `release.toml` is laid over.
struct Host {
    settings: Settings,
    tree: model::Tree,
    pinned: Vec<ReleaseKey>,
    has_listener: bool,
}

impl Host {
    fn of(config: &model::Service) -> Self {
        Self {
            settings: config.settings.clone(),
            tree: config.tree.clone(),
            pinned: config.pinned.clone(),
            has_listener: config.is_called_by_streams(),
        }
    }
}

/// The settings that a tree is released with on this host. `None`: its `release.toml` does not go with the
/// configuration.
pub(crate) fn settings_of(config: &model::Service, dir: &Path) -> Option<Settings> {
    overlay(Host::of(config), dir).ok().map(|(settings, _)| settings)
}

/// Lists and hashes a tree and reads its `release.toml`.
fn staged(dir: PathBuf, host: Host, off: &AtomicBool) -> Result<Staged, PhaseResult> {
    let listed = seal::list_unless(&dir, &Hashes::default(), off);
    let listing = listed.map_err(|error| match off.load(Ordering::Relaxed) {
        true => refuse_intake(&IntakeError::Cancelled),
        false => refuse_intake(&IntakeError::system(&dir, error)),
    })?;
    let refused =
        |error: OverlayError| PhaseResult::refused(Exit::ArtifactRejected, error.to_string());
    let of_host = host.settings.clone();
    let (settings, label) = overlay(host, &dir).map_err(refused)?;
    let own = Own::of(&settings, &of_host);
    Ok(Staged { dir, listing: Arc::new(listing), settings, own, label })
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
fn overlay(host: Host, dir: &Path) -> Result<(Settings, Option<String>), OverlayError> {
    let Some(text) = artifact::settings_text(dir).map_err(OverlayError::Read)? else {
        return Ok((host.settings, None));
    };
    let name = Path::new("release.toml");
    crate::config::release::overlay(&host.settings, &host.pinned, host.has_listener, name, &text)
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
        (staged.dir.clone(), Arc::clone(&staged.listing), staged.settings.clone());
    let (paths, release, own) = (service.paths.clone(), assignment.release, staged.own.clone());
    // Migrations and hooks come before the start.
    let (owner, links) = (config_owner(&settings), &service.config().tree.links);
    let given = start::give_shared(service, settings.user.as_deref())
        .and_then(|()| leads::make_shared(&paths, links, owner));
    if let Err(error) = given {
        return refuse_intake(&IntakeError::system(&paths.shared(), error));
    }
    // A number is given out once, whatever becomes of it.
    if let Err(error) = service.durable.save(|state| state.next_release = release.0 + 1) {
        return PhaseResult::refused(Exit::NoSpace, error.to_string());
    }
    let idle = Arc::clone(&intake.idle).lock_owned().await;
    let worker = spawn::lengthy(move || {
        let written = release::write(&paths, release, &manifest, &listing, &settings)
            .and_then(|()| release::write_own(&paths, release, &own))
            .map_err(|error| IntakeError::system(&error.path, error.source))
            .and_then(|()| {
                let group = owner.map(|(_, gid)| gid);
                seal::seal(&dir, &paths, release, group).map_err(|e| IntakeError::system(&dir, e))
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
