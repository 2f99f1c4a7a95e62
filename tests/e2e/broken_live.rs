//! What serves is broken, or the machine goes down: nothing of that stands in the way of the next release.

use std::fs;

use crate::world::{BINARY, World, config, free_address, kill};

/// Each release is broken for as long as there is a file of its number: it ends at its start, or answers
/// 503.
pub fn breakable(world: &World) -> std::path::PathBuf {
    let program = format!(
        "test -e $HALLEY_SHARED/crash-$HALLEY_RELEASE && exit 3; \
         test -e $HALLEY_SHARED/ill-$HALLEY_RELEASE && exec {BINARY} demo-service unhealthy; \
         exec {BINARY} demo-service"
    );
    world.build_of(&["/bin/sh", "-c", &program])
}

/// Two such releases; the second, which serves, breaks so.
fn broken(how: &str) -> World {
    let world = World::new();
    world.release_path(&breakable(&world)).expect(0);
    world.release_path(&breakable(&world)).expect(0);
    breaks(&world, how);
    world
}

pub fn breaks(world: &World, how: &str) {
    fs::write(world.service_path("shared").join(how), "").unwrap();
    kill(world.live_pid(), libc::SIGKILL);
}

fn phase(said: &crate::world::Said, name: &str) -> String {
    let events = said.stdout.lines().map(|line| serde_json::from_str(line).unwrap());
    let of = |event: &serde_json::Value| {
        event["phase"] == name && event["state"].as_str().is_some_and(|state| state != "start")
    };
    let found: Option<serde_json::Value> = events.into_iter().find(of);
    found.map_or_else(String::new, |event| format!("{}: {}", event["state"], event["detail"]))
}

#[test]
fn a_live_release_in_a_crash_loop_does_not_stand_in_the_way_of_its_fix() {
    let world = broken("crash-2");
    let why = |world: &World| world.status()["why"].as_str().unwrap_or_default().to_owned();
    world.wait("the crash loop shows", |world| why(world).contains("crash loop"));
    let shown = why(&world);
    assert!(shown.contains("the last one with exit 3"), "{shown}");
    assert!(shown.contains("halley-sup rollback web goes back to release 1"), "{shown}");
    // What does not come up either leaves everything as it is.
    world.release(&["exit=4"]).expect(20);
    assert_eq!(world.status()["last_good"], 2);
    let said = world.release_path(&breakable(&world)).expect(0);
    let rehearsed = phase(&said, "rehearse_old");
    assert!(rehearsed.contains("release 1, full"), "{rehearsed}");
    assert_eq!((world.answering(), world.status()["why"].is_null()), (Some(4), true));
    // One does not go back to what was down.
    world.cli(&["rollback", "web"]).expect(0);
    assert_eq!(world.answering(), Some(1));
}

#[test]
fn the_only_release_may_be_broken_and_is_replaced_all_the_same() {
    let world = World::new();
    world.release_path(&breakable(&world)).expect(0);
    breaks(&world, "ill-1");
    let said = world.release_path(&breakable(&world)).expect(0);
    assert!(phase(&said, "rehearse_old").contains("release 1 is down"), "{}", said.stdout);
    assert_eq!(world.answering(), Some(2));
    let status = world.status();
    assert_eq!(status["rollback"]["ready"], false, "{status}");
}

#[test]
fn a_fix_that_fails_goes_back_to_the_newest_release_that_works() {
    let world = broken("ill-2");
    let said = world.release(&["healthy-times=4"]).expect(21).result();
    assert_eq!((&said["serving"], &said["last_good"]), (&1.into(), &1.into()), "{said}");
    assert_eq!(world.answering(), Some(1));
}

#[test]
fn a_stopped_service_takes_a_release_or_a_rollback_and_is_started() {
    let mut world = World::new();
    world.release_path(&breakable(&world)).expect(0);
    world.release(&[]).expect(0);
    world.cli(&["stop", "web"]).expect(0);
    // Nothing of a release that fails before it has connections is left.
    world.release(&["exit=4"]).expect(20);
    assert_eq!((world.status()["state"].clone(), world.answering()), ("stopped".into(), None));
    world.cli(&["rollback", "web"]).expect(0);
    assert_eq!((world.status()["state"].clone(), world.answering()), ("running".into(), Some(1)));
    // It was stopped because it is broken.
    fs::write(world.service_path("shared/crash-1"), "").unwrap();
    world.cli(&["stop", "web"]).expect(0);
    world.release(&[]).expect(0);
    assert_eq!(world.answering(), Some(4));
    world.power_cut();
    world.wake();
    world.wait("it serves after a reboot", |world| world.answering() == Some(4));
}

#[test]
fn a_reboot_in_a_bake_is_nobodys_fault() {
    let address = free_address();
    let mut world = World::asleep(address);
    let long = config(address, "").replace("for = \"200ms\"", "for = \"1h\"");
    world.configure(&long);
    world.wake();
    let bake = |world: &World, build: &std::path::Path| {
        world.cli(&["release", "web", &build.to_string_lossy(), "--detach"]).expect(40);
        world.wait("it bakes", |world| world.status()["operation"]["phase"] == "bake");
    };
    // The first release has nothing behind it, and had passed its gate.
    bake(&world, &world.build(&[]));
    world.power_cut();
    world.wake();
    world.wait("the first one serves", |world| world.answering() == Some(1));
    assert_eq!(world.status()["alarm"], serde_json::Value::Null);
    let build = world.build(&[]);
    bake(&world, &build);
    world.power_cut();
    world.wake();
    world.wait("the last good one serves", |world| world.answering() == Some(1));
    world.wait("it is over", |world| world.status()["operation"].is_null());
    world.reload(&config(address, ""));
    // Its artifact is not frozen.
    world.release_path(&build).expect(0);
    assert_eq!(world.answering(), Some(3));
}
