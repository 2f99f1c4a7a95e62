//! When a live program that ended is started again, and when it is not.

use std::fs;

use crate::world::{World, config, free_address, kill};

fn world(restart: &str) -> World {
    let mut world = World::asleep(free_address());
    let text = config(world.address, "");
    let own = format!("[service.web]\nrestart = \"{restart}\"\n");
    world.configure(&text.replacen("[service.web]\n", &own, 1));
    world.wake();
    world.release(&[]).expect(0);
    world
}

/// What `status` says when its program has ended for good.
fn ended(world: &World) -> String {
    world.wait("it has ended for good", |world| {
        let status = world.status();
        status["state"] == "down"
            && status["why"].as_str().is_some_and(|why| why.contains("not started again"))
    });
    world.status()["why"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn with_on_failure_a_program_that_ends_by_itself_stays_ended_until_it_is_started() {
    let world = world("on-failure");
    let crash = |world: &World| {
        let pid = world.live_pid();
        kill(pid, libc::SIGKILL);
        world.wait("it was started again", |world| ![0, pid].contains(&world.live_pid()));
        world.wait("it answers", |world| world.answering() == Some(1));
    };
    crash(&world);
    kill(world.live_pid(), libc::SIGTERM);
    let why = ended(&world);
    assert!(why.contains("exit 0") && why.contains("restart = \"on-failure\""), "{why}");
    assert!(why.contains("halley-sup start web"), "{why}");
    // Nor does the next supervisor start it, or a reload.
    let before = world.supervisor_pid();
    world.kill_supervisor();
    world.wait("another supervisor answers", |world| {
        world.supervisor_pid().is_some_and(|pid| Some(pid) != before)
            && world.cli(&["status"]).code == 0
    });
    assert_eq!(ended(&world), why);
    world.cli(&["reload"]).expect(0);
    assert_eq!(ended(&world), why);
    world.cli(&["start", "web"]).expect(0);
    assert_eq!(world.answering(), Some(1));
    assert_eq!(world.status()["state"], "running");
    // The note of before is no reason for the supervisor after this one.
    crash(&world);
    kill(world.live_pid(), libc::SIGTERM);
    ended(&world);
    world.cli(&["start", "web"]).expect(0);
    world.kill_supervisor();
    world.wait("it is managed again", |world| world.status()["state"] == "running");
    crash(&world);
}

#[test]
fn with_never_a_crash_is_the_end_until_a_start_a_release_or_a_boot() {
    let mut world = world("never");
    let ends = |world: &World| {
        kill(world.live_pid(), libc::SIGKILL);
        let why = ended(world);
        assert!(why.contains("SIGKILL") && why.contains("restart = \"never\""), "{why}");
    };
    ends(&world);
    let said = world.cli(&["restart", "web"]).expect(10);
    assert!(said.stderr.contains("has ended and is not started again"), "{}", said.stderr);
    world.cli(&["start", "web"]).expect(0);
    assert_eq!((world.answering(), world.status()["state"].as_str()), (Some(1), Some("running")));
    ends(&world);
    world.release(&[]).expect(0);
    assert_eq!(world.answering(), Some(2));
    ends(&world);
    assert!(world.sleep());
    world.wake();
    world.wait("it serves after a boot", |world| world.answering() == Some(2));
}

/// Says that it lives until it is told to hang, then goes on without a word.
const DOG: &str = r#"
import os, socket, sys, time
say = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
say.connect(os.environ["NOTIFY_SOCKET"])
assert os.environ["WATCHDOG_USEC"] == "1000000"
say.send(b"READY=1\nSTATUS=warm and well\nMAINPID=1")
while True:
    if os.path.exists(sys.argv[1] + "/trigger"):
        os.remove(sys.argv[1] + "/trigger")
        say.send(b"WATCHDOG=trigger")
    if not os.path.exists(sys.argv[1] + "/hang"):
        say.send(b"WATCHDOG=1")
    time.sleep(0.05)
"#;

#[test]
fn a_program_that_says_no_more_that_it_lives_is_ended_and_started_again() {
    let mut world = World::asleep(free_address());
    let here = world.path("").display().to_string();
    fs::write(world.path("dog.py"), DOG).unwrap();
    world.configure(
        "root = \"root\"\n[service.web]\n[service.web.health]\nnotify = true\nwatchdog = \"1s\"\n\
         interval = \"30ms\"\nrise = 1\nmin_healthy = \"0s\"\n[service.web.bake]\nfor = \"0s\"\n",
    );
    world.wake();
    let build = world.build_of(&["python3", &format!("{here}/dog.py"), &here]);
    world.release_path(&build).expect(0);
    let said = world.cli(&["status", "web"]).expect(0).stdout;
    assert!(said.contains("ready: warm and well"), "{said}");
    let again = |world: &World, before: i32| {
        world.wait("it was started again", |world| ![0, before].contains(&world.live_pid()));
    };
    // It is not for want of time that nothing happened.
    let first = world.live_pid();
    fs::write(world.path("hang"), "").unwrap();
    again(&world, first);
    fs::remove_file(world.path("hang")).unwrap();
    assert!(world.run_log().contains("no WATCHDOG=1 for 1 s"), "{}", world.run_log());
    assert!(world.run_log().contains("SIGABRT"), "{}", world.run_log());
    world.wait("it is ready", |world| world.status()["state"] == "running");
    // The next supervisor watches it as well; one that finds out itself is not waited for.
    let second = world.live_pid();
    world.kill_supervisor();
    world.wait("it is managed again", |world| world.status()["state"] == "running");
    fs::write(world.path("trigger"), "").unwrap();
    again(&world, second);
}
