//! A release is tried out: started beside the running one, in slots that no connections are steered
//! to, probed, and stopped again. What serves is not touched.
//!
//! Before each release, and in a drill, it is the one that a rollback would start. Around a
//! migration it is also the new one, and the old one once more, on a copy of the data.

use std::io;
use std::rc::Rc;

use tokio::task::JoinHandle;

use crate::config::host::Start;
use crate::config::model::{Rehearse, Settings};
use crate::core::duty::Duty;
use crate::core::exit::Exit;
use crate::core::ids::ReleaseId;
use crate::core::operation::machine::Succession;
use crate::core::operation::way_back::WayBack;
use crate::os::{clock, proc};
use crate::store::release::{self, ReleaseError};
use crate::store::state::{Depth, Rehearsal};
use crate::supervisor::health::diagnosis;
use crate::supervisor::health::probe::Transcript;
use crate::supervisor::instances::gate::{self, Gated, Rigour};
use crate::supervisor::instances::retire;
use crate::supervisor::instances::start::{self, StartError};
use crate::supervisor::processes::program_check;
use crate::supervisor::rollback_readiness::schema;
use crate::supervisor::service::Service;
use crate::supervisor::service::candidate::Candidate;
use crate::supervisor::service::confinement::{self, Confinement};
use crate::supervisor::service::instances::Generation;
use crate::supervisor::service::phase_result::PhaseResult;
use crate::supervisor::service::settings::renewed;
use crate::supervisor::spawn;
use crate::text;

/// Why a release does not run, or would not.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RehearsalError {
    /// What is known about it cannot be read.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// Its tree is not the one that was sealed.
    #[error("its tree differs from its hashes: {first}{}", more(*n_more))]
    Tree {
        /// The first place that differs.
        first: String,
        /// How many others there are.
        n_more: usize,
    },
    /// Its program cannot be run.
    #[error("{0}")]
    Program(String),
    /// The look at it came to no end.
    #[error(transparent)]
    Look(#[from] io::Error),
    /// The user that it runs as is gone.
    #[error("there is no user {0:?} any more")]
    NoUser(String),
    /// It does not run on the data's schema.
    #[error("{0}")]
    Schema(String),
    /// It could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It was started, and its gate did not open.
    #[error("{0}")]
    Shut(String),
}

fn more(n: usize) -> String {
    if n == 0 { String::new() } else { format!(" and {n} more") }
}

/// Whether a rollback from the release that is about to begin would work.
pub(crate) async fn old(
    service: &Rc<Service>,
    candidate: &Candidate,
    transcript: &mut Transcript,
) -> PhaseResult {
    let Some(target) = candidate.back_to else {
        return PhaseResult::skip("no earlier release exists");
    };
    if service.config().rehearse == Rehearse::Off {
        return PhaseResult::skip("off");
    }
    if candidate.way_back == WayBack::Lost {
        let why = format!("release {target} is down, and there is no other one to go back to");
        note(service, Some(target), "it was down when it was replaced");
        return PhaseResult::skip(why.clone()).with_warnings([why]);
    }
    match target_now(service, target, candidate.succession, transcript).await {
        Ok((detail, changed)) => {
            let text = |why| {
                format!("release {target}, which a rollback goes to, works and was changed: {why}")
            };
            PhaseResult::ok(detail).with_warnings(changed.map(text))
        }
        Err(why) if candidate.way_back != WayBack::Required => {
            let why = format!("release {target}: {why}");
            PhaseResult::ok(format!("no way back: {why}"))
                .with_warnings([format!("a rollback would fail: {why}")])
        }
        Err(why) => PhaseResult::refused(
            Exit::RehearsalFailed,
            format!(
                "rollback rehearsal failed: release {target}: {why}\n\
                 --no-way-back \"reason\" releases it without a way back"
            ),
        ),
    }
}

/// Rehearses a rollback to a release, as deep as the configuration asks for and the service allows,
/// and notes the result. A tree that was changed, and works, comes with what is changed in it.
///
/// # Errors
/// Why a rollback to it would fail.
pub(crate) async fn target_now(
    service: &Rc<Service>,
    target: ReleaseId,
    succession: Succession,
    transcript: &mut Transcript,
) -> Result<(String, Option<RehearsalError>), RehearsalError> {
    let (depth, note) = depth(service.config().rehearse, succession);
    let begun = clock::tick();
    let tried = match light(service, target).await {
        Ok((settings, changed)) if depth == Depth::Full => {
            let ran = run(service, target, settings, &Confinement::default(), transcript).await;
            match (ran, changed) {
                (Err(why), Some(changed)) => Err(RehearsalError::Shut(format!("{changed}; {why}"))),
                (ran, changed) => ran.map(|said| (said, changed)),
            }
        }
        Ok((_, changed)) => Ok(("tree and settings are complete".to_owned(), changed)),
        Err(why) => Err(why),
    };
    let why = match &tried {
        Ok((_, changed)) => changed.as_ref(),
        Err(why) => Some(why),
    };
    let rehearsal = Rehearsal {
        release: target.0,
        at: clock::now_rfc3339(),
        depth,
        why: why.map(|error| first_line(&error.to_string())),
    };
    if let Err(error) = service.durable.save(|state| state.rehearsal = Some(rehearsal)) {
        tracing::warn!(service = %service.name, %error, "recording a rehearsal");
    }
    let took = text::seconds(begun, clock::tick());
    let detail = |said| format!("release {target}, {}{note}: {said}, in {took}", depth.name());
    tried.map(|(said, changed)| (detail(said), changed))
}

/// Notes why a rollback to a release would fail, when that was found without a rehearsal.
pub(crate) fn note(service: &Service, target: Option<ReleaseId>, why: &str) {
    let Some(target) = target else { return };
    let rehearsal = Rehearsal {
        release: target.0,
        at: clock::now_rfc3339(),
        depth: Depth::Full,
        why: Some(first_line(why)),
    };
    if let Err(error) = service.durable.save(|state| state.rehearsal = Some(rehearsal)) {
        tracing::warn!(service = %service.name, %error, "recording a rehearsal");
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// What cannot run twice is not started a second time on the same data.
fn depth(wanted: Rehearse, succession: Succession) -> (Depth, &'static str) {
    match (wanted, succession) {
        (Rehearse::Full, Succession::InTurn) => (Depth::Light, " (it allows only one instance)"),
        (Rehearse::Full, Succession::Overlap) => (Depth::Full, ""),
        (Rehearse::Light | Rehearse::Off, _) => (Depth::Light, ""),
    }
}

/// All that a cold start needs and that can be seen without one; and what is not as it was sealed, when
/// nothing is missing.
async fn light(
    service: &Rc<Service>,
    target: ReleaseId,
) -> Result<(Settings, Option<RehearsalError>), RehearsalError> {
    let paths = service.paths.clone();
    let looked = spawn::lengthy(move || {
        let settings = release::settings(&paths, target)?;
        let damaged = release::damage(&paths, target)?;
        let tree = paths.release(target);
        let is_gone = damaged.iter().any(|path| tree.join(path).symlink_metadata().is_err());
        let mut damaged = damaged.into_iter();
        let changed = damaged.next().map(|first| (first, damaged.len()));
        let mut changed = changed.map(|(first, n_more)| RehearsalError::Tree { first, n_more });
        if let Some(gone) = changed.take_if(|_| is_gone) {
            return Err(gone);
        }
        let wrong = program_check::program(&paths.release(target), &settings);
        match wrong.into_iter().next() {
            Some(why) => Err(RehearsalError::Program(why)),
            None => Ok((settings, changed)),
        }
    });
    let (settings, changed) = looked.await??;
    let settings = renewed(service, target, settings, Start::Back);
    if let Some(user) = settings.user.as_deref().filter(|user| proc::user(user).is_none()) {
        return Err(RehearsalError::NoUser(user.to_owned()));
    }
    if let Some(why) = schema::misses(service, target) {
        return Err(RehearsalError::Schema(why));
    }
    Ok((settings, changed))
}

/// Starts one instance of a release, kept to what is given, probes it in its own slots, stops it.
///
/// # Errors
/// Why its gate did not open.
pub(crate) async fn run(
    service: &Rc<Service>,
    release: ReleaseId,
    settings: Settings,
    kept_to: &Confinement,
    transcript: &mut Transcript,
) -> Result<String, RehearsalError> {
    let mut settings = settings;
    settings.instances = 1;
    settings.env.extend(kept_to.env.iter().cloned());
    settings.env.insert(confinement::VARIABLE.to_owned(), "1".to_owned());
    let id = service.fleet.next_generation();
    let (own, kept_to) = (Rc::clone(service), kept_to.clone());
    // Called off in the middle of its start, it must be known whose process it is.
    let starting = spawn::local(async move {
        start::start_as(&own, id, release, settings, Duty::Rehearsal, kept_to).await
    });
    let mut guard = StopOnDrop { service: Rc::clone(service), starting: None, generation: None };
    let generation = guard.started(starting).await?;
    let limit = generation.settings.health.deadline;
    let gated = gate::gate(service, &generation, Rigour::Short, limit, transcript).await;
    let said = match gated {
        Gated::Open(detail) => Ok(detail),
        Gated::Died => Err(RehearsalError::Shut(diagnosis::death(service, id, release))),
        Gated::Shut(why) => {
            let hint = diagnosis::diagnose(service, &generation);
            let last = diagnosis::last_lines(service, &generation);
            Err(RehearsalError::Shut(format!("{why}{hint}{last}")))
        }
    };
    retire::stop_now(service, &generation).await;
    guard.generation = None;
    said
}

type Starting = JoinHandle<Result<Rc<Generation>, StartError>>;

/// A rehearsed release never outlives the task that waits for it. A supervisor that dies leaves it
/// to the next one, which finds it by its label and ends it.
struct StopOnDrop {
    service: Rc<Service>,
    /// Its start, until that is over.
    starting: Option<Starting>,
    /// Its processes, until they are stopped.
    generation: Option<Rc<Generation>>,
}

impl StopOnDrop {
    /// Waits for the start, and has what was started from then on.
    async fn started(&mut self, starting: Starting) -> Result<Rc<Generation>, RehearsalError> {
        let started = self.starting.insert(starting).await;
        self.starting = None;
        let generation = started.map_err(io::Error::from)??;
        self.generation = Some(Rc::clone(&generation));
        Ok(generation)
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        let (service, starting, generation) =
            (Rc::clone(&self.service), self.starting.take(), self.generation.take());
        if starting.is_none() && generation.is_none() {
            return;
        }
        spawn::local(async move {
            let started = match starting {
                Some(starting) => starting.await.ok().and_then(Result::ok),
                None => generation,
            };
            if let Some(generation) = started {
                retire::stop_now(&service, &generation).await;
            }
        });
    }
}
