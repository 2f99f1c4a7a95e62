//! The stack: all services together, from the moment a supervisor comes up until it leaves.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;

use tokio::sync::mpsc;

use crate::core::order;
use crate::keeper::protocol::Ask;
use crate::os::proc;
use crate::store::layout::Layout;
use crate::supervisor::control::server;
use crate::supervisor::instances::{dependency_order, retire};
use crate::supervisor::notify::queue::Outbox;
use crate::supervisor::operation::stop::take_down;
use crate::supervisor::operation::take_in::take_in;
use crate::supervisor::operation::{reload, start_last_good, strangers};
use crate::supervisor::processes::child_tag::Label;
use crate::supervisor::processes::host_command;
use crate::supervisor::processes::keeper_client::{Inventory, Link, LinkError, News};
use crate::supervisor::release_set::resume;
use crate::supervisor::service::Shared;
use crate::supervisor::service::history_book::HistoryBook;
use crate::supervisor::service::last_config::LastConfig;
use crate::supervisor::service::stack::Stack;
use crate::supervisor::spawn;
use crate::supervisor::upgrade;

/// Why a supervisor leaves.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StackError {
    /// The configuration is not valid any more.
    #[error("the configuration cannot be used:\n{problems}")]
    Config {
        /// All that is wrong, a line each.
        problems: String,
    },
    /// There is no keeper.
    #[error("no keeper: {0}")]
    Keeper(#[from] LinkError),
    /// The system's own reason.
    #[error(transparent)]
    System(#[from] std::io::Error),
}

/// Runs the stack until the keeper orders a stop or is gone.
///
/// # Errors
/// [`StackError`] when it cannot begin.
pub(crate) async fn run(config_path: PathBuf) -> Result<(), StackError> {
    let socket = crate::keeper::link_from_env()?;
    let (link, mut inventory, news) = Link::connect(socket).await?;
    let last_config = LastConfig::default();
    let config = last_config.begin(&link, &config_path, &mut inventory).await;
    let config = config.map_err(|problems| StackError::Config {
        problems: problems.iter().map(|problem| format!("{problem}\n")).collect(),
    })?;
    let layout = Layout::new(&config.root);
    link.record(&layout.running());
    end_own_commands(&link, &mut inventory).await;
    let outbox = Outbox::open(&layout.outbox(), &config.notify, Rc::clone(&link));
    let shared = Rc::new(Shared {
        link,
        history: HistoryBook::new(layout.history()),
        layout,
        boot_id: proc::boot_id()?,
        config_path,
        last_config,
        outbox,
        next_port: Cell::new(0),
        stopping: Cell::new(false),
    });
    let stack = Rc::new(Stack {
        shared,
        services: RefCell::default(),
        order: RefCell::new(config.order.clone()),
        broken: RefCell::default(),
        strangers: RefCell::default(),
        taking_in: tokio::sync::Mutex::default(),
        set: RefCell::default(),
    });
    let open_set = resume::find(&stack);
    stack.set.replace(open_set.as_ref().map(|open| Rc::clone(&open.set)));
    for name in &config.order {
        if let Some(service) = config.services.get(name) {
            take_in(&stack, service.clone(), &mut inventory).await;
        }
        stack.shared.history.catch_up(&stack.shared.layout, name);
    }
    take_in_removed(&stack, &mut inventory).await;
    strangers::attend(&stack).await;
    for service in stack.in_order().0 {
        start_last_good::listen(&service).await;
    }
    for warning in stack.unknown() {
        tracing::warn!("{warning}");
    }
    if let Some(open) = open_set {
        resume::go_on(&stack, open);
    }
    // Whatever else has no room: who asks why gets an answer.
    proc::use_all_files();
    server::serve(&stack, &config.socket)?;
    proc::leave_files();
    stack.shared.link.ready().await?;
    reload::say(&stack).await;
    upgrade::conclude(&stack, &mut inventory).await;
    let starting = Rc::clone(&stack);
    spawn::local(async move { reload::bring_up(&starting).await });
    until_the_end(&stack, news).await
}

/// Services that were removed from the configuration while they ran stay visible, and can be stopped.
async fn take_in_removed(stack: &Rc<Stack>, inventory: &mut Inventory) {
    let running = inventory.children.iter().filter(|found| found.end.is_none());
    let mut names: Vec<String> =
        running.filter_map(|found| Some(Label::read(&found.label)?.service)).collect();
    names.dedup();
    for service in names.iter().filter_map(|name| stack.shared.last_config.former(name)) {
        let is_known = stack.services.borrow().contains_key(&service.name)
            || stack.is_configured(&service.name);
        if !is_known {
            take_in(stack, service, inventory).await;
        }
    }
}

/// Ends commands of the stack itself that a supervisor before this one ran: notifications, which
/// this one delivers again.
async fn end_own_commands(link: &Rc<Link>, inventory: &mut Inventory) {
    let is_own = |label: &str| Label::read(label).is_some_and(|label| label.is_of_no_service());
    let (own, others): (Vec<_>, Vec<_>) =
        std::mem::take(&mut inventory.children).into_iter().partition(|found| is_own(&found.label));
    inventory.children = others;
    host_command::end_all(link, own.into_iter().map(|found| (found.child, found.end)).collect())
        .await;
    let names: Vec<String> = inventory.kept.keys().cloned().collect();
    for name in names.into_iter().filter(|name| host_command::is_kept_for(name, "")) {
        inventory.kept.remove(&name);
        if let Err(error) = link.forget(name).await {
            tracing::warn!(%error, "closing a command's files");
        }
    }
}

async fn until_the_end(
    stack: &Rc<Stack>,
    mut news: mpsc::UnboundedReceiver<News>,
) -> Result<(), StackError> {
    loop {
        match news.recv().await {
            Some(News::Stop) if stack.shared.stopping.get() => {}
            Some(News::Stop) => {
                let stack = Rc::clone(stack);
                spawn::local(async move { stop(&stack).await });
            }
            // It is logged, and in `status`.
            Some(News::Reload) => drop(reload::reload(stack).await),
            Some(News::Gone) | None => return Ok(()),
        }
    }
}

/// Takes everything down: a service when those after it are down, others at once.
async fn stop(stack: &Stack) {
    stack.shared.stopping.set(true);
    // It goes on at the next start, from its journal.
    let set = stack.set.borrow().as_ref().and_then(|set| set.task.take());
    if let Some(task) = set {
        task.abort();
        drop(task.await);
    }
    let (services, waits) = stack.in_order();
    let waits = order::stops(&waits);
    let own_ms: Vec<u64> = services.iter().map(|service| retire::longest_ms(service)).collect();
    stack.shared.link.say(Ask::StopTime { ms: order::longest_ms(&waits, &own_ms) }).await;
    dependency_order::run(&waits, |place| {
        let service = Rc::clone(&services[place]);
        async move { take_down(&service).await }
    })
    .await;
    stack.shared.outbox.stop();
    if let Err(error) = stack.shared.link.stopped().await {
        tracing::error!(%error, "reporting that all services are stopped");
    }
}
