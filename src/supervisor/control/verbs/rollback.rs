//! The verb `rollback`: an earlier release comes back.

use crate::api::Trouble;
use crate::api::rollback::Args;
use crate::core::operation::preempt;
use crate::supervisor::control::client::Client;
use crate::supervisor::control::follow::{self, Until};
use crate::supervisor::operation::admission::Wish;
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
    let wish = Wish::Rollback { to: args.to };
    follow::begin(&service, actor, wish, client, Until::Over).await?;
    Ok(())
}

/// Calls off what runs, but for a set. Returns what there is left to do about: nothing, where its own way
/// back was the rollback.
async fn preempt(service: &Service, to: Option<u64>, client: &mut Client) -> Option<NothingToDo> {
    let running = service.activity.operation().filter(|_| service.activity.set().is_none())?;
    let last = follow::preempted(&running, client).await?;
    if to.is_some() || !preempt::was_rollback(running.kind, last) {
        return None;
    }
    let serving = service.serving()?;
    let why = format!("operation {} was aborted, and release {serving} serves", running.id);
    Some(NothingToDo { why })
}
