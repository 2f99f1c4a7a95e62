//! Each request to its verb.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use crate::api::{Event, Request, Verb};
use crate::supervisor::control::client::Client;
use crate::supervisor::control::verbs;
use crate::supervisor::service::stack::Stack;

/// Performs one request. `fds` are the descriptors that came with it.
pub(crate) async fn perform(
    stack: &Rc<Stack>,
    request: Request,
    fds: VecDeque<OwnedFd>,
    client: &mut Client,
) {
    let actor = request.actor.as_str();
    let done = match request.verb {
        Verb::Release(args) => verbs::release::perform(stack, actor, args, fds, client).await,
        Verb::ReleaseSet(args) => {
            verbs::release_set::perform(stack, actor, args, fds, client).await
        }
        Verb::Rollback(args) => verbs::rollback::perform(stack, actor, args, client).await,
        Verb::Watch(args) => verbs::watch::perform(stack, args, client).await,
        Verb::WatchSet(args) => verbs::watch::perform_set(stack, args, client).await,
        Verb::Status(args) => verbs::status::perform(stack, args, client).await,
        Verb::History(args) => verbs::history::perform(stack, args, client).await,
        Verb::Releases(args) => verbs::releases::perform(stack, args, client).await,
        Verb::Env(args) => verbs::env::perform(stack, args, client).await,
        Verb::Logs(args) => verbs::logs::perform(stack, args, client).await,
        Verb::Start(args) => verbs::start::perform(stack, args, client).await,
        Verb::Stop(args) => verbs::stop::perform(stack, args, client).await,
        Verb::Restart(args) => verbs::restart::perform(stack, actor, args, client).await,
        Verb::Freeze(args) => verbs::freeze::perform(stack, actor, args, client).await,
        Verb::Thaw(args) => verbs::thaw::perform(stack, args, client).await,
        Verb::Drill(args) => verbs::drill::perform(stack, args, client).await,
        Verb::Backup(args) => verbs::backup::perform(stack, args, client).await,
        Verb::Restore(args) => verbs::restore::perform(stack, actor, args, client).await,
        Verb::Reload(args) => verbs::reload::perform(stack, args, client).await,
        Verb::Repair(args) => verbs::repair::perform(stack, actor, args, client).await,
        Verb::Notify(args) => verbs::notify::perform(stack, args, client).await,
        Verb::Upgrade(args) => verbs::upgrade::perform(stack, args, fds, client).await,
        Verb::Promote(args) => verbs::promote::perform(stack, args, client).await,
        Verb::Abort(args) => verbs::abort::perform(stack, actor, args, client).await,
    };
    if let Err(trouble) = done {
        client.tell(&Event::Error(trouble)).await;
    }
}
