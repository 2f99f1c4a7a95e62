//! A service that has nothing running gets its last good release: at the start of the stack, and
//! on the command `start`.

use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use crate::api::Trouble;
use crate::config::host::Start;
use crate::config::model::Reaction;
use crate::core::backoff::Pauses;
use crate::core::duty::Duty;
use crate::core::exit::Exit;
use crate::core::ids::{ReleaseId, ServiceName};
use crate::store::release::{self, ReleaseError};
use crate::store::restoration;
use crate::store::state::Served;
use crate::supervisor::health::probe::Transcript;
use crate::supervisor::health::probe_all::{Round, probe_all};
use crate::supervisor::instances::gate::{self, Gated, Rigour};
use crate::supervisor::instances::outside_proxy;
use crate::supervisor::instances::ownership;
use crate::supervisor::instances::restarter::{revive, unfinish};
use crate::supervisor::instances::retire;
use crate::supervisor::instances::start::{self, StartError};
use crate::supervisor::operation::restore_error::RestoreError;
use crate::supervisor::operation::restore_undo;
use crate::supervisor::processes::keeper_client::LinkError;
use crate::supervisor::service::Service;
use crate::supervisor::service::condition::Source;
use crate::supervisor::service::instances::Generation;
use crate::supervisor::service::notices;
use crate::supervisor::service::occupied::may_start;
use crate::supervisor::service::refusal;
use crate::supervisor::service::settings;
use crate::supervisor::sockets::slots::SlotError;
use crate::supervisor::spawn;
use crate::text;

/// Between tries to start a release.
const STARTS: Pauses = Pauses::doubling(200, 30_000);
/// So many starts fail before the release before is tried.
const N_TRIES: u32 = 3;
/// Between tries to point the proxy at it.
const FLIPS: Pauses = Pauses::doubling(500, 30_000);

/// Starts the last good release of a service that has nothing running, and tries again until it
/// runs: connections wait in the queues meanwhile. Returns when it answers.
pub(crate) async fn bring_up(service: &Rc<Service>) {
    service.activity.let_begin();
    let mut backoff = STARTS.begin();
    let mut n_failed = 0;
    loop {
        let running = service.activity.operation();
        if let Some(running) = running {
            running.over().await;
        }
        match bring_up_once(service).await {
            Ok(Brought::Up) => return ownership::reconcile(service).await,
            Ok(Brought::Busy) => continue,
            Err(error) => {
                let why = error.to_string();
                tracing::error!(service = %service.name, why, "starting the last good release");
                notices::degraded(service, &why);
                service.condition.report(Source::Start, why);
                n_failed += u32::from(error.is_of_release());
            }
        }
        if n_failed == N_TRIES {
            // Once: where there is none before it, the tries go on.
            n_failed += 1;
            service.condition.want(Reaction::FallBack);
        }
        tokio::time::sleep(backoff.pause()).await;
    }
}

/// Has the listeners of a service that is about to be started: callers wait from here on, and are not
/// refused, also while it waits for others.
pub(crate) async fn listen(service: &Rc<Service>) {
    let _turn = service.activity.starting().await;
    if service.activity.operation().is_none() && wanted(service).is_some() {
        let config = service.config();
        if let Err(error) = service.slots.open(service.link(), &config).await {
            tracing::warn!(service = %service.name, %error, "opening its listeners; its start tries again");
        }
    }
}

/// The release that is to be started, when nothing is live.
fn wanted(service: &Service) -> Option<Served> {
    let state = service.durable.state();
    let stays_down =
        state.stopped || service.shared.stopping.get() || service.condition.is_finished();
    let is_wanted = !stays_down && may_start(service) && service.live_generation().is_none();
    state.last_good.filter(|_| is_wanted)
}

/// The same, for somebody who waits for an answer: returns also when the deadline of the release's gate
/// is over, and the tries go on. Returns whether they are over.
pub(crate) async fn bring_up_within_deadline(service: &Rc<Service>) -> bool {
    let limit = deadline(service) + Duration::from_secs(1);
    let service = Rc::clone(service);
    let trying = spawn::local(async move { bring_up(&service).await });
    tokio::time::timeout(limit, trying).await.is_ok()
}

/// The same for one whose program has ended for good: in its place when its release is still live.
pub(crate) async fn begin_again(service: &Rc<Service>) -> bool {
    unfinish(service).await;
    let Some(generation) = service.live_generation() else {
        return bring_up_within_deadline(service).await;
    };
    revive(service, &generation);
    answers_within(service, &generation, generation.settings.health.deadline).await
}

/// What is to be said of a service that was to be started.
///
/// # Errors
/// When it does not serve, or something is wrong with it.
pub(crate) fn answer(service: &Service, is_over: bool) -> Result<(), Trouble> {
    let refused =
        |why: &str, exit| Err(refusal::refusal(service, "started", why, exit, &["status", "logs"]));
    if let Some(why) = service.condition.trouble() {
        return refused(&why, Exit::GateFailed);
    }
    if let Some(unresumed) = service.activity.unresumed().filter(|_| service.serving().is_none()) {
        return Err(refusal::unresumed(service, &unresumed));
    }
    if is_over {
        return Ok(());
    }
    let why = format!(
        "it has not answered within {}; its start continues",
        text::whole_seconds(text::ms(deadline(service)))
    );
    refused(&why, Exit::Detached)
}

/// How long those after it wait for a service that is brought up.
pub(crate) fn deadline(service: &Service) -> Duration {
    let good = service.durable.last_good();
    let own = good.and_then(|good| release::settings(&service.paths, good).ok());
    own.unwrap_or_else(|| service.config().settings.clone()).health.deadline
}

/// What came of a try to start the last good release.
enum Brought {
    /// It was started, or is not wanted.
    Up,
    /// An operation has begun meanwhile; it comes first.
    Busy,
}

/// Why nothing runs.
#[derive(Debug, thiserror::Error)]
enum BringUpError {
    /// The data is not as it was.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// It uses the data of another service, which is being restored.
    #[error("the restore of {by}, whose data it uses, is not over")]
    Kept {
        /// The other one.
        by: ServiceName,
    },
    /// The release could not be brought to serve.
    #[error("release {release}: {source}")]
    Launch {
        /// Which.
        release: ReleaseId,
        /// The reason.
        #[source]
        source: LaunchError,
    },
}

impl BringUpError {
    /// Whether another release may do better: something of this one is not there, or is no program. An
    /// address that no interface has yet and a host without memory are no release's fault.
    fn is_of_release(&self) -> bool {
        let Self::Launch { source, .. } = self else { return false };
        match source {
            LaunchError::Release(_) => true,
            LaunchError::Start(StartError::Launch(LinkError::Failed { errno, .. })) => {
                [libc::ENOENT, libc::ENOTDIR, libc::ENOEXEC, libc::EACCES].contains(errno)
            }
            LaunchError::Start(StartError::Output { source }) => {
                source.kind() == ErrorKind::NotFound
            }
            LaunchError::Start(_) | LaunchError::Steer(_) => false,
        }
    }
}

/// Why a release was not brought to serve.
#[derive(Debug, thiserror::Error)]
enum LaunchError {
    /// Its settings.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// Its start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Its connections.
    #[error(transparent)]
    Steer(#[from] SlotError),
}

async fn bring_up_once(service: &Rc<Service>) -> Result<Brought, BringUpError> {
    // From the check to the steering no other task starts or stops anything.
    let turn = service.activity.starting().await;
    if service.activity.operation().is_some() {
        return Ok(Brought::Busy);
    }
    restore_undo::undo(service).await?;
    if let Some(by) = restoration::keeps_stopped(&service.shared.layout, &service.name) {
        return Err(BringUpError::Kept { by });
    }
    let Some(good) = wanted(service) else { return Ok(Brought::Up) };
    let release = ReleaseId(good.release);
    let launched = launch(service, release, good).await;
    let launched = launched.map_err(|source| BringUpError::Launch { release, source })?;
    let Some(generation) = launched else { return Ok(Brought::Busy) };
    drop(turn);
    let text = |why: &str| format!("release {release}: {why}");
    let mut transcript = Transcript::default();
    let deadline = generation.settings.health.deadline;
    match gate::gate(service, &generation, Rigour::Short, deadline, &mut transcript).await {
        Gated::Open(_) => {
            service.condition.serves();
            notices::recovered(service);
        }
        // It is live and kept up by the guard all the same.
        Gated::Shut(why) => {
            service.condition.report(Source::Start, text(&why));
            let (service, generation) = (Rc::clone(service), Rc::clone(&generation));
            spawn::local(async move { until_it_answers(&service, &generation).await });
        }
        Gated::Died => {
            service.condition.report(Source::Start, text("its process ended"));
            if answers_within(service, &generation, deadline).await {
                service.condition.serves();
                notices::recovered(service);
            }
        }
    }
    lead_in(service, &generation);
    Ok(Brought::Up)
}

/// Starts it and steers to it; nothing is steered when it is no longer what is to serve.
async fn launch(
    service: &Rc<Service>,
    release: ReleaseId,
    good: Served,
) -> Result<Option<Rc<Generation>>, LaunchError> {
    let settings = settings::of_start(service, release, Start::Again)?;
    let id = service.fleet.next_generation();
    let generation = start::start(service, id, release, settings).await?;
    if service.durable.state().last_good != Some(good) || service.activity.operation().is_some() {
        retire::stop_now(service, &generation).await;
        return Ok(None);
    }
    service.steer_to(&generation, Duty::Live)?;
    revive(service, &generation);
    service.tend();
    let served = Served { generation: id.0, ..good };
    if let Err(error) = service.durable.change(|state| state.last_good = Some(served)) {
        tracing::warn!(service = %service.name, %error, "recording the processes that serve");
    }
    Ok(Some(generation))
}

/// A live release that was slower than its deadline is healthy once it answers, also without probes
/// at rest.
async fn until_it_answers(service: &Rc<Service>, generation: &Rc<Generation>) {
    let is_live = || service.routing.live() == Some(generation.id);
    while is_live() && !service.shared.stopping.get() {
        let limit = generation.settings.health.deadline;
        if answers_within(service, generation, limit).await && is_live() {
            service.condition.serves();
            return notices::recovered(service);
        }
    }
}

/// The guard starts it again; those after it wait until it answers, or its time is over.
async fn answers_within(
    service: &Rc<Service>,
    generation: &Rc<Generation>,
    limit: Duration,
) -> bool {
    let answers = async {
        loop {
            let is_good = probe_all(service, generation, Round::Every, |_, _| {}).await.is_good();
            if is_good || service.shared.stopping.get() {
                return is_good;
            }
            tokio::time::sleep(generation.settings.health.interval).await;
        }
    };
    tokio::time::timeout(limit, answers).await.unwrap_or(false)
}

/// Points the outside proxy at a live generation, and tries until it can be: at boot the proxy may
/// come up later than the service.
fn lead_in(service: &Rc<Service>, generation: &Rc<Generation>) {
    if service.config().proxy.is_none() {
        return;
    }
    let (service, generation) = (Rc::clone(service), Rc::clone(generation));
    spawn::local(async move {
        let mut backoff = FLIPS.begin();
        let is_live = || {
            let idle = service.activity.operation().is_none();
            idle && service.routing.live() == Some(generation.id)
        };
        while is_live() {
            match outside_proxy::point(&service, &generation).await {
                Ok(()) => return,
                // `status` has it.
                Err(_) => tokio::time::sleep(backoff.pause()).await,
            }
        }
    });
}
