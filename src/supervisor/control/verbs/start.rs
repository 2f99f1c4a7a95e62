//! The verb `start`: a stopped service serves again.

use crate::api::start::Args;
use crate::api::{Event, Outcome, Trouble};
use crate::core::exit::Exit;
use crate::core::operation::outcome::Word;
use crate::supervisor::control::client::Client;
use crate::supervisor::operation::{alarm, start_last_good, take_in};
use crate::supervisor::service::outcome::outcome;
use crate::supervisor::service::refusal;
use crate::supervisor::service::stack::Stack;

/// Starts the last good release, and waits for it as long as its health check may take.
///
/// # Errors
/// When there is no good release, or the service is not up in time.
pub(crate) async fn perform(stack: &Stack, args: Args, client: &mut Client) -> Result<(), Trouble> {
    take_in::try_again(stack, &args.service).await;
    let service = &stack.find(&args.service)?;
    let saved = service.durable.change(|state| state.stopped = false);
    if service.durable.state().last_good.is_none() {
        let why = "there is no good release yet: release one";
        let mut trouble = refusal::refusal(service, "started", why, Exit::NoTarget, &[]);
        trouble.next = vec![format!("halley-sup release {} SOURCE", service.name)];
        return Err(trouble);
    }
    let is_finished = service.condition.is_finished();
    let live = service.live_generation().filter(|_| !is_finished);
    let is_up = live.is_some();
    let is_over = match is_finished {
        true => start_last_good::begin_again(service).await,
        false => is_up || start_last_good::bring_up_within_deadline(service).await,
    };
    // What ails one that serves already did not keep it from being started.
    if !live.is_some_and(|live| live.is_alive()) {
        start_last_good::answer(service, is_over)?;
    }
    let unsaved = |error| format!("a reboot would not start it: {error}");
    let settled = if is_up { Ok(()) } else { alarm::settle(service) };
    let unsettled = |error| format!("the alarm stays: {error}");
    let warnings = saved.err().map(unsaved).into_iter().chain(settled.err().map(unsettled));
    let warnings = warnings.collect();
    let started = Outcome { warnings, ..outcome(service, Word::Started, 0) };
    client.tell(&Event::Result(Box::new(started))).await;
    Ok(())
}
