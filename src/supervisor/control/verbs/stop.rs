//! The verb `stop`: a service goes down, and stays down over a reboot.

use crate::api::stop::Args;
use crate::api::{Event, Outcome, Trouble};
use crate::core::operation::outcome::Word;
use crate::core::operation::phase::Phase;
use crate::supervisor::control::client::Client;
use crate::supervisor::operation::stop;
use crate::supervisor::service::outcome::outcome;
use crate::supervisor::service::refusal;
use crate::supervisor::service::stack::Stack;

/// Stops a service that nothing is done to. A commit that waits for the disk is not waited for, and a
/// rollback that has failed gives way.
///
/// # Errors
/// When an operation or a set runs.
pub(crate) async fn perform(stack: &Stack, args: Args, client: &mut Client) -> Result<(), Trouble> {
    let service = &stack.find(&args.service)?;
    if let Some(running) = service.activity.operation() {
        if running.phase.get().is_some_and(Phase::is_commit) {
            running.wait_no_more();
            running.committed().await;
        } else if running.has_stranded() {
            running.gives_way().await;
        }
    }
    let running = service.activity.operation();
    if let Some(running) = running {
        return Err(refusal::busy(service, &running));
    }
    if let Some(busy) = refusal::busy_with_set(service) {
        return Err(busy);
    }
    // A stop needs no disk.
    let saved = service.durable.change(|state| {
        state.stopped = true;
        state.standby = None;
    });
    stop::take_down(service).await;
    let unsaved = |error| format!("a reboot would start it again: {error}");
    let warnings = saved.err().map(unsaved).into_iter().collect();
    stack.forget_removed();
    let stopped = Outcome { warnings, ..outcome(service, Word::Stopped, 0) };
    client.tell(&Event::Result(Box::new(stopped))).await;
    Ok(())
}
