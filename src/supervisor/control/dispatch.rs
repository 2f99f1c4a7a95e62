//! What the supervisor does for each verb of the command line.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use crate::api;
use crate::api::{Event, PhaseState, Request, Trouble, Verb};
use crate::core::ids::{OpId, ReleaseId, SetId};
use crate::core::operation::phase::Phase;
use crate::os::clock;
use crate::store::{history, journal};
use crate::supervisor::control::server::Client;
use crate::supervisor::control::verbs;
use crate::supervisor::data::restore;
use crate::supervisor::operation::admission::{self, Wish};
use crate::supervisor::operation::context::{Extent, Force, Terms};
use crate::supervisor::operation::start_last_good;
use crate::supervisor::operation::status;
use crate::supervisor::processes::log_files::{Follow, tail};
use crate::supervisor::run;
use crate::supervisor::service::Service;
use crate::supervisor::service::followable::Watched;
use crate::supervisor::service::operation::Order;
use crate::supervisor::service::outcome::{holding, outcome};
use crate::supervisor::service::refusal;
use crate::supervisor::service::stack::Stack;

/// A watcher hears something at least this often.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Performs one request.
pub async fn perform(
    stack: &Rc<Stack>,
    request: Request,
    fds: VecDeque<OwnedFd>,
    client: &mut Client,
) {
    let done = match request.verb {
        Verb::Status(api::status::Args { service }) => {
            status_of(stack, service.as_deref(), client).await
        }
        Verb::History(api::history::Args { service, limit }) => {
            history_of(stack, service.as_deref(), limit, client).await
        }
        Verb::Notify(api::notify::Args { target }) => {
            verbs::notify::notify(stack, &target, client).await
        }
        verb => on_service(stack, &request.actor, verb, fds, client).await,
    };
    if let Err(trouble) = done {
        client.tell(&Event::Error(trouble)).await;
    }
}

async fn status_of(
    stack: &Rc<Stack>,
    service: Option<&str>,
    client: &mut Client,
) -> Result<(), Trouble> {
    if let Some(name) = service {
        stack.known(name)?;
    }
    client.tell(&Event::Status(Box::new(status::status(stack, service)))).await;
    Ok(())
}

async fn history_of(
    stack: &Rc<Stack>,
    service: Option<&str>,
    limit: usize,
    client: &mut Client,
) -> Result<(), Trouble> {
    if let Some(name) = service {
        stack.known(name)?;
    }
    let path = stack.shared.layout.history();
    let operations = history::read(&path, service, limit).map_err(|error| Trouble {
        what: "the history cannot be read".to_owned(),
        why: format!("{}: {error}", path.display()),
        still: "every service is as it was".to_owned(),
        next: vec!["halley-sup status".to_owned()],
        exit: 1,
    })?;
    client.tell(&Event::History { operations }).await;
    Ok(())
}

async fn on_service(
    stack: &Rc<Stack>,
    actor: &str,
    verb: Verb,
    mut fds: VecDeque<OwnedFd>,
    client: &mut Client,
) -> Result<(), Trouble> {
    match verb {
        Verb::Release(api::release::Args { service, source, force, no_way_back, dry_run }) => {
            let service = stack.find(&service)?;
            let Some(fd) = fds.pop_front() else {
                let why = "no artifact came with the request";
                return Err(refusal::refusal(&service, "released", why, 2, &["status"]));
            };
            let force = if force { Force::Yes } else { Force::No };
            let extent = if dry_run { Extent::Plan } else { Extent::Whole };
            let terms = Terms { force, no_way_back, extent };
            let wish = Wish::Release { source: fd, name: source, terms };
            let operation = admission::begin(&service, actor, wish).await?;
            if follow(&*operation, client, Until::Held).await == Followed::Held {
                client.tell(&Event::Result(Box::new(holding(&service, &operation)))).await;
            }
        }
        Verb::ReleaseSet(api::release_set::Args { members, force }) => {
            let force = if force { Force::Yes } else { Force::No };
            verbs::release_set::release(stack, actor, members, force, fds, client).await?;
        }
        Verb::WatchSet(api::watch::SetArgs { set }) => {
            verbs::release_set::watch(stack, SetId(set), client).await?
        }
        Verb::Rollback(api::rollback::Args { service, to }) => {
            let service = stack.find(&service)?;
            let operation = admission::begin(&service, actor, Wish::Rollback { to }).await?;
            follow(&*operation, client, Until::Over).await;
        }
        Verb::Restart(api::restart::Args { service }) => {
            let service = stack.find(&service)?;
            let operation = admission::begin(&service, actor, Wish::Restart).await?;
            follow(&*operation, client, Until::Over).await;
        }
        Verb::Watch(api::watch::Args { op, service }) => {
            watch(stack, OpId(op), service, client).await?
        }
        Verb::Releases(api::releases::Args { service }) => {
            let service = stack.find(&service)?;
            client.tell(&Event::Releases { releases: status::releases(&service) }).await;
        }
        Verb::Logs(api::logs::Args { service, release, tail, follow }) => {
            let service = stack.find(&service)?;
            logs(&service, release, tail, follow, client).await?;
        }
        Verb::Start(api::start::Args { service }) => start(&stack.find(&service)?, client).await?,
        Verb::Stop(api::stop::Args { service }) => stop(&stack.find(&service)?, client).await?,
        Verb::Promote(api::promote::Args { service }) => {
            order(&stack.find(&service)?, Order::Promote, client).await?
        }
        Verb::Abort(api::abort::Args { service }) => {
            let service = stack.find(&service)?;
            let set = service.set.borrow().clone();
            match set {
                Some(set) => verbs::release_set::abort(&set, actor, client).await,
                None => order(&service, Order::Abort, client).await?,
            }
        }
        Verb::Freeze(api::freeze::Args { service, why }) => {
            verbs::freeze::freeze(&stack.find(&service)?, actor, why, client).await?;
        }
        Verb::Thaw(api::thaw::Args { service, release }) => {
            verbs::freeze::thaw(&stack.find(&service)?, release, client).await?;
        }
        Verb::Backup(api::backup::Args { service, list: true }) => {
            verbs::backup::list(&stack.find(&service)?, client).await;
        }
        Verb::Backup(api::backup::Args { service, .. }) => {
            verbs::backup::take(&stack.find(&service)?, client).await?
        }
        Verb::Restore(api::restore::Args { service, backup, dry_run, yes, unsaved }) => {
            let wish = restore::Wish { backup, dry_run, yes, unsaved };
            restore::restore(&stack.find(&service)?, actor, wish, client).await?;
        }
        Verb::Drill(api::drill::Args { service }) => {
            verbs::drill::by_hand(&stack.find(&service)?, client).await?
        }
        Verb::Status(_) | Verb::History(_) | Verb::Notify(_) => {}
    }
    Ok(())
}

/// How far an operation is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// To its result.
    Over,
    /// To its result, or until it waits for somebody's word.
    Held,
}

/// Where following ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Followed {
    /// With the result, or with the client.
    Over,
    /// The operation waits for somebody's word.
    Held,
}

fn waits_for_a_word(phase: &str) -> bool {
    matches!(Phase::parse(phase), Some(Phase::Hold | Phase::StepHold(_)))
}

/// Streams an operation, or a set of them, from its beginning.
pub async fn follow(watched: &impl Watched, client: &mut Client, until: Until) -> Followed {
    let mut grew = watched.events().watch();
    let mut n_told = 0;
    loop {
        grew.borrow_and_update();
        for event in watched.events().from(n_told) {
            n_told += 1;
            let last = matches!(event, Event::Result(_));
            if !client.tell(&event).await || last {
                return Followed::Over;
            }
            let held = matches!(&event, Event::Phase { phase, state: PhaseState::Start, .. }
                if waits_for_a_word(phase));
            if held && until == Until::Held {
                return Followed::Held;
            }
        }
        tokio::select! {
            changed = grew.changed() => if changed.is_err() { return Followed::Over },
            () = client.gone() => return Followed::Over,
            () = tokio::time::sleep(HEARTBEAT) => {
                let (phase, since) = watched.phase();
                let ms = clock::tick().since_ms(since);
                if !client.tell(&Event::Heartbeat { phase, ms }).await {
                    return Followed::Over;
                }
            }
        }
    }
}

async fn watch(
    stack: &Rc<Stack>,
    op: OpId,
    service: Option<String>,
    client: &mut Client,
) -> Result<(), Trouble> {
    if let Some(name) = &service {
        stack.find(name)?;
    }
    let services: Vec<Rc<Service>> = stack.services.borrow().values().cloned().collect();
    let wanted: Vec<Rc<Service>> = services
        .into_iter()
        .filter(|known| service.as_ref().is_none_or(|name| known.name.as_str() == name))
        .filter(|known| known.operation_of(op).is_some() || known.paths.op(op).is_dir())
        .collect();
    let trouble = |why: String| Trouble {
        what: format!("operation {op} cannot be watched"),
        why,
        still: "nothing was changed".to_owned(),
        next: vec!["halley-sup history".to_owned()],
        exit: 2,
    };
    let service = match wanted.as_slice() {
        [one] => one,
        [] => return Err(trouble("there is none of that number".to_owned())),
        several => {
            let names: Vec<String> = several.iter().map(|s| s.name.to_string()).collect();
            let why = format!("several services have one: {}; name the service", names.join(", "));
            return Err(trouble(why));
        }
    };
    if let Some(operation) = service.operation_of(op) {
        follow(&*operation, client, Until::Over).await;
        return Ok(());
    }
    let read = journal::read(&service.paths, op).map_err(|error| trouble(error.to_string()))?;
    let Some((_, records)) = read else { return Err(trouble("its journal is empty".to_owned())) };
    for event in records.iter().filter_map(journal::Record::event) {
        client.tell(&event).await;
    }
    Ok(())
}

async fn logs(
    service: &Rc<Service>,
    release: Option<u64>,
    n_lines: usize,
    follow: bool,
    client: &mut Client,
) -> Result<(), Trouble> {
    let release = release.map(ReleaseId).or(service.serving()).or(service.last_good());
    let path = release.map(|release| (release, service.logs.path(release)));
    let Some((release, path)) = path.filter(|(_, path)| path.is_file()) else {
        return Err(refusal::refusal(
            service,
            "read",
            "there is no log of that release",
            2,
            &["releases"],
        ));
    };
    let writer = service.logs.open_writer(release);
    let grew = writer.as_ref().map(|writer| writer.borrow().watch());
    let mut more = Follow::from_end(&path);
    for line in tail(&path, n_lines) {
        if !client.tell(&Event::Log { release: release.0, line }).await {
            return Ok(());
        }
    }
    drop(writer);
    let mut grew = grew.filter(|_| follow);
    while let Some(grew) = &mut grew {
        tokio::select! {
            changed = grew.changed() => if changed.is_err() { break },
            () = client.gone() => return Ok(()),
        }
        for line in more.next_lines() {
            if !client.tell(&Event::Log { release: release.0, line }).await {
                return Ok(());
            }
        }
    }
    let outcome = outcome(service, "read", 0);
    client.tell(&Event::Result(Box::new(outcome))).await;
    Ok(())
}

async fn start(service: &Rc<Service>, client: &mut Client) -> Result<(), Trouble> {
    let saved = service.save(|state| state.stopped = false);
    saved.map_err(|e| refusal::refusal(service, "started", &e.to_string(), 13, &["status"]))?;
    if service.state.borrow().last_good.is_none() {
        let why = "it has no good release yet: release one";
        let mut trouble = refusal::refusal(service, "started", why, 31, &[]);
        trouble.next = vec![format!("halley-sup release {} SOURCE", service.name)];
        return Err(trouble);
    }
    if service.live_crew().is_none() {
        let up = Rc::clone(service);
        let task = tokio::task::spawn_local(async move { start_last_good::bring_up(&up).await });
        let deadline = service.config().settings.health.deadline + Duration::from_secs(1);
        drop(tokio::time::timeout(deadline, task).await);
    }
    let trouble = service.trouble.borrow().clone();
    match trouble {
        None => {
            client.tell(&Event::Result(Box::new(outcome(service, "started", 0)))).await;
            Ok(())
        }
        Some(why) => Err(refusal::refusal(service, "started", &why, 20, &["status", "logs"])),
    }
}

async fn stop(service: &Rc<Service>, client: &mut Client) -> Result<(), Trouble> {
    let running = service.operation.borrow().clone();
    if let Some(running) = running {
        return Err(refusal::busy(service, &running));
    }
    if let Some(busy) = refusal::busy_with_set(service) {
        return Err(busy);
    }
    let saved = service.save(|state| {
        state.stopped = true;
        state.standby = None;
    });
    saved.map_err(|e| refusal::refusal(service, "stopped", &e.to_string(), 13, &["status"]))?;
    run::take_down(service).await;
    client.tell(&Event::Result(Box::new(outcome(service, "stopped", 0)))).await;
    Ok(())
}

/// Tells a running operation something, and follows it to its result.
async fn order(service: &Rc<Service>, order: Order, client: &mut Client) -> Result<(), Trouble> {
    let running = service.operation.borrow().clone();
    let Some(running) = running else {
        let why = "no operation runs";
        return Err(refusal::refusal(service, "changed", why, 2, &["status"]));
    };
    let phase = running.phase.borrow().clone();
    let on_step = matches!(Phase::parse(&phase), Some(Phase::Step(_) | Phase::StepHold(_)));
    let bakes = on_step || matches!(Phase::parse(&phase), Some(Phase::Bake | Phase::Hold));
    if order == Order::Promote && !bakes {
        let why = format!(
            "operation {} is in phase {phase}; promote ends a step, a bake or a hold",
            running.id
        );
        return Err(refusal::refusal(service, "promoted", &why, 2, &["status"]));
    }
    running.order(order);
    if on_step && order == Order::Promote {
        // The next step has its own verdict: `watch` follows it.
        let mut grew = running.events.watch();
        while *running.phase.borrow() == phase && !running.is_over() && grew.changed().await.is_ok()
        {
        }
        let promoted = outcome(service, "promoted", running.id.0);
        client.tell(&Event::Result(Box::new(promoted))).await;
        return Ok(());
    }
    follow(&*running, client, Until::Over).await;
    // `abort` has done its work when the operation has gone back.
    if order == Order::Abort {
        tracing::info!(service = %service.name, still = refusal::still(service), "aborted");
    }
    Ok(())
}
