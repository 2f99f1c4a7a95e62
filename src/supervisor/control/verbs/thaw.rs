//! The verb `thaw`: releases are allowed again, of the service or of one artifact.

use crate::api::thaw::Args;
use crate::api::{Event, Trouble};
use crate::core::exit::Exit;
use crate::core::ids::ReleaseId;
use crate::core::operation::outcome::Word;
use crate::store::release;
use crate::supervisor::control::client::Client;
use crate::supervisor::service::outcome;
use crate::supervisor::service::refusal::{self, NothingToDo};
use crate::supervisor::service::stack::Stack;

/// Releases are allowed again: of the service, or of the artifact that this release was.
///
/// # Errors
/// When it cannot be written down.
pub(crate) async fn perform(stack: &Stack, args: Args, client: &mut Client) -> Result<(), Trouble> {
    let (service, of) = (&stack.find(&args.service)?, args.release);
    let digest = of.and_then(|of| {
        release::known(&service.paths, ReleaseId(of)).ok().map(|known| known.manifest.digest)
    });
    let found = {
        let state = service.durable.state();
        match of {
            Some(of) => state
                .frozen
                .iter()
                .any(|frozen| frozen.release == of || Some(&frozen.digest) == digest.as_ref()),
            None => state.freeze.is_some(),
        }
    };
    if !found {
        let why = match of {
            Some(of) => format!("the artifact of release {of} is not frozen"),
            None => format!("{} is not frozen", service.name),
        };
        client.tell(&NothingToDo { why }.answer(service)).await;
        return Ok(());
    }
    let saved = service.durable.save(|state| match of {
        Some(of) => state
            .frozen
            .retain(|frozen| frozen.release != of && Some(&frozen.digest) != digest.as_ref()),
        None => state.freeze = None,
    });
    saved.map_err(|e| {
        refusal::refusal(service, "thawed", &e.to_string(), Exit::NoSpace, &["status"])
    })?;
    client.tell(&Event::Result(Box::new(outcome::outcome(service, Word::Thawed, 0)))).await;
    Ok(())
}
