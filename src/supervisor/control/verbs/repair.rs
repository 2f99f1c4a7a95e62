//! The verb `repair`: what is damaged of a service's files is shown and, when confirmed, rebuilt.

use crate::api::repair::Args;
use crate::api::{Event, Outcome, Trouble};
use crate::core::operation::outcome::Word;
use crate::supervisor::control::client::Client;
use crate::supervisor::control::follow::{Until, follow};
use crate::supervisor::operation::repair::{self, Repaired};
use crate::supervisor::operation::unresumed::Closed;
use crate::supervisor::service::stack::Stack;

/// Shows it, and does it when it is confirmed.
///
/// # Errors
/// When the service is busy, or something cannot be written.
pub(crate) async fn perform(
    stack: &Stack,
    actor: &str,
    args: Args,
    client: &mut Client,
) -> Result<(), Trouble> {
    match repair::repair(stack, actor, &args).await? {
        Repaired::Whole(answer) => client.tell(&answer).await,
        Repaired::Shown(plan) => {
            client.tell(&Event::Repair(Box::new(plan))).await;
            let shown = Outcome::new(Word::Planned.into(), &args.service, 0);
            client.tell(&Event::Result(Box::new(shown))).await
        }
        Repaired::Done { plan, outcome, closed } => {
            client.tell(&Event::Repair(Box::new(plan))).await;
            if let Some(Closed::GoesBack(rollback)) = closed {
                follow(&*rollback, client, Until::Over).await;
                return Ok(());
            }
            client.tell(&Event::Result(outcome)).await
        }
    };
    Ok(())
}
