//! The verb `watch`: an operation or a set from its beginning to its result, while it runs and
//! afterwards.

use std::rc::Rc;

use crate::api::Trouble;
use crate::api::watch::{Args, SetArgs};
use crate::core::exit::Exit;
use crate::core::ids::{OpId, SetId};
use crate::store::journal;
use crate::supervisor::control::client::Client;
use crate::supervisor::control::follow::{Until, follow};
use crate::supervisor::release_set::resume;
use crate::supervisor::service::Service;
use crate::supervisor::service::stack::Stack;

/// Follows an operation; one that is over is read from its journal.
///
/// # Errors
/// When it does not exist, or several.
pub(crate) async fn perform(stack: &Stack, args: Args, client: &mut Client) -> Result<(), Trouble> {
    let op = OpId(args.op);
    let refused = |why: String| refusal(format!("operation {op}"), why);
    let service = service_of(stack, op, args.service.as_deref())?;
    if let Some(operation) = service.activity.operation_of(op) {
        follow(&*operation, client, Until::Over).await;
        return Ok(());
    }
    let read = journal::read(&service.paths, op).map_err(|error| refused(error.to_string()))?;
    let Some((_, records)) = read else { return Err(refused("its journal is empty".to_owned())) };
    for event in records.iter().filter_map(journal::Record::event) {
        client.tell(&event).await;
    }
    Ok(())
}

/// Follows a set; one that is over is read from its journal.
///
/// # Errors
/// When it does not exist.
pub(crate) async fn perform_set(
    stack: &Stack,
    args: SetArgs,
    client: &mut Client,
) -> Result<(), Trouble> {
    let set = SetId(args.set);
    let running = stack.set.borrow().clone().filter(|running| running.id == set);
    if let Some(running) = running {
        follow(&*running, client, Until::Over).await;
        return Ok(());
    }
    let refused = |why: String| refusal(format!("set {set}"), why);
    let events = resume::replay(stack, set).map_err(|error| refused(error.to_string()))?;
    for event in events.ok_or_else(|| refused("it does not exist".to_owned()))? {
        client.tell(&event).await;
    }
    Ok(())
}

/// The one service that has an operation of this number.
fn service_of(stack: &Stack, op: OpId, named: Option<&str>) -> Result<Rc<Service>, Trouble> {
    if let Some(name) = named {
        stack.find(name)?;
    }
    let services = stack.services.borrow();
    let wanted: Vec<&Rc<Service>> = services
        .values()
        .filter(|known| named.is_none_or(|name| known.name.as_str() == name))
        .filter(|known| known.activity.operation_of(op).is_some() || known.paths.op(op).is_dir())
        .collect();
    let refused = |why: String| refusal(format!("operation {op}"), why);
    match wanted.as_slice() {
        [service] => Ok(Rc::clone(service)),
        [] => Err(refused("it does not exist".to_owned())),
        several => {
            let names: Vec<&str> = several.iter().map(|known| known.name.as_str()).collect();
            let names = names.join(", ");
            Err(refused(format!("several services have one: {names}; give the service too")))
        }
    }
}

fn refusal(what: String, why: String) -> Trouble {
    Trouble {
        what: format!("{what} cannot be watched"),
        why,
        still: "nothing was changed".to_owned(),
        next: vec!["halley-sup history".to_owned()],
        exit: Exit::Usage.code(),
    }
}
