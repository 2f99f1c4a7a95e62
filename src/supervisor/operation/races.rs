//! Two who want something of the same service at once, with a keeper that answers when the test wants
//! it.

use std::rc::Rc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::api::{Event, Trouble};
use crate::core::duty::Duty;
use crate::core::exit::Exit;
use crate::core::ids::{OpId, ReleaseId};
use crate::core::operation::machine::Kind;
use crate::core::operation::outcome::Word;
use crate::core::operation::phase::Phase;
use crate::json;
use crate::store::journal::{Intent, Journal};
use crate::store::release::{self, Manifest};
use crate::store::seal::Listing;
use crate::store::state::Served;
use crate::supervisor::instances::{scale, start};
use crate::supervisor::operation::admission::{self, Begun, Wish};
use crate::supervisor::operation::{start_last_good, stop, unresumed};
use crate::supervisor::processes::child_tag::Role;
use crate::supervisor::service::condition::Source;
use crate::supervisor::service::operation::Operation;
use crate::supervisor::service::outcome::outcome;
use crate::supervisor::service::test_service::{TestService, with};
use crate::supervisor::service::unresumed::Unresumed;
use crate::supervisor::spawn;

fn restart(world: &TestService) -> JoinHandle<Result<Begun, Trouble>> {
    let service = Rc::clone(&world.service);
    spawn::local(async move { admission::begin(&service, "tester", Wish::Restart).await })
}

fn bring_up(world: &TestService) -> JoinHandle<()> {
    let service = Rc::clone(&world.service);
    spawn::local(async move { start_last_good::bring_up(&service).await })
}

/// A release on the disk that is the last good one.
fn good(world: &TestService, release: u64) {
    let paths = &world.service.paths;
    let manifest = Manifest {
        version: 1,
        digest: String::new(),
        n_files: 0,
        size_bytes: 0,
        at: String::new(),
        source: String::new(),
        actor: String::new(),
        label: None,
    };
    let settings = world.service.config().settings.clone();
    let (digest, entries) = (String::new(), Vec::new());
    let listing = Listing { digest, n_files: 0, size_bytes: 0, entries };
    release::write(paths, ReleaseId(release), &manifest, &listing, &settings).unwrap();
    is_good(world, release);
}

fn is_good(world: &TestService, release: u64) {
    let served = Served { release, generation: 0, op: 0 };
    world.service.durable.save(|state| state.last_good = Some(served)).unwrap();
}

#[test]
fn of_two_who_wait_for_a_stranded_operation_one_begins() {
    with(|world| async move {
        let service = &world.service;
        let (live, serving) = world.live();
        start::launch(service, &live, &serving).await.unwrap();
        let (stranded, _orders) = Operation::new(OpId(9), Kind::Rollback, String::new(), None);
        stranded.phase.set(Some(Phase::Stranded));
        let task = || spawn::local(async {});
        service.activity.begin(Rc::clone(&stranded), task).unwrap();
        assert!(service.activity.begin(Rc::clone(&stranded), task).is_err());
        let both = [restart(&world), restart(&world)];
        world.settle().await;
        let over = outcome(service, Word::Superseded, 9);
        stranded.outcome.replace(Some(over.clone()));
        service.activity.end(&stranded);
        stranded.tell(Event::Result(Box::new(over)));
        let [one, other] = both;
        let ended = [one.await.unwrap(), other.await.unwrap()];
        let n_begun = ended.iter().filter(|ended| matches!(ended, Ok(Begun::Operation(_)))).count();
        assert_eq!(n_begun, 1);
        let refused = ended.into_iter().find_map(Result::err).unwrap();
        assert_eq!(refused.exit, Exit::Busy.code());
    });
}

#[test]
fn an_operation_begins_when_a_start_is_over() {
    with(|world| async move {
        let service = &world.service;
        let (live, serving) = world.live();
        start::launch(service, &live, &serving).await.unwrap();
        let turn = service.activity.starting().await;
        let begun = restart(&world);
        world.settle().await;
        assert!(service.activity.operation().is_none());
        // The data is taken meanwhile.
        service.activity.begin_data_work("a restore");
        drop(turn);
        assert_eq!(begun.await.unwrap().unwrap_err().exit, Exit::Busy.code());
    });
}

#[test]
fn what_is_no_longer_the_last_good_release_is_not_steered_to() {
    with(|world| async move {
        good(&world, 2);
        good(&world, 1);
        world.keeper.holds.set(true);
        let up = bring_up(&world);
        world.wait("release 1 is being started", |world| world.keeper.n_held() == 1).await;
        is_good(&world, 2);
        world.keeper.let_go();
        // It goes when it is asked to.
        let first = world.keeper.started(Role::Instance)[0];
        let is_asked = |world: &TestService| !world.keeper.signals.borrow().is_empty();
        world.wait("release 1 is asked to stop", is_asked).await;
        assert!(world.service.routing.live().is_none());
        world.keeper.end(first);
        up.await.unwrap();
        assert_eq!(world.service.serving(), Some(ReleaseId(2)));
    });
}

#[test]
fn a_start_during_a_stop_waits_for_its_end() {
    with(|world| async move {
        let service = &world.service;
        good(&world, 1);
        let (live, serving) = world.live();
        start::launch(service, &live, &serving).await.unwrap();
        let stopping = Rc::clone(service);
        let down = spawn::local(async move { stop::take_down(&stopping).await });
        world.settle().await;
        let up = bring_up(&world);
        world.settle().await;
        assert_eq!(world.keeper.started(Role::Instance).len(), 1, "a second one runs");
        world.keeper.end(serving.child().unwrap());
        down.await.unwrap();
        up.await.unwrap();
        assert_eq!(world.keeper.running().len(), 1);
    });
}

#[test]
fn a_number_of_instances_that_is_right_is_no_trouble() {
    with(|world| async move {
        world.live();
        world.service.condition.report(Source::Scale, "no room");
        scale::begin(&world.service);
        world.wait("it is over", |world| world.service.condition.trouble().is_none()).await;
    });
}

#[test]
fn instances_are_added_when_the_operation_is_over() {
    with(|world| async move {
        let service = &world.service;
        let generation = world.generation(1, Duty::Live, Vec::new());
        let (running, _orders) = Operation::new(OpId(9), Kind::Restart, String::new(), None);
        let task = || spawn::local(async {});
        service.activity.begin(Rc::clone(&running), task).unwrap();
        scale::begin(service);
        world.settle().await;
        assert_eq!(world.keeper.started(Role::Instance), []);
        let over = outcome(service, Word::Committed, 9);
        running.outcome.replace(Some(over.clone()));
        service.activity.end(&running);
        running.tell(Event::Result(Box::new(over)));
        world
            .wait("there is one", |_| generation.is_whole() && !generation.instances().is_empty())
            .await;
        assert_eq!(world.keeper.started(Role::Instance).len(), 1);
    });
}

#[test]
fn nobody_has_recovered_while_nothing_serves() {
    with(|world| async move {
        let service = &world.service;
        let intent = serde_json::json!({
            "version": 1, "op": 1, "kind": "release", "actor": "", "source": "", "at": "",
            "boot_id": "", "release": 1, "generation": 1, "old": null, "warm": null, "ladder": [],
            "inconclusive": "hold", "succession": "overlap",
        });
        let intent: Intent = json::from_value(intent).unwrap();
        Journal::create(&service.paths, &intent).unwrap();
        let open = Unresumed {
            op: OpId(1),
            why: "?".to_owned(),
            way_out: "abort",
            may_have_migrated: false,
        };
        service.activity.leave_open(Some(open.clone()));
        service.condition.tell_degraded(true);
        assert!(unresumed::close(service, "tester", &open).await.is_ok());
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(service.condition.tell_degraded(true), "a recovery was reported");
    });
}

#[test]
fn a_start_that_is_not_over_in_time_is_no_success() {
    with(|world| async move {
        let service = &world.service;
        good(&world, 1);
        let turn = service.activity.starting().await;
        assert_eq!(start_last_good::answer(service, true), Ok(()));
        let late = start_last_good::answer(service, false).unwrap_err();
        assert_eq!(late.exit, Exit::Detached.code());
        assert!(
            late.why.ends_with("its start continues") && late.still.contains("release 1"),
            "{late:?}"
        );
        drop(turn);
        // What is wrong says more than the time.
        service.condition.report(Source::Start, "it has no program");
        let failed = start_last_good::answer(service, false).unwrap_err();
        assert_eq!((failed.exit, &*failed.why), (Exit::GateFailed.code(), "it has no program"));
    });
}

#[test]
fn a_refusal_names_what_was_to_be_done() {
    with(|world| async move {
        let service = &world.service;
        good(&world, 1);
        service.durable.save(|state| state.stopped = true).unwrap();
        let refused = restart(&world).await.unwrap().unwrap_err();
        assert_eq!(refused.what, "web was not restarted");
    });
}
