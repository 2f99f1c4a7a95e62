//! The verb `freeze`: no releases of a service until it is thawed. Rollbacks are always allowed.

use crate::api::freeze::Args;
use crate::api::{Event, Trouble};
use crate::core::exit::Exit;
use crate::core::operation::outcome::Word;
use crate::os::clock;
use crate::store::state::Freeze;
use crate::supervisor::control::client::Client;
use crate::supervisor::service::outcome;
use crate::supervisor::service::refusal;
use crate::supervisor::service::stack::Stack;

/// No releases from here on; one that runs goes on.
///
/// # Errors
/// When it cannot be written down.
pub(crate) async fn perform(
    stack: &Stack,
    actor: &str,
    args: Args,
    client: &mut Client,
) -> Result<(), Trouble> {
    let service = &stack.find(&args.service)?;
    let freeze = Freeze { at: clock::now_rfc3339(), actor: actor.to_owned(), why: args.why };
    let saved = service.durable.save(|state| state.freeze = Some(freeze));
    saved.map_err(|e| {
        refusal::refusal(service, "frozen", &e.to_string(), Exit::NoSpace, &["status"])
    })?;
    client.tell(&Event::Result(Box::new(outcome::outcome(service, Word::Frozen, 0)))).await;
    Ok(())
}
