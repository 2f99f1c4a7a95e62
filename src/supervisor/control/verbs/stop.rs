//! The verb `stop`: a service goes down, and stays down over a reboot.

use crate::api::stop::Args;
use crate::api::{Event, Trouble};
use crate::core::exit::Exit;
use crate::core::operation::outcome::Word;
use crate::supervisor::control::client::Client;
use crate::supervisor::operation::stop;
use crate::supervisor::service::outcome::outcome;
use crate::supervisor::service::refusal;
use crate::supervisor::service::stack::Stack;

/// Stops a service that nothing is done to.
///
/// # Errors
/// When an operation or a set runs, or it cannot be written down.
pub(crate) async fn perform(stack: &Stack, args: Args, client: &mut Client) -> Result<(), Trouble> {
    let service = &stack.find(&args.service)?;
    let running = service.activity.operation();
    if let Some(running) = running {
        return Err(refusal::busy(service, &running));
    }
    if let Some(busy) = refusal::busy_with_set(service) {
        return Err(busy);
    }
    let saved = service.durable.save(|state| {
        state.stopped = true;
        state.standby = None;
    });
    saved.map_err(|e| {
        refusal::refusal(service, "stopped", &e.to_string(), Exit::NoSpace, &["status"])
    })?;
    stop::take_down(service).await;
    client.tell(&Event::Result(Box::new(outcome(service, Word::Stopped, 0)))).await;
    Ok(())
}
