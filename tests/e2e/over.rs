//! Trouble that is over is gone: `status` says what is true now, at once, whatever ended it.

use std::fs;

use crate::modes::world_with;
use crate::world::{World, config, free_address, kill};

/// A service whose health is looked at while it serves, and is bad as long as there is a file.
fn watched() -> World {
    let mut world = World::asleep(free_address());
    // Rarely enough that nothing here is over because of the next look.
    let text = config(world.address, "");
    let text = text.replace("rest_interval = \"off\"", "rest_interval = \"2s\"");
    world.configure(&text);
    world.wake();
    world.release(&["shares-fate"]).expect(0);
    world
}

fn falls_ill(world: &World) {
    fs::write(world.service_path("shared/down"), "").unwrap();
    world.wait("it is seen", |world| world.status()["state"] == "degraded");
}

#[track_caller]
fn is_well(world: &World) {
    let status = world.status();
    assert_eq!(
        (status["state"].as_str(), status["why"].as_str()),
        (Some("running"), None),
        "{status}"
    );
    assert!(status["alarm"].is_null(), "{status}");
}

#[test]
fn what_ailed_a_service_before_its_stop_is_no_reason_why_it_does_not_start() {
    let world = watched();
    falls_ill(&world);
    world.cli(&["stop", "web"]).expect(0);
    fs::remove_file(world.service_path("shared/down")).unwrap();
    world.cli(&["start", "web"]).expect(0);
    is_well(&world);
}

#[test]
fn what_ailed_the_release_before_is_over_with_the_commit() {
    let world = watched();
    falls_ill(&world);
    world.release(&[]).expect(0);
    is_well(&world);
    let world = watched();
    world.release(&["shares-fate"]).expect(0);
    falls_ill(&world);
    fs::remove_file(world.service_path("shared/down")).unwrap();
    world.cli(&["rollback", "web"]).expect(0);
    is_well(&world);
    falls_ill(&world);
    fs::remove_file(world.service_path("shared/down")).unwrap();
    world.cli(&["restart", "web"]).expect(0);
    is_well(&world);
}

/// Nobody looks at it at rest, and nothing has happened to it.
#[test]
fn what_was_ready_is_ready_for_the_next_supervisor_too() {
    let world = World::new();
    world.release(&[]).expect(0);
    assert_eq!(world.status()["instances"][0]["state"], "ready");
    for kill in [World::kill_supervisor, World::kill_keeper] {
        kill(&world);
        world.wait("it is ready", |world| world.status()["instances"][0]["state"] == "ready");
    }
    is_well(&world);
}

/// A proxy led by a command, which fails once when there is a file `once`, and as long as there is
/// a file `always`.
fn led() -> World {
    let lines = |world: &World| {
        let at = world.path("");
        let script = format!("cd {} && ! rm once 2>/dev/null && ! [ -e always ]", at.display());
        let flip = format!("[\"/bin/sh\", \"-c\", {script:?}]");
        format!("handoff = \"port\"\n[service.web.proxy]\nkind = \"command\"\nflip = {flip}\n")
    };
    let world = world_with(lines, "", &[]);
    world.release(&[]).expect(0);
    world
}

#[test]
fn a_proxy_that_is_back_where_it_was_is_no_trouble() {
    let world = led();
    fs::write(world.path("once"), "").unwrap();
    let said = world.release(&[]).expect(21).result();
    assert_eq!(said["serving"], 1, "{said}");
    is_well(&world);
}

#[test]
fn a_proxy_that_is_not_configured_any_more_is_no_trouble() {
    let mut world = led();
    fs::write(world.path("always"), "").unwrap();
    assert!(world.sleep());
    world.wake();
    world.wait("the proxy is not led", |world| world.status()["state"] == "degraded");
    // Nobody calls it any more.
    let text = config(world.address, "")
        .replace(&format!("listen = [\"tcp://{}\"]", world.address), "strategy = \"replace\"")
        .replace("http = \"/healthz\"", "");
    world.reload(&text);
    is_well(&world);
}

#[test]
fn instances_that_could_not_be_started_are_no_trouble_when_they_are_not_wanted() {
    let world = World::new();
    world.release(&["alone"]).expect(0);
    let text = config(world.address, "");
    let two = text.replace("[service.web.health]", "instances = 2\n[service.web.health]");
    world.reload(&two);
    world.wait("there is only one", |world| world.status()["state"] == "degraded");
    world.reload(&text);
    world.wait("it is what is wanted", |world| world.status()["state"] == "running");
    world.reload(&two);
    world.wait("there is only one", |world| world.status()["state"] == "degraded");
    // Before anything has tried again.
    world.cli(&["stop", "web"]).expect(0);
    world.reload(&text);
    world.cli(&["start", "web"]).expect(0);
    is_well(&world);
}

/// One that crashes again and again is given up.
#[test]
fn crashes_of_an_instance_that_is_not_wanted_any_more_are_no_trouble() {
    let world = World::new();
    world.release(&[]).expect(0);
    let text = config(world.address, "");
    world.reload(&text.replace("[service.web.health]", "instances = 2\n[service.web.health]"));
    let second = |world: &World| {
        let status = world.status();
        let found =
            status["instances"].as_array()?.iter().find(|one| one["instance"] == 1)?.clone();
        i32::try_from(found["pid"].as_i64()?).ok().filter(|_| found["state"] == "ready")
    };
    let mut killed = None;
    while !in_loop(&world) {
        world.wait("it is started again, or that is enough", |world| {
            second(world).is_some_and(|pid| Some(pid) != killed) || in_loop(world)
        });
        killed = second(&world).or(killed);
        killed.into_iter().for_each(|pid| kill(pid, libc::SIGKILL));
    }
    world.reload(&text);
    world.wait("it is what is wanted", |world| world.status()["state"] == "running");
}

fn in_loop(world: &World) -> bool {
    world.status()["why"].as_str().is_some_and(|why| why.contains("crash loop"))
}
