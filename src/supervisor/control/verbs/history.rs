//! The verb `history`: past operations.

use crate::api::history::Args;
use crate::api::{Event, Trouble};
use crate::core::exit::Exit;
use crate::supervisor::control::client::Client;
use crate::supervisor::service::stack::Stack;

/// Answers with past operations, newest first.
///
/// # Errors
/// When there is no such service, or the history cannot be read.
pub(crate) async fn perform(stack: &Stack, args: Args, client: &mut Client) -> Result<(), Trouble> {
    let service = args.service.as_deref();
    if let Some(name) = service {
        stack.known(name)?;
    }
    let path = stack.shared.layout.history();
    let operations = stack.shared.history.read(service, args.limit).map_err(|error| Trouble {
        what: "the history cannot be read".to_owned(),
        why: format!("{}: {error}", path.display()),
        still: "nothing was changed".to_owned(),
        next: vec!["halley-sup status".to_owned()],
        exit: Exit::Internal.code(),
    })?;
    client.tell(&Event::History { operations }).await;
    Ok(())
}
