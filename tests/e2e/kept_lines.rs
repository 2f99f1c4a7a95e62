//! What a program writes is in its log, whatever becomes of the supervisor and the keeper meanwhile.

use std::fs;

use crate::world::{World, config, free_address};

/// A worker that writes numbered lines as fast as it can.
fn writes(n_lines: u32) -> World {
    let mut world = World::asleep(free_address());
    let text = config(world.address, "")
        .replace(&format!("listen = [\"tcp://{}\"]", world.address), "strategy = \"replace\"")
        .replace("http = \"/healthz\"", "");
    world.configure(&text);
    world.wake();
    let go = world.path("go");
    let script = format!(
        "while [ ! -e {} ]; do sleep 0.02; done; \
         awk 'BEGIN {{ for (i = 1; i <= {n_lines}; i++) print \"line\", i, \
         \"and some more text, so that it gets longer\" }}'; exec sleep 1000",
        go.display()
    );
    let build = world.build_of(&["/bin/sh", "-c", &script]);
    world.release_path(&build).expect(0);
    world
}

#[test]
fn a_killed_supervisor_loses_tears_and_repeats_no_line() {
    are_all_there(World::kill_supervisor);
}

/// Kills while a program writes.
pub fn are_all_there(kill: impl Fn(&World)) {
    let n_lines = 120_000;
    let world = writes(n_lines);
    fs::write(world.path("go"), "").unwrap();
    let all = || {
        let read = |name: &str| fs::read_to_string(world.service_path(name)).unwrap_or_default();
        read("logs/1.log.1") + &read("logs/1.log")
    };
    for part in 1..6 {
        let seen = format!(" line {} and", n_lines / 8 * part);
        world.wait("it has written on", |_| all().contains(&seen));
        let before = world.supervisor_pid();
        kill(&world);
        world.wait("another supervisor", |world| {
            world.supervisor_pid().is_some_and(|pid| Some(pid) != before)
        });
    }
    world.wait("all is written", |_| all().contains(&format!(" line {n_lines} and")));
    let text = all();
    let lines = text.lines().filter(|line| !line.contains(" halley: "));
    let mut expected = 1;
    for line in lines {
        let wanted = format!(" 0 line {expected} and some more text, so that it gets longer");
        assert!(line.ends_with(&wanted), "line {expected} is not there, but: {line}");
        expected += 1;
    }
    assert_eq!(expected, n_lines + 1);
}
