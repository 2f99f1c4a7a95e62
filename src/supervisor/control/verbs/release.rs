//! The verb `release`: an operation begins, and is followed until it is over or waits.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use crate::api::release::Args;
use crate::api::{Event, Trouble};
use crate::core::exit::Exit;
use crate::supervisor::control::client::Client;
use crate::supervisor::control::follow::{self, Until};
use crate::supervisor::operation::admission::Wish;
use crate::supervisor::service::outcome::holding;
use crate::supervisor::service::refusal;
use crate::supervisor::service::stack::Stack;
use crate::supervisor::service::terms::{Extent, Force, Terms};

/// Begins a release and follows it.
///
/// # Errors
/// Why it was not begun.
pub(crate) async fn perform(
    stack: &Stack,
    actor: &str,
    args: Args,
    mut fds: VecDeque<OwnedFd>,
    client: &mut Client,
) -> Result<(), Trouble> {
    let service = stack.find(&args.service)?;
    let Some(source) = fds.pop_front() else {
        let why = "the request has no artifact";
        return Err(refusal::refusal(&service, "released", why, Exit::Usage, &["status"]));
    };
    if let Err(mut refused) = stack.addresses_are_free(&service, "released") {
        refused.next.push(format!("halley-sup release {} SOURCE", service.name));
        return Err(refused);
    }
    let force = if args.force { Force::Yes } else { Force::No };
    let extent = if args.dry_run { Extent::Plan } else { Extent::Whole };
    let terms = Terms { force, no_way_back: args.no_way_back, extent };
    let wish = Wish::Release { source, name: args.source, terms };
    if let Some(operation) = follow::begin(&service, actor, wish, client, Until::Held).await? {
        client.tell(&Event::Result(Box::new(holding(&service, &operation)))).await;
    }
    Ok(())
}
