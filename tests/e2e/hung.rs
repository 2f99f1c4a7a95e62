//! A supervisor that hangs is noticed and replaced.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use crate::world::{World, config, free_address, kill};

/// At rest: nothing ends, nobody asks.
#[test]
fn a_stopped_supervisor_is_replaced_at_rest() {
    let world = World::new();
    world.release(&[]).expect(0);
    let live = world.live_pid();
    let before = world.supervisor_pid().unwrap();
    kill(before, libc::SIGSTOP);
    world.wait("another supervisor", |world| {
        world.supervisor_pid().is_some_and(|pid| pid != before)
    });
    assert!(world.run_log().contains("the supervisor does not answer"), "{}", world.run_log());
    world.wait("it answers", |world| world.cli(&["status"]).code == 0);
    assert_eq!(world.live_pid(), live);
}

#[test]
fn the_longest_standstill_of_the_event_loop_is_in_status() {
    let world = World::new();
    world.release(&[]).expect(0);
    let status = world.cli(&["status", "--json"]).expect(0).result();
    assert!(status["lag_ms"].is_u64(), "{status}");
    assert!(status["lag_at"].as_str().unwrap().contains("src/supervisor/"), "{status}");
}

/// A boot that takes longer than the health check may, without probes at rest.
#[test]
fn a_slow_boot_is_no_trouble_any_more_once_it_answers() {
    let mut world = World::asleep(free_address());
    let quick = config(world.address, "").replace("deadline = \"5s\"", "deadline = \"1s\"");
    world.configure(&quick);
    world.wake();
    let slow = world.path("slow");
    let script = format!(
        "while [ -e {} ]; do sleep 0.02; done; exec {} {}",
        slow.display(),
        crate::world::BINARY,
        halley_sup::demo::service::VERB
    );
    let build = world.build_of(&["/bin/sh", "-c", &script]);
    world.release_path(&build).expect(0);
    assert!(world.sleep());
    fs::write(&slow, "").unwrap();
    world.wake();
    world.wait("it is not up in time", |world| world.status()["why"].is_string());
    fs::remove_file(&slow).unwrap();
    world.wait("it is healthy", |world| world.status()["state"] == "running");
    assert!(world.status()["why"].is_null(), "{}", world.status());
}

/// Stderr is a pipe that nobody reads, and full.
#[test]
fn a_stderr_that_nobody_reads_stops_nothing() {
    let mut world = World::asleep(free_address());
    let fifo = world.path("stderr");
    halley_sup::os::fs::make_fifo(&fifo, 0o600).unwrap();
    let held = halley_sup::os::fs::open_fifo(&fifo).unwrap();
    world.configure(&config(world.address, ""));
    let script = format!("exec \"$@\" 2<>{}", fifo.display());
    world.wake_under(&["sh", "-c", &script, "sh"]);
    world.release(&[]).expect(0);
    let own = fs::File::options().write(true).custom_flags(libc::O_NONBLOCK).open(&fifo).unwrap();
    for size in [4096, 1] {
        while (&own).write(&vec![b'x'; size]).is_ok() {}
    }
    for _ in 0..2 {
        let (before, live) = (world.supervisor_pid(), world.live_pid());
        world.kill_supervisor();
        kill(live, libc::SIGKILL);
        world.wait("it is started again", |world| {
            world.supervisor_pid().is_some_and(|pid| Some(pid) != before)
                && world.cli(&["status"]).code == 0
                && ![0, live].contains(&world.live_pid())
        });
    }
    drop(held);
}
