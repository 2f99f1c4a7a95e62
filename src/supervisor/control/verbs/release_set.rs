//! What is done for the verbs that are about sets.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use crate::api::{Event, Part, Trouble};
use crate::core::ids::SetId;
use crate::supervisor::control::dispatch::{Followed, Until, follow};
use crate::supervisor::control::server::Client;
use crate::supervisor::operation::context::Force;
use crate::supervisor::release_set::{admission, resume};
use crate::supervisor::service::outcome::holding;
use crate::supervisor::service::release_set::ReleaseSet;
use crate::supervisor::service::stack::Stack;

/// Begins a set and follows it, until it waits for somebody's word.
pub async fn release(
    stack: &Rc<Stack>,
    actor: &str,
    members: Vec<Part>,
    force: Force,
    fds: VecDeque<OwnedFd>,
    client: &mut Client,
) -> Result<(), Trouble> {
    let set = admission::begin(stack, actor, members, fds, force)?;
    if follow(&*set, client, Until::Held).await == Followed::Held {
        let held = held(stack, &set);
        let outcome = held.map(|(service, operation)| holding(&service, &operation));
        if let Some(outcome) = outcome {
            client.tell(&Event::Result(Box::new(outcome))).await;
        }
    }
    Ok(())
}

/// The member that waits for somebody's word.
fn held(
    stack: &Stack,
    set: &ReleaseSet,
) -> Option<(
    Rc<crate::supervisor::service::Service>,
    Rc<crate::supervisor::service::operation::Operation>,
)> {
    let (index, _) = set.place.get()?;
    let service = stack.services.borrow().get(&set.members.get(index)?.0).cloned()?;
    let operation = set.operation.borrow().clone()?;
    Some((service, operation))
}

/// Follows a set from its beginning, while it runs and afterwards.
pub async fn watch(stack: &Rc<Stack>, set: SetId, client: &mut Client) -> Result<(), Trouble> {
    let running = stack.set.borrow().clone().filter(|running| running.id == set);
    if let Some(running) = running {
        follow(&*running, client, Until::Over).await;
        return Ok(());
    }
    let trouble = |why: String| Trouble {
        what: format!("set {set} cannot be watched"),
        why,
        still: "nothing was changed".to_owned(),
        next: vec!["halley-sup history".to_owned()],
        exit: 2,
    };
    match resume::replay(stack, set) {
        Ok(Some(events)) => {
            for event in events {
                client.tell(&event).await;
            }
            Ok(())
        }
        Ok(None) => Err(trouble("there is none of that number".to_owned())),
        Err(error) => Err(trouble(error.to_string())),
    }
}

/// Aborts the set that a service is a member of, and follows it to its end.
pub async fn abort(set: &Rc<ReleaseSet>, actor: &str, client: &mut Client) {
    set.abort(actor);
    follow(&**set, client, Until::Over).await;
}
