//! The verb `rollback`: an earlier release comes back.

use crate::api::Trouble;
use crate::api::rollback::Args;
use crate::core::operation::phase::Phase;
use crate::core::operation::preempt::{self, Preempt};
use crate::supervisor::control::client::Client;
use crate::supervisor::control::follow::{self, Until, follow, operation};
use crate::supervisor::operation::admission::{self, Wish};
use crate::supervisor::service::Service;
use crate::supervisor::service::refusal::NothingToDo;
use crate::supervisor::service::stack::Stack;

/// Begins a rollback and follows it. An operation that runs is called off before.
///
/// # Errors
/// Why it was not begun.
pub(crate) async fn perform(
    stack: &Stack,
    actor: &str,
    args: Args,
    client: &mut Client,
) -> Result<(), Trouble> {
    let service = stack.find(&args.service)?;
    if let Some(nothing) = preempt(&service, args.to, client).await {
        client.tell(&nothing.answer(&service)).await;
        return Ok(());
    }
    let begun = admission::begin(&service, actor, Wish::Rollback { to: args.to }).await?;
    let Some(operation) = operation(&service, begun, client).await else { return Ok(()) };
    follow(&*operation, client, Until::Over).await;
    Ok(())
}

/// Calls off what runs. Returns what there is left to do about: nothing, where its own way back was the
/// rollback.
async fn preempt(service: &Service, to: Option<u64>, client: &mut Client) -> Option<NothingToDo> {
    let running = service.activity.operation()?;
    if service.activity.set().is_some() {
        return None;
    }
    let phase = running.phase.get().unwrap_or(Phase::Receive);
    let preempt = preempt::by_rollback(running.kind, service.succession(), phase);
    match preempt {
        Preempt::Yields | Preempt::Refused => return None,
        Preempt::Before | Preempt::Itself => {}
    }
    tracing::info!(service = %service.name, op = running.id.0, phase = phase.name(), "aborted by a rollback");
    follow::called_off(&running, client).await;
    let serving = service.serving()?;
    if preempt != Preempt::Itself || to.is_some() || Some(serving) == running.release.get() {
        return None;
    }
    let why = format!("operation {} was aborted, and release {serving} serves", running.id);
    Some(NothingToDo { done: "rolled back", why })
}
