//! Processes of services that are not managed: one that could not be taken over, or that is not in
//! the configuration any more.
//!
//! They serve on, so nothing here stops them. What they write is read, or they would block, and
//! their ends are noted, or the keeper would wait for that for ever.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::config::model::Full;
use crate::core::ids::ServiceName;
use crate::keeper::protocol::End;
use crate::supervisor::processes::child_tag::Label;
use crate::supervisor::processes::keeper_client::{Found, Link};
use crate::supervisor::processes::log_files::LogFiles;
use crate::supervisor::processes::log_pipe::Pump;
use crate::supervisor::service::child_spec;
use crate::supervisor::service::stack::{Stack, Stranger};
use crate::supervisor::spawn;

/// Attends to all of them, as the keeper's list has them at this instant.
pub(crate) async fn attend(stack: &Stack) {
    let mut inventory = match stack.shared.link.inventory().await {
        Ok(inventory) => inventory,
        Err(error) => return tracing::error!(%error, "looking for processes of no service"),
    };
    leave(stack);
    let mut logs: BTreeMap<ServiceName, LogFiles> = BTreeMap::new();
    for found in inventory.children {
        let label = Label::read(&found.label);
        if label.as_ref().is_some_and(|label| is_managed(stack, label)) {
            continue;
        }
        let named =
            label.and_then(|label| Some((label.service.parse::<ServiceName>().ok()?, label)));
        let follow = spawn::local(follow(Rc::clone(&stack.shared.link), found.clone()));
        let mut pump = None;
        if let Some((name, label)) = &named {
            let output = child_spec::output_name(name, label.generation(), label.index());
            let spool = child_spec::spool_name(name, label.generation(), label.index());
            let kept = (inventory.kept.remove(&output), inventory.kept.remove(&spool));
            let files = || LogFiles::new(stack.shared.layout.service(name).logs(), Full::Drop);
            let writer = logs.entry(name.clone()).or_insert_with(files).writer(label.release());
            match Pump::resume(kept, label.instance, writer) {
                Ok(begun) => pump = begun,
                Err(error) => tracing::error!(service = %name, %error, "reading its output"),
            }
        }
        let label = named.map(|(_, label)| label);
        stack.strangers.borrow_mut().push(Stranger {
            label,
            identity: found.identity,
            follow,
            pump,
        });
    }
}

/// Lets go of all of them: a service is about to take its own over.
pub(super) fn leave(stack: &Stack) {
    for stranger in stack.strangers.take() {
        stranger.follow.abort();
    }
}

/// Commands of the stack itself are those who run them to mind.
fn is_managed(stack: &Stack, label: &Label) -> bool {
    let services = stack.services.borrow();
    label.is_of_no_service() || services.keys().any(|name| name.as_str() == label.service)
}

async fn follow(link: Rc<Link>, found: Found) {
    let mut end = link.end_of(found.child);
    if let Some(end) = found.end {
        link.child_ended(found.child, end);
    }
    let Ok(ended) = end.wait_for(Option::is_some).await.map(|end| *end) else { return };
    let (pid, ended) = (found.identity.pid, ended.unwrap_or(End::Unknown));
    tracing::warn!(pid, %ended, label = found.label, "a process of a service that is not managed ended");
    link.acknowledge(found.child).await;
}
