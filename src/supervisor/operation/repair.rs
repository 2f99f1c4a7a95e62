//! Damaged files of a service are rebuilt from what runs and from what lies on the disk. What runs goes on
//! meanwhile; what was there is kept under another name.

use std::rc::Rc;

use crate::api::repair::{Args, RepairPlan};
use crate::api::{Event, Outcome, Trouble};
use crate::config::model;
use crate::core::exit::Exit;
use crate::core::operation::outcome::Word;
use crate::supervisor::operation::repair_work::Work;
use crate::supervisor::operation::take_in;
use crate::supervisor::operation::unresumed::{self, Closed};
use crate::supervisor::processes::child_tag::{Label, Role};
use crate::supervisor::service::Service;
use crate::supervisor::service::outcome::{outcome, remember};
use crate::supervisor::service::refusal::{self, NothingToDo, refusal};
use crate::supervisor::service::stack::Stack;
use crate::supervisor::spawn;

/// What became of it.
pub(crate) enum Repaired {
    /// Nothing is damaged.
    Whole(Event),
    /// It is not confirmed.
    Shown(RepairPlan),
    /// It is done.
    Done {
        /// What was done.
        plan: RepairPlan,
        /// How it ended.
        outcome: Box<Outcome>,
        /// An operation that could not be resumed was closed.
        closed: Option<Closed>,
    },
}

/// Looks for what is damaged and, when that is confirmed, rebuilds it.
///
/// # Errors
/// When the service is busy, or something cannot be written.
pub(crate) async fn repair(stack: &Stack, actor: &str, args: &Args) -> Result<Repaired, Trouble> {
    stack.known(&args.service)?;
    let managed = stack.find(&args.service).ok();
    if let Some(busy) = managed.as_deref().and_then(busy) {
        return Err(busy);
    }
    let work = prepare(stack, args, managed.as_ref()).await?;
    let done = spawn::lengthy(move || work.perform()).await;
    let done = done.map_err(|error| internal(&args.service, &error.to_string()))?;
    let plan = done.map_err(|error| internal(&args.service, &error.to_string()))?;
    match &managed {
        Some(service) if plan.steps.is_empty() => return Ok(whole(service)),
        _ if !args.yes => return Ok(Repaired::Shown(plan)),
        Some(service) => {
            // In memory it is whole; what was on the disk is set aside.
            let saved = service.durable.change(|_| {});
            saved.map_err(|error| internal(&args.service, &error.to_string()))?;
        }
        None => take_in::try_again(stack, &args.service).await,
    }
    let service = stack.find(&args.service)?;
    let closed = match service.activity.unresumed() {
        Some(unresumed) if plan.steps.iter().any(|step| step.path.contains("/ops/")) => {
            Some(unresumed::close(&service, actor, &unresumed).await?)
        }
        _ => None,
    };
    let outcome = Box::new(result(&service, &plan));
    remember(&service.shared, &outcome, "repair", actor, service.now());
    Ok(Repaired::Done { plan, outcome, closed })
}

/// What is to be looked at.
async fn prepare(
    stack: &Stack,
    args: &Args,
    managed: Option<&Rc<Service>>,
) -> Result<Work, Trouble> {
    let config: Option<model::Service> = match managed {
        Some(service) => Some((*service.config()).clone()),
        None => {
            let broken = stack.broken.borrow();
            let found = broken.iter().find(|(name, _)| name.as_str() == args.service);
            found.map(|(_, broken)| broken.config.clone())
        }
    };
    let config = config.ok_or_else(|| internal(&args.service, "it is being taken over"))?;
    let inventory = stack.shared.link.inventory().await;
    let inventory = inventory.map_err(|error| internal(&args.service, &error.to_string()))?;
    let alive = inventory.children.iter().filter(|found| found.end.is_none());
    let labels = alive.filter_map(|found| Label::read(&found.label));
    let runs = labels.filter(|label| {
        label.service == args.service && label.role == Role::Instance && label.purpose.is_none()
    });
    Ok(Work {
        paths: stack.shared.layout.service(&config.name),
        config,
        memory: managed.map(|service| service.durable.state().clone()),
        runs: runs.map(|label| (label.release, label.generation)).collect(),
        is_confirmed: args.yes,
    })
}

fn busy(service: &Service) -> Option<Trouble> {
    if let Some(running) = service.activity.operation() {
        return Some(refusal::busy(service, &running));
    }
    refusal::busy_with_set(service).or_else(|| {
        let why = format!("{} is using its data", service.activity.data_work()?);
        Some(refusal(service, "repaired", &why, Exit::Busy, &["status"]))
    })
}

fn whole(service: &Service) -> Repaired {
    let why = format!("no file of {} is damaged", service.name);
    Repaired::Whole(NothingToDo { why }.answer(service))
}

fn result(service: &Service, plan: &RepairPlan) -> Outcome {
    let mut outcome = outcome(service, Word::Repaired, 0);
    outcome.warnings.clone_from(&plan.notes);
    if service.durable.state().stopped {
        outcome.next = vec![format!("halley-sup start {}", service.name)];
    }
    let lost = plan.steps.iter().filter(|step| step.lost);
    let lines: Vec<String> =
        lost.map(|step| format!("{}: {}; {}", step.path, step.why, step.fix)).collect();
    if !lines.is_empty() {
        let (why, verbs) = (lines.join("\n"), ["releases", "rollback"]);
        let mut trouble = refusal(service, "repaired as a whole", &why, Exit::Internal, &verbs);
        trouble.next.push(format!("halley-sup release {} SOURCE", service.name));
        outcome.exit = trouble.exit;
        outcome.next.clone_from(&trouble.next);
        outcome.trouble = Some(trouble);
    }
    outcome
}

fn internal(name: &str, why: &str) -> Trouble {
    Trouble {
        what: format!("{name} was not repaired"),
        why: why.to_owned(),
        still: "its processes keep running".to_owned(),
        next: vec![format!("halley-sup repair {name}")],
        exit: Exit::Internal.code(),
    }
}
