//! The verb `notify`: a test notification to a target.

use crate::api::notify::Args;
use crate::api::{Event, Outcome, Trouble};
use crate::core::exit::Exit;
use crate::core::operation::outcome::Word;
use crate::supervisor::control::client::Client;
use crate::supervisor::notify::queue::TestError;
use crate::supervisor::service::stack::Stack;

/// Sends a test to a target, and reports what came of it.
///
/// # Errors
/// Why it was not delivered.
pub(crate) async fn perform(stack: &Stack, args: Args, client: &mut Client) -> Result<(), Trouble> {
    let target = args.target.as_str();
    let outbox = &stack.shared.outbox;
    let trouble = |why: String, exit: Exit| Trouble {
        what: format!("the notification to {target} was not delivered"),
        why,
        still: "nothing was changed".to_owned(),
        next: vec![format!("halley-sup notify {target}")],
        exit: exit.code(),
    };
    match outbox.test(target).await {
        Ok(()) => {}
        Err(TestError::Delivery(error)) => {
            return Err(trouble(error.to_string(), Exit::Internal));
        }
        Err(TestError::NoTarget) => {
            let names = outbox.targets();
            let hint = crate::config::nearest(target, names.iter().map(String::as_str));
            let hint = hint.map_or(String::new(), |hint| format!("; did you mean {hint}?"));
            let all = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            let why = format!("the configuration has [notify.NAME] of: {all}{hint}");
            let next = vec!["halley-sup status".to_owned()];
            return Err(Trouble { next, ..trouble(why, Exit::Usage) });
        }
    }
    let outcome = Outcome::new(Word::Told.into(), target, 0);
    client.tell(&Event::Result(Box::new(outcome))).await;
    Ok(())
}
