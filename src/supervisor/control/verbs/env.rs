//! The verb `env`: what a program of a release is started with.

use crate::api::env::{Args, Surroundings, User};
use crate::api::{Event, Trouble};
use crate::config::host::Start;
use crate::core::exit::Exit;
use crate::core::ids::ReleaseId;
use crate::core::secret;
use crate::json;
use crate::supervisor::control::client::Client;
use crate::supervisor::service::stack::Stack;
use crate::supervisor::service::{child_spec, refusal, settings};

/// Answers with the user, the environment and the tree of a release.
///
/// # Errors
/// When there is no such service or release, or its user is not known.
pub(crate) async fn perform(stack: &Stack, args: Args, client: &mut Client) -> Result<(), Trouble> {
    let service = stack.find(&args.service)?;
    let refused = |why: &str| {
        let what = format!("{}: no environment can be shown", service.name);
        Trouble { what, ..refusal::refusal(&service, "", why, Exit::Usage, &["releases"]) }
    };
    let serving = service.serving().or(service.durable.last_good());
    let release =
        args.release.map(ReleaseId).or(serving).ok_or_else(|| refused("no release is good yet"))?;
    if !service.paths.release(release).is_dir() {
        return Err(refused(&format!("there is no release {release} on this disk")));
    }
    let start = if Some(release) == serving { Start::Again } else { Start::Back };
    let settings = settings::of_start(&service, release, start)
        .map_err(|error| refused(&error.to_string()))?;
    let user = child_spec::user_of(&settings).map_err(|error| refused(&error.to_string()))?;
    let shown = |(name, value): (String, String)| {
        let value = if args.show { value } else { secret::masked(&name, &value) };
        (name, value)
    };
    let variables = child_spec::environment_of(&service, release, &settings);
    let surroundings = Surroundings {
        service: service.name.to_string(),
        release: release.0,
        dir: service.paths.release(release).to_string_lossy().into_owned(),
        user: user.map(|user| User { uid: user.uid, gid: user.gid, groups: user.groups }),
        limits: json::to_value(&settings.limits).ok().filter(|_| !settings.limits.is_none()),
        variables: variables.into_iter().map(shown).collect(),
    };
    client.tell(&Event::Env(Box::new(surroundings))).await;
    Ok(())
}
