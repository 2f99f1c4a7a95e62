//! The verb `notify`: somebody tries a target out.

use crate::api::{Event, Outcome, Trouble};
use crate::supervisor::control::server::Client;
use crate::supervisor::service::stack::Stack;

/// Sends a test to a target, and says what came of it.
///
/// # Errors
/// Why it could not be told.
pub async fn notify(stack: &Stack, target: &str, client: &mut Client) -> Result<(), Trouble> {
    let outbox = &stack.shared.outbox;
    let trouble = |why: String, exit: u8| Trouble {
        what: format!("{target} was not told"),
        why,
        still: "nothing was changed".to_owned(),
        next: vec![format!("halley-sup notify {target}")],
        exit,
    };
    match outbox.test(target).await {
        Ok(()) => {}
        Err(Some(why)) => return Err(trouble(why, 1)),
        Err(None) => {
            let names = outbox.targets();
            let hint = crate::config::nearest(target, names.iter().map(String::as_str));
            let hint = hint.map_or(String::new(), |hint| format!("; did you mean {hint}?"));
            let all = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            let why = format!("the configuration has [notify.NAME] of: {all}{hint}");
            return Err(trouble(why, 2));
        }
    }
    let outcome = Outcome {
        outcome: "told".to_owned(),
        service: target.to_owned(),
        op: 0,
        release: None,
        serving: None,
        last_good: None,
        exit: 0,
        warnings: Vec::new(),
        next: Vec::new(),
        trouble: None,
        members: Vec::new(),
    };
    client.tell(&Event::Result(Box::new(outcome))).await;
    Ok(())
}
