//! The verb `upgrade`: Halley itself is replaced by another program.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use crate::api::upgrade::Args;
use crate::api::{Event, Trouble};
use crate::core::exit::Exit;
use crate::supervisor::control::client::Client;
use crate::supervisor::service::stack::Stack;
use crate::supervisor::upgrade;

/// Does it. The supervisor that comes answers.
///
/// # Errors
/// Why it did not begin.
pub(crate) async fn perform(
    stack: &Stack,
    args: Args,
    mut fds: VecDeque<OwnedFd>,
    client: &mut Client,
) -> Result<(), Trouble> {
    let Some(program) = fds.pop_front() else {
        client.refuse("no program came with the request", Exit::Usage).await;
        return Ok(());
    };
    let trouble = upgrade::upgrade(stack, &args, &program, client.stream()).await;
    client.tell(&Event::Error(trouble)).await;
    Ok(())
}
