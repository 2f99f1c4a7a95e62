//! The verb `restore`: a backup over the live data.

use crate::api::Trouble;
use crate::api::restore::Args;
use crate::supervisor::control::client::Client;
use crate::supervisor::data::restore::{self, Wish};
use crate::supervisor::service::stack::Stack;

/// Performs a restore, or answers with what it would do.
///
/// # Errors
/// Why the data is as it was.
pub(crate) async fn perform(
    stack: &Stack,
    actor: &str,
    args: Args,
    client: &mut Client,
) -> Result<(), Trouble> {
    let Args { service, backup, dry_run, yes, unsaved } = args;
    let service = stack.find(&service)?;
    restore::restore(&service, actor, Wish { backup, dry_run, yes, unsaved }, client).await
}
