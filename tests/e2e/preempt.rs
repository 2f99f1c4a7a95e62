//! A rollback waits for no release that can be called off.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use crate::decoder::{slow_archive, stopped_decoder};
use crate::way_back::{meddle, own_program};
use crate::world::{World, config, free_address, kill};

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
        let n_left = fs::read_dir(world.service_path(name)).unwrap().count();
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
    fs::write(&flag, "").unwrap();
    detached(&[]);
    rolled_back_in(&world, "hook:before_start", &["--to", "1"], 1);
    fs::remove_file(&flag).unwrap();

    detached(&["unhealthy"]);
    rolled_back_in(&world, "gate", &["--to", "2"], 2);
}

/// A release of a build stays on trial until somebody ends it.
fn on_trial(world: &World, build: &Path) {
    world.cli(&["release", "web", &build.to_string_lossy(), "--detach"]).expect(40);
    world.wait("it bakes", |world| is_in(world, "bake"));
}

fn promoted(world: &World, build: &Path) {
    on_trial(world, build);
    world.cli(&["promote", "web"]).expect(0);
    world.wait("it is committed", |world| world.status()["operation"].is_null());
}

fn baking(more: &str) -> World {
    let address = free_address();
    let mut world = World::asleep(address);
    world.configure(&config(address, more).replace("for = \"200ms\"", "for = \"1h\""));
    world.wake();
    world
}

/// Its own way back is the rollback: one step back, not two, and with its hooks.
#[test]
fn a_rollback_of_a_release_on_trial_goes_back_to_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let flag = dir.path().join("hook");
    let hook = format!(r#"["/bin/sh", "-c", "sleep 0.5; echo > {}"]"#, flag.display());
    let world = baking(&format!("[service.web.hooks]\nafter_rollback = {hook}"));
    promoted(&world, &world.build(&[]));
    promoted(&world, &world.build(&[]));
    on_trial(&world, &world.build(&[]));
    assert_eq!(world.answering(), Some(3));
    let said = world.cli(&["rollback", "web"]).expect(0);
    assert!(said.stderr.contains("was aborted, and release 2 serves"), "{}", said.stderr);
    assert_eq!(world.answering(), Some(2));
    assert!(flag.exists(), "its hook was ended");
}

/// No rung of the way back of what was aborted holds, and nothing answers: the rollback takes over.
#[test]
fn a_rollback_waits_for_no_way_back_that_has_failed() {
    let world = baking("");
    promoted(&world, &own_program(&world, ""));
    on_trial(&world, &own_program(&world, "# two"));
    let run = fs::read(world.service_path("releases/1/run")).unwrap();
    meddle(&world, 1, |run| fs::write(run, "#!/bin/sh\nexec sleep 1000\n").unwrap());
    let instances = world.status()["instances"].as_array().cloned().unwrap();
    let old = instances.iter().find(|instance| instance["release"] == 1).unwrap();
    kill(i32::try_from(old["pid"].as_i64().unwrap()).unwrap(), libc::SIGKILL);
    let client = world.command(&["rollback", "web", "--to", "1"]).spawn().unwrap();
    world.wait("it goes back", |world| {
        world.status()["operation"]["phase"].as_str().is_some_and(|phase| phase.ends_with(":1"))
    });
    kill(world.live_pid(), libc::SIGKILL);
    world.wait("the rollback has begun", |world| world.status()["operation"]["kind"] == "rollback");
    meddle(&world, 1, |path| fs::write(path, run).unwrap());
    client.wait_with_output().unwrap();
    world.wait("it serves", |world| world.status()["serving"] == 1);
    assert_eq!(world.answering(), Some(1));
}

/// Connections of the service's address that are open.
fn n_connections(world: &World) -> usize {
    let port = format!(":{:04X}", world.address.port());
    let is_one = |line: &&str| {
        let mut words = line.split_whitespace().skip(1);
        words.next().is_some_and(|local| local.ends_with(&port)) && words.nth(1) == Some("01")
    };
    fs::read_to_string("/proc/net/tcp").unwrap().lines().filter(is_one).count()
}

/// A probe that waits in the queue of a process which dies is passed on to the one that serves, and that one
/// answers: no proof of a process that is not there any more.
#[test]
fn what_another_process_answers_opens_no_way_back() {
    let mut world = World::asleep(free_address());
    let text = config(world.address, "").replace("timeout = \"1s\"", "timeout = \"20s\"");
    world.configure(&text);
    world.wake();
    world.release(&[]).expect(0);
    world.release(&[]).expect(0);
    let instances = world.status()["instances"].as_array().cloned().unwrap();
    let old = instances.iter().find(|instance| instance["release"] == 1).unwrap();
    let old = i32::try_from(old["pid"].as_i64().unwrap()).unwrap();
    kill(old, libc::SIGSTOP);
    let client =
        world.command(&["rollback", "web", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    world.wait("it is asked", |world| n_connections(world) > 0);
    kill(old, libc::SIGKILL);
    let said = String::from_utf8(client.wait_with_output().unwrap().stdout).unwrap();
    let first = |phase: &str| said.contains(&format!(r#""phase":"{phase}:0","state":"ok""#));
    assert!(!first("back_gate") && !first("back_flip"), "{said}");
    assert_eq!(world.answering(), Some(1), "{said}");
}
