//! The verb `reload`: the configuration is read again, and used as a whole or not at all.

use std::rc::Rc;

use crate::api::reload::{Args, Reload};
use crate::api::{Event, Trouble};
use crate::config::Problem;
use crate::core::exit::Exit;
use crate::supervisor::control::client::Client;
use crate::supervisor::operation::reload;
use crate::supervisor::service::stack::Stack;

/// Answers with what is different from what is in use.
///
/// # Errors
/// When the files cannot be used.
pub(crate) async fn perform(
    stack: &Rc<Stack>,
    args: Args,
    client: &mut Client,
) -> Result<(), Trouble> {
    let shared = &stack.shared;
    let answer = match args.dry_run {
        true => {
            let changes = shared.last_config.differences(&shared.config_path);
            changes.map(|changes| Reload { applied: false, changes, warnings: Vec::new() })
        }
        false => reload::reload(stack).await,
    };
    let answer = answer.map_err(refused)?;
    client.tell(&Event::Reload(Box::new(answer))).await;
    Ok(())
}

fn refused(problems: Vec<Problem>) -> Trouble {
    let why: Vec<String> = problems.iter().map(ToString::to_string).collect();
    Trouble {
        what: "the configuration was not reloaded".to_owned(),
        why: why.join("\n"),
        still: "the configuration before stays in use; nothing was changed".to_owned(),
        next: vec!["halley-sup check".to_owned()],
        exit: Exit::Usage.code(),
    }
}
