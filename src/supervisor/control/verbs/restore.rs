//! The verb `restore`: a backup over the live data.

use tokio::sync::mpsc;

use crate::api::Trouble;
use crate::api::restore::Args;
use crate::core::data_users::Allowed;
use crate::supervisor::control::client::Client;
use crate::supervisor::instances::ownership;
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
    let restoring = async {
        let restored = restore::restore(&service, others, actor, wish, &events).await;
        ownership::reconcile(&service).await;
        drop(events);
        restored
    };
    let telling = async {
        while let Some(event) = inbox.recv().await {
            client.tell(&event).await;
        }
    };
    // A client that does not read keeps nothing waiting but itself.
    tokio::join!(restoring, telling).0
}
