//! `freeze` and `thaw`: no releases of a service until somebody says so. Rollbacks always go.

use std::rc::Rc;

use crate::api::{Event, Trouble};
use crate::os::clock;
use crate::store::release;
use crate::store::state::Freeze;
use crate::supervisor::control::server::Client;
use crate::supervisor::service::Service;
use crate::supervisor::service::outcome;
use crate::supervisor::service::refusal;

/// No releases from here on; one that runs goes on.
///
/// # Errors
/// When it cannot be written down.
pub async fn freeze(
    service: &Rc<Service>,
    actor: &str,
    why: String,
    client: &mut Client,
) -> Result<(), Trouble> {
    let freeze = Freeze { at: clock::now_rfc3339(), actor: actor.to_owned(), why };
    let saved = service.save(|state| state.freeze = Some(freeze));
    saved.map_err(|e| refusal::refusal(service, "frozen", &e.to_string(), 13, &["status"]))?;
    client.tell(&Event::Result(Box::new(outcome::outcome(service, "frozen", 0)))).await;
    Ok(())
}

/// Releases are allowed again: of the service, or of the artifact that this release was.
///
/// # Errors
/// When nothing is frozen, or it cannot be written down.
pub async fn thaw(
    service: &Rc<Service>,
    of: Option<u64>,
    client: &mut Client,
) -> Result<(), Trouble> {
    let refused = |why: &str, exit| refusal::refusal(service, "thawed", why, exit, &["status"]);
    let digest = of.and_then(|of| {
        release::known(&service.paths, crate::core::ids::ReleaseId(of))
            .ok()
            .map(|known| known.manifest.digest)
    });
    let found = {
        let state = service.state.borrow();
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
            None => "it is not frozen".to_owned(),
        };
        return Err(refused(&why, 0));
    }
    let saved = service.save(|state| match of {
        Some(of) => state
            .frozen
            .retain(|frozen| frozen.release != of && Some(&frozen.digest) != digest.as_ref()),
        None => state.freeze = None,
    });
    saved.map_err(|error| refused(&error.to_string(), 13))?;
    client.tell(&Event::Result(Box::new(outcome::outcome(service, "thawed", 0)))).await;
    Ok(())
}
