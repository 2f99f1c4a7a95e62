//! An open operation that cannot be resumed: what runs is left as it is, until a human closes it.

use std::rc::Rc;

use crate::api::{Outcome, Trouble};
use crate::core::exit::Exit;
use crate::core::ids::OpId;
use crate::core::operation::outcome::Word;
use crate::core::operation::phase::Phase;
use crate::os::clock;
use crate::store::journal::{Intent, Journal, JournalError, Record};
use crate::store::{journal, release};
use crate::supervisor::instances::retire;
use crate::supervisor::instances::scale;
use crate::supervisor::operation::admission::{self, Begun, Wish};
use crate::supervisor::operation::conclude;
use crate::supervisor::operation::opened::{self, UnknownWord};
use crate::supervisor::operation::start_last_good;
use crate::supervisor::service::Service;
use crate::supervisor::service::notices;
use crate::supervisor::service::operation::Operation;
use crate::supervisor::service::outcome;
use crate::supervisor::service::refusal;
use crate::supervisor::service::unresumed::Unresumed;
use crate::supervisor::spawn;

/// Why an operation cannot be resumed.
#[derive(Debug)]
pub(super) enum Obstacle {
    /// Its journal has a value that this version does not know.
    Unknown(UnknownWord),
    /// Its journal is damaged.
    Damaged(JournalError),
}

/// Leaves an operation open: nothing is stopped, nothing is begun.
pub(super) fn leave(
    service: &Rc<Service>,
    intent: &Intent,
    records: &[Record],
    obstacle: &Obstacle,
) {
    let op = OpId(intent.op);
    let path = journal::path(&service.paths, op);
    let (why, way_out) = match obstacle {
        Obstacle::Unknown(word) => (format!("{}, {word}", path.display()), "abort"),
        Obstacle::Damaged(error) => (error.to_string(), "repair"),
    };
    tracing::error!(service = %service.name, op = op.0, why, "an operation CANNOT BE RESUMED");
    let may_have_migrated = opened::phases(records).any(|phase| phase == Phase::Migrate);
    let unresumed = Unresumed { op, why, way_out, may_have_migrated };
    notices::degraded(service, &refusal::unresumed(service, &unresumed).what);
    service.activity.leave_open(Some(unresumed));
}

/// What follows from the closing of an operation.
pub(crate) enum Closed {
    /// What serves goes on serving, or the last good release is started.
    Stays(Box<Outcome>),
    /// What serves is not the last good release: a rollback leads there.
    GoesBack(Rc<Operation>),
}

/// Closes it, and goes back to the last good release by a rollback like any other. What the
/// operation had begun on the data is not undone.
///
/// # Errors
/// When its journal cannot be read or written; it stays open.
pub(crate) async fn close(
    service: &Rc<Service>,
    actor: &str,
    unresumed: &Unresumed,
) -> Result<Closed, Trouble> {
    let op = unresumed.op;
    let fail = |why: String| {
        refusal::refusal(service, "aborted", &why, Exit::Internal, &[unresumed.way_out])
    };
    let (intent, _) = journal::read(&service.paths, op)
        .map_err(|error| fail(error.to_string()))?
        .ok_or_else(|| fail(format!("{}: it is gone", unresumed.why)))?;
    let mut result = closed(service, unresumed, &intent);
    Journal::reopen(&service.paths, op)
        .and_then(|mut journal| journal.announce(&Record::result(result.clone())))
        .map_err(|error| fail(error.to_string()))?;
    service.activity.leave_open(None);
    outcome::remember(&service.shared, &result, &intent.kind, actor, clock::tick());
    if let Err(error) = release::sweep(&service.paths, &service.durable.named()) {
        tracing::warn!(service = %service.name, %error, "removing what was staged");
    }
    conclude::clear(service);
    let good = service.durable.state().last_good;
    let live = service.live_generation().filter(|live| live.is_alive());
    match (live, good) {
        (Some(live), Some(good)) if live.id.0 != good.generation => {
            let wish = Wish::Rollback { to: Some(good.release) };
            match admission::begin(service, actor, wish).await {
                Ok(Begun::Operation(rollback)) => return Ok(Closed::GoesBack(rollback)),
                Ok(Begun::NothingToDo(_)) => {}
                Err(refused) => result.warnings.push(format!("{}: {}", refused.what, refused.why)),
            }
        }
        (Some(_), _) => {
            conclude::let_go(service, None);
            notices::recovered(service);
        }
        (None, _) => start_again(service).await,
    }
    scale::begin(service);
    Ok(Closed::Stays(Box::new(result)))
}

fn closed(service: &Service, unresumed: &Unresumed, intent: &Intent) -> Outcome {
    let name = &service.name;
    let next = vec![
        format!("halley-sup status {name}"),
        format!("halley-sup rollback {name}"),
        format!("halley-sup release {name} SOURCE"),
    ];
    let trouble = Trouble {
        what: format!("{name}: operation {} was closed, not finished", unresumed.op),
        why: format!("{}; what it had begun on the data is not undone", unresumed.why),
        still: refusal::still(service),
        next: next.clone(),
        exit: Exit::Aborted.code(),
    };
    Outcome {
        release: Some(intent.release),
        exit: Exit::Aborted.code(),
        next,
        trouble: Some(trouble),
        ..outcome::outcome(service, Word::Aborted, unresumed.op.0)
    }
}

/// Nothing serves. What runs is stopped first: it may be what allows only one instance.
async fn start_again(service: &Rc<Service>) {
    for generation in service.fleet.all() {
        retire::stop_now(service, &generation).await;
    }
    let service = Rc::clone(service);
    spawn::local(async move { start_last_good::bring_up(&service).await });
}
