//! Two who want something of the same process at once, with a keeper that answers when the test wants
//! it.

use std::rc::Rc;

use crate::core::crashes::Life;
use crate::core::duty::Duty;
use crate::core::ids::{InstanceIndex, SlotId};
use crate::keeper::protocol::ChildId;
use crate::os::clock;
use crate::supervisor::instances::ownership;
use crate::supervisor::instances::restarter::start_again;
use crate::supervisor::instances::start::StartError;
use crate::supervisor::instances::{retire, start};
use crate::supervisor::processes::child_tag::Role;
use crate::supervisor::service::child_spec;
use crate::supervisor::service::instances::{Generation, Instance};
use crate::supervisor::service::test_service::{TestService, with};
use crate::supervisor::sockets::backend_address::BackendAddress;
use crate::supervisor::spawn;

/// The guard starts one again, in a task of its own.
fn guard(
    world: &TestService,
    generation: &Rc<Generation>,
    instance: &Rc<Instance>,
) -> tokio::task::JoinHandle<()> {
    let (service, generation, instance) =
        (Rc::clone(&world.service), Rc::clone(generation), Rc::clone(instance));
    spawn::local(async move {
        start_again(&service, &generation, &instance, Life::Unready).await;
    })
}

#[test]
fn two_who_want_it_started_start_one() {
    with(|world| async move {
        let (generation, instance) = world.live();
        world.keeper.holds.set(true);
        let both = [guard(&world, &generation, &instance), guard(&world, &generation, &instance)];
        world.wait("it is being started", |world| world.keeper.n_held() > 0).await;
        world.settle().await;
        world.keeper.let_go();
        for one in both {
            one.await.unwrap();
        }
        assert_eq!(world.keeper.started(Role::Instance).len(), 1);
        assert_eq!(world.keeper.running(), Vec::from_iter(instance.child()));
    });
}

#[test]
fn what_is_stopped_while_it_is_being_started_is_waited_for_and_ended() {
    with(|world| async move {
        let (generation, instance) = world.live();
        world.keeper.holds.set(true);
        let starting = guard(&world, &generation, &instance);
        world.wait("it is being started", |world| world.keeper.n_held() > 0).await;
        let (service, leaving) = (Rc::clone(&world.service), Rc::clone(&generation));
        let stop = spawn::local(async move { retire::stop_now(&service, &leaving).await });
        world.settle().await;
        assert!(!stop.is_finished(), "it was forgotten while it was being started");
        world.keeper.let_go();
        stop.await.unwrap();
        starting.await.unwrap();
        assert_eq!(world.keeper.running(), []);
        assert!(world.service.fleet.all().is_empty());
    });
}

#[test]
fn a_start_that_is_called_off_leaves_nobody_behind() {
    with(|world| async move {
        let generation = world.generation(1, Duty::Candidate, Vec::new());
        world.keeper.holds.set(true);
        let (service, own) = (Rc::clone(&world.service), Rc::clone(&generation));
        let starting =
            spawn::local(async move { start::start_one(&service, &own, InstanceIndex(0)).await });
        world.wait("it is being started", |world| world.keeper.n_held() > 0).await;
        starting.abort();
        assert!(starting.await.is_err());
        assert!(!generation.is_gone());
        world.keeper.let_go();
        world.wait("it has its place", |_| generation.is_alive()).await;
        generation.assign(Duty::Draining);
        let late = start::start_one(&world.service, &generation, InstanceIndex(1)).await;
        assert!(matches!(late, Err(StartError::Leaving)));
        assert_eq!(world.keeper.started(Role::Instance).len(), 1);
    });
}

#[test]
fn a_program_and_its_forwarder_that_end_together_come_back_once_each() {
    with(|world| async move {
        let place = Some(BackendAddress::Port(1));
        let forwarded = Instance::new(InstanceIndex(0), vec![SlotId(0)], place);
        let generation = world.generation(1, Duty::Live, vec![forwarded]);
        let instance = generation.instances().remove(0);
        start::launch(&world.service, &generation, &instance).await.unwrap();
        world.keeper.holds.set(true);
        world.keeper.end(instance.forwarder.owner().unwrap());
        let is_asked = |world: &TestService| world.keeper.n_held() == 1;
        world.wait("a forwarder is being started", is_asked).await;
        world.keeper.end(instance.child().unwrap());
        world.wait("so is a program", |world| world.keeper.n_held() == 2).await;
        world.keeper.let_go();
        world.wait("both run", |world| world.keeper.running().len() == 2).await;
        world.settle().await;
        assert_eq!(world.keeper.started(Role::Forwarder).len(), 2);
        assert_eq!(world.keeper.running().len(), 2);
    });
}

#[test]
fn a_restart_whose_forwarder_cannot_be_started_joins_when_it_can() {
    with(|world| async move {
        let place = Some(BackendAddress::Port(1));
        let forwarded = Instance::new(InstanceIndex(0), vec![SlotId(0)], place);
        let generation = world.generation(1, Duty::Live, vec![forwarded]);
        let instance = generation.instances().remove(0);
        world.keeper.refuses.set(Some(Role::Forwarder));
        let starting = guard(&world, &generation, &instance);
        world.wait("the program runs", |_| instance.program.is_running()).await;
        world.settle().await;
        world.keeper.refuses.set(None);
        world.wait("a forwarder runs", |_| instance.forwarder.is_running()).await;
        starting.await.unwrap();
        assert!(instance.has_joined());
    });
}

#[test]
fn a_generation_that_was_asked_to_stop_in_part_is_no_standby() {
    with(|world| async move {
        let service = &world.service;
        let (live, serving) = world.live();
        start::launch(service, &live, &serving).await.unwrap();
        let two = [0, 1].map(|n| Instance::new(InstanceIndex(n), Vec::new(), None));
        let left = world.generation(2, Duty::Standby, two.into());
        for instance in &left.instances() {
            start::launch(service, &left, instance).await.unwrap();
        }
        // The live one dies, for the keeper, between the two signals.
        let [first, second] = [0, 1].map(|n| left.children()[n]);
        world.keeper.spares.set(Some(second));
        retire::begin(service, &left, clock::tick());
        let is_asked = |world: &TestService| !world.keeper.signals.borrow().is_empty();
        world.wait("the first is asked to stop", is_asked).await;
        world.settle().await;
        assert_eq!(*world.keeper.signals.borrow(), [(first, libc::SIGTERM)]);
        assert_eq!(left.duty(), Duty::Draining);
        // It is asked again as a whole, and goes.
        world.keeper.spares.set(None);
        let n_asked = |world: &TestService| world.keeper.signals.borrow().len();
        world.wait("both are asked to stop", |world| n_asked(world) == 3).await;
        world.keeper.end(first);
        world.keeper.end(second);
        world.wait("it is gone", |world| world.service.fleet.all().len() == 1).await;
    });
}

#[test]
fn a_process_that_the_keeper_does_not_have_is_started_again() {
    with(|world| async move {
        let (generation, instance) = world.live();
        start::launch(&world.service, &generation, &instance).await.unwrap();
        let lost = instance.child().unwrap();
        ownership::reconcile(&world.service).await;
        assert_eq!(instance.child(), Some(lost), "nothing differs");
        world.keeper.lose(lost);
        ownership::reconcile(&world.service).await;
        world.wait("another one runs", |_| instance.child().is_some_and(|it| it != lost)).await;
        assert_eq!(world.keeper.running(), Vec::from_iter(instance.child()));
    });
}

#[test]
fn a_process_that_nobody_has_is_ended() {
    with(|world| async move {
        let (generation, instance) = world.live();
        start::launch(&world.service, &generation, &instance).await.unwrap();
        let service = &world.service;
        let label = child_spec::label_of(service, &generation, &instance, Role::Instance);
        world.keeper.stray(ChildId(77), label);
        ownership::reconcile(&world.service).await;
        assert_eq!(world.keeper.running(), Vec::from_iter(instance.child()));
    });
}
