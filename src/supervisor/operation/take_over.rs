//! A supervisor comes up: what runs of a service is taken over, and its open operation goes on.

use std::rc::Rc;

use crate::core::duty::Duty;
use crate::core::ids::Generation;
use crate::store::journal::{self};
use crate::store::{intake, release, reserve};
use crate::supervisor::data::backup;
use crate::supervisor::instances::restarter::revive;
use crate::supervisor::instances::scale;
use crate::supervisor::instances::sd_notify;
use crate::supervisor::operation::adopt::{adopt_crews, forget_the_rest, take_mine};
use crate::supervisor::operation::boot_error::BootError;
use crate::supervisor::operation::conclude;
use crate::supervisor::operation::opened::{self};
use crate::supervisor::operation::resume::{live_generation, resume};
use crate::supervisor::operation::unresumed;
use crate::supervisor::processes::host_command;
use crate::supervisor::processes::keeper_client::Inventory;
use crate::supervisor::service::Service;
use crate::supervisor::service::occupied::may_start;
use crate::supervisor::tasks::task;

/// Takes a service over: adopts what runs, goes on with its open operation. What does not run is
/// started by [`start_last_good`](super::start_last_good).
///
/// # Errors
/// When something durable cannot be read; what runs goes on running.
pub(crate) async fn take_over(
    service: &Rc<Service>,
    inventory: &mut Inventory,
) -> Result<(), BootError> {
    service.paths.create()?;
    reserve::fill(&service.paths.reserve());
    let config = service.config();
    service.slots.adopt(&config, &mut inventory.kept)?;
    // Before anything runs for it: it may be taken over once this can be read.
    let open = journal::open_operation(&service.paths)?;
    let socket = inventory.kept.remove(&format!("notify/{}", service.name));
    sd_notify::open(service, socket).await?;
    let (mine, others) = take_mine(service, inventory);
    host_command::end_all(&service.shared.link, others).await;
    task::sweep(service);
    backup::sweep(service);
    let ends = adopt_crews(service, mine, inventory);
    if let Some(good) = service.durable.state().last_good {
        service.fleet.seen(Generation(good.generation));
    }
    intake::sweep(&service.paths)?;
    let live = live_generation(service, open.as_ref())?;
    if let Some(crew) = live.and_then(|generation| service.fleet.get(generation)) {
        service.steer_to(&crew, Duty::Live)?;
    }
    service.slots.park(|listener| service.owned_slots(listener))?;
    match open {
        Some((intent, records)) => match opened::read(&intent, &records) {
            Ok(opened) => resume(service, &intent, &records, opened)?,
            Err(unknown) => unresumed::leave(service, &intent, &records, &unknown),
        },
        None => {
            release::sweep(&service.paths)?;
            conclude::let_go(service, None);
        }
    }
    conclude::clear(service);
    for following in ends {
        following.begin(service);
    }
    if let Some(crew) = service.live_crew().filter(|crew| crew.duty.get() == Duty::Live)
        && (crew.is_alive() || may_start(service))
    {
        revive(service, &crew);
        scale::begin(service);
    }
    service.tend();
    forget_the_rest(service, inventory);
    Ok(())
}
