//! The verb `promote`: a step, a bake or a hold ends as a success.

use crate::api::promote::Args;
use crate::api::{Event, Trouble};
use crate::core::exit::Exit;
use crate::core::operation::outcome::Word;
use crate::core::operation::phase::Promotion;
use crate::supervisor::control::client::Client;
use crate::supervisor::control::follow::{Until, follow};
use crate::supervisor::service::outcome::outcome;
use crate::supervisor::service::refusal;
use crate::supervisor::service::stack::Stack;
use crate::text;

/// Orders it, and follows the operation to its result; a step only to its end.
///
/// # Errors
/// When nothing runs that could be promoted, or what ran has ended by itself.
pub(crate) async fn perform(stack: &Stack, args: Args, client: &mut Client) -> Result<(), Trouble> {
    let service = &stack.find(&args.service)?;
    let running = service.activity.operation();
    let running = running.ok_or_else(|| refusal::idle(service, "promoted"))?;
    let phase = running.phase.get();
    let seen = phase.and_then(|phase| Some((phase, phase.promotion()?)));
    let Some((seen, promotion)) = seen else {
        let why = format!(
            "operation {} is in phase {}; promote ends a step, a bake or a hold",
            running.id,
            running.phase_name()
        );
        return Err(refusal::refusal(service, "promoted", &why, Exit::Usage, &["status"]));
    };
    if !running.promote(seen).await {
        let why = format!(
            "phase {} of operation {} was over before",
            text::phase(&seen.name()),
            running.id
        );
        return Err(refusal::refusal(service, "promoted", &why, Exit::Usage, &["status"]));
    }
    if promotion == Promotion::Trial {
        follow(&*running, client, Until::Over).await;
        return Ok(());
    }
    // The next step has its own verdict: `watch` follows it.
    let mut grew = running.events.watch();
    while running.phase.get() == phase && !running.is_over() && grew.changed().await.is_ok() {}
    let promoted = outcome(service, Word::Promoted, running.id.0);
    client.tell(&Event::Result(Box::new(promoted))).await;
    Ok(())
}
