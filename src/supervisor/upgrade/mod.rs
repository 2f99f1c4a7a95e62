//! Halley itself is replaced by another program while everything runs on.
//!
//! The new program is asked first whether it could go on with what there is ([`fitness`]). Then the keeper
//! becomes it, in place, and starts a supervisor of it; when that is not ready in time the keeper becomes
//! the program before again. The client's connection is kept over all of this, and who is ready at last
//! answers it.
//!
//! It must never touch a service.

pub(super) mod fitness;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use crate::api::upgrade::Args;
use crate::api::{Event, Outcome, Trouble};
use crate::core::exit::Exit;
use crate::core::operation::outcome::Word;
use crate::json;
use crate::os::{in_place, recover};
use crate::supervisor::processes::keeper_client::{Inventory, Link};
use crate::supervisor::service::refusal;
use crate::supervisor::service::stack::Stack;
use crate::supervisor::spawn;

/// What the keeper holds meanwhile.
const CLIENT: &str = "upgrade/client";
const PROGRAM: &str = "upgrade/program";

/// Replaces Halley. Returns only when it did not begin.
///
/// # Errors
/// Always: why it did not.
pub(crate) async fn upgrade(
    stack: &Stack,
    args: &Args,
    program: &OwnedFd,
    client: &impl AsFd,
) -> Trouble {
    let link = &stack.shared.link;
    if let Some(busy) = busy(stack) {
        return busy;
    }
    if let Err(problems) = fitness::of(link, &args.program, program).await {
        return trouble(problems.join("\n"), Exit::PreflightRefused);
    }
    // One may have begun meanwhile.
    if let Some(busy) = busy(stack) {
        return busy;
    }
    if let Err(error) = link.keep(CLIENT.to_owned(), client.as_fd()).await {
        return trouble(format!("another upgrade is running ({error})"), Exit::Busy);
    }
    let why = match link.keep(PROGRAM.to_owned(), program.as_fd()).await {
        Ok(()) => link.upgrade(program.as_fd(), Duration::from_millis(args.deadline_ms)).await,
        Err(error) => error,
    };
    forget(link).await;
    trouble(why.to_string(), Exit::Internal)
}

async fn forget(link: &Rc<Link>) {
    for name in [CLIENT, PROGRAM] {
        if let Err(error) = link.forget(name.to_owned()).await {
            tracing::warn!(%error, "closing the files of an upgrade");
        }
    }
}

/// An operation that runs is not interrupted.
fn busy(stack: &Stack) -> Option<Trouble> {
    let services = stack.services.borrow();
    let busy = services.values().find_map(|service| {
        let operation = service.activity.operation();
        let running = operation.map(|running| refusal::busy(service, &running));
        running.or_else(|| refusal::busy_with_set(service))
    })?;
    Some(Trouble { what: format!("halley-sup was not upgraded: {}", busy.what), ..busy })
}

fn trouble(why: String, exit: Exit) -> Trouble {
    Trouble {
        what: "halley-sup was not upgraded".to_owned(),
        why,
        still: format!("halley-sup {} runs, and so do all services", env!("CARGO_PKG_VERSION")),
        next: vec!["halley-sup doctor".to_owned()],
        exit: exit.code(),
    }
}

/// Answers the client of an upgrade that a supervisor before this one has begun.
pub(crate) async fn conclude(stack: &Stack, inventory: &mut Inventory) {
    let link = &stack.shared.link;
    let (client, program) = (inventory.kept.remove(CLIENT), inventory.kept.remove(PROGRAM));
    let Some(client) = client else { return };
    let is_own = |program: &OwnedFd| {
        let own = in_place::own_program().and_then(recover::id_of)?;
        Ok::<_, io::Error>(own == recover::id_of(program)?)
    };
    let event = match program.as_ref().map(is_own) {
        Some(Ok(true)) => {
            let mut outcome = Outcome::new(Word::Upgraded.into(), "halley-sup", 0);
            if let Some(setup) = link.setup() {
                let looked = spawn::blocking(move || elsewhere(&setup.program)).await;
                outcome.warnings.extend(looked.ok().flatten());
            }
            Event::Result(Box::new(outcome))
        }
        _ => {
            let why = "the new program did not get ready; its messages are in the log";
            Event::Error(trouble(why.to_owned(), Exit::RolledBack))
        }
    };
    let told = json::to_vec(&event).map_err(io::Error::from).and_then(|mut line| {
        line.push(b'\n');
        Ok(rustix::net::send(&client, &line, rustix::net::SendFlags::NOSIGNAL)?)
    });
    if let Err(error) = told {
        tracing::info!(%error, "the client of the upgrade has left");
    }
    forget(link).await;
}

/// A warning when the next start is one of another program.
fn elsewhere(started: &Path) -> Option<String> {
    let text = "the next start is of another program: install this one there as well";
    (!in_place::is_own(started)).then(|| format!("{}: {text}", started.display()))
}
