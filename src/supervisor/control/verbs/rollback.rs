//! The verb `rollback`: an earlier release comes back.

use crate::api::Trouble;
use crate::api::rollback::Args;
use crate::supervisor::control::client::Client;
use crate::supervisor::control::follow::{Until, follow, operation};
use crate::supervisor::operation::admission::{self, Wish};
use crate::supervisor::service::stack::Stack;

/// Begins a rollback and follows it.
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
    let begun = admission::begin(&service, actor, Wish::Rollback { to: args.to }).await?;
    let Some(operation) = operation(&service, begun, client).await else { return Ok(()) };
    follow(&*operation, client, Until::Over).await;
    Ok(())
}
