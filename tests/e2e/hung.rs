//! A supervisor that hangs is noticed and replaced.

use crate::world::{World, kill};

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
