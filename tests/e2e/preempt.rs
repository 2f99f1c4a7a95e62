//! A rollback waits for no release that can be called off.

use std::process::Stdio;

use crate::decoder::{slow_archive, stopped_decoder};
use crate::world::{World, config, free_address};

/// Whether the running release is in this phase.
fn is_in(world: &World, phase: &str) -> bool {
    world.status()["operation"]["phase"] == phase
}

/// A release is under way: another one comes back, and nothing is left of it.
fn rolled_back_in(world: &World, phase: &str, to: &[&str], serves: u64) {
    world.wait(phase, |world| is_in(world, phase));
    world.cli(&[&["rollback", "web", "--json"], to].concat()).expect(0);
    assert_eq!(world.answering(), Some(serves), "{phase}");
    for name in ["staging", "incoming"] {
        let n_left = std::fs::read_dir(world.service_path(name)).unwrap().count();
        assert_eq!(n_left, 0, "{phase}: {name}");
    }
}

#[test]
fn a_rollback_calls_a_release_off_in_whatever_phase_it_is() {
    let mut world = World::asleep(free_address());
    let flag = world.path("wait").display().to_string();
    let hook = format!(r#"["/bin/sh", "-c", "test ! -e {flag} || exec sleep 1000"]"#);
    world.configure(&config(world.address, &format!("[service.web.hooks]\nbefore_start = {hook}")));
    world.wake();
    world.release(&[]).expect(0);
    world.release(&[]).expect(0);

    let mut command = world.command(&["release", "web", "-"]);
    let mut stalled = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    rolled_back_in(&world, "receive", &[], 1);
    drop(stalled.stdin.take());
    stalled.wait().unwrap();

    let slow = slow_archive(&world).to_string_lossy().into_owned();
    world.cli(&["release", "web", &slow, "--detach"]).expect(40);
    stopped_decoder(&world);
    rolled_back_in(&world, "verify", &["--to", "2"], 2);

    let detached = |behaviour: &[&str]| {
        let build = world.build(behaviour).to_string_lossy().into_owned();
        world.cli(&["release", "web", &build, "--detach"]).expect(40);
    };
    std::fs::write(&flag, "").unwrap();
    detached(&[]);
    rolled_back_in(&world, "hook:before_start", &["--to", "1"], 1);
    std::fs::remove_file(&flag).unwrap();

    detached(&["unhealthy"]);
    rolled_back_in(&world, "gate", &["--to", "2"], 2);
}

/// Its own way back is the rollback: one step back, not two.
#[test]
fn a_rollback_of_a_release_on_trial_goes_back_to_the_one_before() {
    let address = free_address();
    let mut world = World::asleep(address);
    world.configure(&config(address, "").replace("for = \"200ms\"", "for = \"1h\""));
    world.wake();
    let release = || {
        let build = world.build(&[]).to_string_lossy().into_owned();
        world.cli(&["release", "web", &build, "--detach"]).expect(40);
        world.wait("it bakes", |world| is_in(world, "bake"));
    };
    for _ in 0..2 {
        release();
        world.cli(&["promote", "web"]).expect(0);
        world.wait("it is committed", |world| world.status()["operation"].is_null());
    }
    release();
    assert_eq!(world.answering(), Some(3));
    let said = world.cli(&["rollback", "web"]).expect(0);
    assert!(said.stderr.contains("was aborted, and release 2 serves"), "{}", said.stderr);
    assert_eq!(world.answering(), Some(2));
}
