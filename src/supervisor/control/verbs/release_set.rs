//! The verb `release --set`: releases of several services begin as one, and are followed until they
//! are over or one of them waits.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use crate::api::release_set::Args;
use crate::api::{Event, Outcome, Trouble};
use crate::supervisor::control::client::Client;
use crate::supervisor::control::follow::{Followed, Until, follow};
use crate::supervisor::release_set::admission;
use crate::supervisor::service::outcome::holding;
use crate::supervisor::service::release_set::ReleaseSet;
use crate::supervisor::service::stack::Stack;
use crate::supervisor::service::terms::Force;

/// Begins a set and follows it.
///
/// # Errors
/// Why it was not begun.
pub(crate) async fn perform(
    stack: &Rc<Stack>,
    actor: &str,
    args: Args,
    fds: VecDeque<OwnedFd>,
    client: &mut Client,
) -> Result<(), Trouble> {
    let force = if args.force { Force::Yes } else { Force::No };
    let set = admission::begin(stack, actor, args.members, fds, force)?;
    if follow(&*set, client, Until::Held).await == Followed::Held
        && let Some(outcome) = held(stack, &set)
    {
        client.tell(&Event::Result(Box::new(outcome))).await;
    }
    Ok(())
}

/// That the member at hand waits for promote or abort.
fn held(stack: &Stack, set: &ReleaseSet) -> Option<Outcome> {
    let (index, _) = set.place.get()?;
    let service = stack.services.borrow().get(&set.members.get(index)?.0).cloned()?;
    let operation = set.operation.borrow().clone()?;
    Some(holding(&service, &operation))
}
