//! Which processes are a service's: the keeper's list is the truth, and what the supervisor knows is
//! compared with it. A process of a generation that no instance has would take connections, or lock
//! the data, and nobody would ever stop it; one that the keeper does not have has ended, and nobody
//! would ever start it again.

use std::collections::BTreeSet;
use std::rc::Rc;

use crate::core::ordered::Ordered as _;
use crate::keeper::protocol::{ChildId, End, Held};
use crate::supervisor::processes::child_tag::{Label, Role};
use crate::supervisor::processes::host_command;
use crate::supervisor::service::Service;

/// Compares the keeper's list with what is known of the service. A process that nobody has is an
/// error in the log, and is ended.
pub(crate) async fn reconcile(service: &Rc<Service>) {
    if !service.link().can_list() {
        return;
    }
    let (mut known, running) = (known(service), running(service));
    let held = match service.link().children().await {
        Ok(held) => held,
        Err(error) => {
            tracing::warn!(service = %service.name, %error, "asking the keeper for its processes");
            return;
        }
    };
    // What was started or ended meanwhile is nobody's fault.
    known.extend(self::known(service));
    let strays: Vec<ChildId> = strays(service.name.as_str(), &held, &known)
        .into_iter()
        .filter(|child| !service.link().has_ended(*child))
        .collect();
    let run_still = self::running(service);
    let lost = running.intersection(&run_still).copied();
    for child in lost.filter(|child| !held.iter().any(|held| held.child == *child)) {
        tracing::error!(service = %service.name, child = child.0,
            "the keeper does not have a process that an instance has; it counts as ended");
        service.link().child_ended(child, End::Unknown);
    }
    end(service, strays).await;
}

/// Ends processes that nobody has, with all that they started. Returns when they are gone.
pub(crate) async fn end(service: &Rc<Service>, strays: Vec<ChildId>) {
    for child in &strays {
        tracing::error!(service = %service.name, child = child.0,
            "a process runs that no instance has; it is ended");
    }
    let strays = strays.into_iter().map(|child| (child, None)).collect();
    host_command::end_all(&service.shared.link, strays).await;
}

/// Every child that an instance has, or is about to have.
fn known(service: &Service) -> BTreeSet<ChildId> {
    let generations = service.fleet.all();
    let instances = generations.iter().flat_map(|generation| generation.instances());
    instances
        .flat_map(|instance| [instance.program.owner(), instance.forwarder.owner()])
        .flatten()
        .into_set()
}

/// Every child of an instance that runs.
fn running(service: &Service) -> BTreeSet<ChildId> {
    let generations = service.fleet.all();
    let instances = generations.iter().flat_map(|generation| generation.instances());
    let runs = instances.flat_map(|instance| [instance.program.run(), instance.forwarder.run()]);
    runs.flatten().map(|run| run.child).into_set()
}

/// Processes of the service's generations that are not known.
fn strays(service: &str, held: &[Held], known: &BTreeSet<ChildId>) -> Vec<ChildId> {
    let is_of_a_generation = |held: &&Held| {
        Label::read(&held.label).is_some_and(|label| {
            label.service == service && matches!(label.role, Role::Instance | Role::Forwarder)
        })
    };
    let running = held.iter().filter(|held| held.runs && !known.contains(&held.child));
    running.filter(is_of_a_generation).map(|held| held.child).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::time::Tick;
    use crate::supervisor::processes::child_tag::Purpose;

    fn held(child: u64, service: &str, role: Role, runs: bool) -> Held {
        let plain = Label::command(service, Tick(0), Purpose::Rehearsal);
        let label = Label { role, purpose: None, ..plain }.print();
        Held { child: ChildId(child), label, runs }
    }

    #[test]
    fn a_process_of_a_generation_that_nobody_has_is_a_stray() {
        let all = [
            held(1, "web", Role::Instance, true),
            held(2, "web", Role::Instance, true),
            held(3, "web", Role::Forwarder, true),
            held(4, "web", Role::Instance, false),
            held(5, "web", Role::Oneshot, true),
            held(6, "web", Role::Passer, true),
            held(7, "api", Role::Instance, true),
            Held { child: ChildId(8), label: "{}".to_owned(), runs: true },
        ];
        let known = BTreeSet::from([ChildId(1)]);
        assert_eq!(strays("web", &all, &known), [ChildId(2), ChildId(3)]);
    }
}
