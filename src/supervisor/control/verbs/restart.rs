//! The verb `restart`: new processes of the same release.

use crate::api::Trouble;
use crate::api::restart::Args;
use crate::supervisor::control::client::Client;
use crate::supervisor::control::follow::{self, Until};
use crate::supervisor::operation::admission::Wish;
use crate::supervisor::service::stack::Stack;

/// Begins a restart and follows it.
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
    follow::begin(&service, actor, Wish::Restart, client, Until::Over).await?;
    Ok(())
}
