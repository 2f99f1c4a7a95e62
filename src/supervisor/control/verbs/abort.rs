//! The verb `abort`: a running operation, or the set that it is of, goes back to what served before.
//! An operation that cannot be resumed is closed, and a rollback leads back.

use crate::api::abort::Args;
use crate::api::{Event, Trouble};
use crate::core::exit::Exit;
use crate::core::operation::machine::Kind;
use crate::supervisor::control::client::Client;
use crate::supervisor::control::follow::{Until, follow};
use crate::supervisor::operation::unresumed::{self, Closed};
use crate::supervisor::service::operation::Order;
use crate::supervisor::service::refusal;
use crate::supervisor::service::stack::Stack;

/// Orders it, and follows what is aborted to its result.
///
/// # Errors
/// When nothing runs, or what runs goes back already because somebody wants it.
pub(crate) async fn perform(
    stack: &Stack,
    actor: &str,
    args: Args,
    client: &mut Client,
) -> Result<(), Trouble> {
    let service = &stack.find(&args.service)?;
    let set = service.activity.set();
    if let Some(set) = set {
        set.abort(actor);
        follow(&*set, client, Until::Over).await;
        return Ok(());
    }
    if let Some(unresumed) = service.activity.unresumed() {
        match unresumed::close(service, actor, &unresumed).await? {
            Closed::Stays(outcome) => {
                client.tell(&Event::Result(outcome)).await;
            }
            Closed::GoesBack(rollback) => {
                follow(&*rollback, client, Until::Over).await;
            }
        }
        return Ok(());
    }
    let running = service.activity.operation();
    let running = running.ok_or_else(|| refusal::idle(service, "aborted"))?;
    running.order(Order::Abort);
    if running.kind == Kind::Rollback {
        let why = format!("operation {} is a rollback, and a rollback is not aborted", running.id);
        return Err(refusal::refusal(service, "aborted", &why, Exit::Usage, &["status"]));
    }
    follow(&*running, client, Until::Over).await;
    tracing::info!(service = %service.name, still = refusal::still(service), "aborted");
    Ok(())
}
