//! The configuration is read again while the stack runs: as a whole or not at all.

use std::rc::Rc;

use crate::api::reload::Reload;
use crate::config::Problem;
use crate::keeper::protocol::Ask;
use crate::supervisor::instances::{dependency_order, scale};
use crate::supervisor::operation::start_last_good;
use crate::supervisor::operation::take_in::take_in_now;
use crate::supervisor::service::stack::Stack;
use crate::supervisor::spawn;
use crate::text;

/// Reads it. A service whose section is as it was is not touched; what runs keeps the settings it has until
/// its next start.
///
/// # Errors
/// When it cannot be used; it is logged already, and what was in use stays so.
pub(crate) async fn reload(stack: &Rc<Stack>) -> Result<Reload, Vec<Problem>> {
    let done = use_files(stack).await;
    say(stack).await;
    done
}

/// Says to a service manager how the stack is.
pub(crate) async fn say(stack: &Stack) {
    let n = text::count(stack.services.borrow().len(), "service");
    let text = match stack.shared.last_config.trouble() {
        Some(trouble) => format!("{n}; {trouble}"),
        None => n,
    };
    stack.shared.link.say(Ask::Say { text }).await;
}

async fn use_files(stack: &Rc<Stack>) -> Result<Reload, Vec<Problem>> {
    let shared = &stack.shared;
    let (config, changes) = shared.last_config.read(&shared.link, &shared.config_path).await?;
    let mut warnings = Vec::new();
    for (name, settings) in &config.services {
        let present = stack.services.borrow().get(name).cloned();
        match present {
            Some(service) if *service.config() == *settings => {}
            Some(service) if service.config().listen != settings.listen => warnings.push(format!(
                "{name}: changed listeners take effect when halley-sup is restarted"
            )),
            Some(service) => {
                service.configure(settings.clone());
                scale::begin(&service);
            }
            None => take_in_now(stack, settings.clone()).await,
        }
    }
    let mut is_removed = false;
    for name in stack.services.borrow().keys() {
        if !config.services.contains_key(name) {
            is_removed |= stack.is_configured(name);
            warnings.push(format!("{name}: is no longer in the configuration and keeps running"));
        }
    }
    if is_removed {
        shared.last_config.keep_former(&shared.link).await;
    }
    stack.shared.outbox.configure(&config.notify);
    stack.order.replace(config.order);
    stack.forget_removed();
    for change in &changes {
        tracing::info!("configuration: {change}");
    }
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    tracing::info!("configuration reloaded");
    let starting = Rc::clone(stack);
    spawn::local(async move { bring_up(&starting).await });
    Ok(Reload { applied: true, changes, warnings })
}

/// Starts what is not running: a service begins when those it is `after` answer, or have had
/// their time; others begin at once.
pub(crate) async fn bring_up(stack: &Stack) {
    let (services, waits) = stack.in_order();
    dependency_order::run(&waits, |place| {
        let service = Rc::clone(&services[place]);
        async move {
            let deadline = start_last_good::deadline(&service);
            let up = Rc::clone(&service);
            let task =
                spawn::local(async move { start_last_good::bring_up(&up).await });
            if tokio::time::timeout(deadline, task).await.is_err() {
                tracing::warn!(service = %service.name, "is not up yet; the services after it start");
            }
        }
    })
    .await;
}
