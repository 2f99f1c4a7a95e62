//! Each request to its verb.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use crate::api::{Event, Request, Verb};
use crate::supervisor::control::client::Client;
use crate::supervisor::control::verbs::{
    abort, backup, drill, freeze, history, logs, notify, promote, release, release_set, releases,
    restart, restore, rollback, start, status, stop, thaw, watch,
};
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
        Verb::Release(args) => release::perform(stack, actor, args, fds, client).await,
        Verb::ReleaseSet(args) => release_set::perform(stack, actor, args, fds, client).await,
        Verb::Rollback(args) => rollback::perform(stack, actor, args, client).await,
        Verb::Watch(args) => watch::perform(stack, args, client).await,
        Verb::WatchSet(args) => watch::perform_set(stack, args, client).await,
        Verb::Status(args) => status::perform(stack, args, client).await,
        Verb::History(args) => history::perform(stack, args, client).await,
        Verb::Releases(args) => releases::perform(stack, args, client).await,
        Verb::Logs(args) => logs::perform(stack, args, client).await,
        Verb::Start(args) => start::perform(stack, args, client).await,
        Verb::Stop(args) => stop::perform(stack, args, client).await,
        Verb::Restart(args) => restart::perform(stack, actor, args, client).await,
        Verb::Freeze(args) => freeze::perform(stack, actor, args, client).await,
        Verb::Thaw(args) => thaw::perform(stack, args, client).await,
        Verb::Drill(args) => drill::perform(stack, args, client).await,
        Verb::Backup(args) => backup::perform(stack, args, client).await,
        Verb::Restore(args) => restore::perform(stack, actor, args, client).await,
        Verb::Notify(args) => notify::perform(stack, args, client).await,
        Verb::Promote(args) => promote::perform(stack, args, client).await,
        Verb::Abort(args) => abort::perform(stack, actor, args, client).await,
    };
    if let Err(trouble) = done {
        client.tell(&Event::Error(trouble)).await;
    }
}
