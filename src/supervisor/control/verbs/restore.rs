//! The verb `restore`: a backup over the live data.

use tokio::sync::mpsc;

use crate::api::Trouble;
use crate::api::restore::Args;
use crate::core::data_users::Allowed;
use crate::supervisor::control::client::Client;
use crate::supervisor::operation::restore;
use crate::supervisor::operation::restore_request::Wish;
use crate::supervisor::service::stack::Stack;

/// Performs a restore, or answers with what it would do. A client that goes away changes nothing.
///
/// # Errors
/// Why the data is as it was.
pub(crate) async fn perform(
    stack: &Stack,
    actor: &str,
    args: Args,
    client: &mut Client,
) -> Result<(), Trouble> {
    let service = stack.find(&args.service)?;
    let Args { backup, dry_run, yes, unsaved, any_loss, seen, .. } = args;
    let allowed = Allowed { services: args.stop_users, sessions: args.end_sessions };
    let wish = Wish { backup, dry_run, yes, unsaved, any_loss, allowed, seen };
    let mut others = stack.in_order().0;
    others.retain(|other| other.name != service.name);
    let (events, mut inbox) = mpsc::unbounded_channel();
    let restored = {
        let mut restoring =
            std::pin::pin!(restore::restore(&service, others, actor, wish, &events));
        loop {
            tokio::select! {
                biased;
                Some(event) = inbox.recv() => drop(client.tell(&event).await),
                restored = &mut restoring => break restored,
            }
        }
    };
    while let Ok(event) = inbox.try_recv() {
        client.tell(&event).await;
    }
    restored
}
