//! A process id that the kernel has given to another process: nobody takes that for a service's.

use std::fs;
use std::process::{Child, Command};

use crate::starved::Group;
use crate::world::{World, is_gone, kill};

/// Another process with this id. The kernel gives out the next free one after the last, which root may set;
/// others take some meanwhile.
fn another(pid: i32) -> Option<Child> {
    for _ in 0..500 {
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).ok()?;
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        if i32::try_from(child.id()).unwrap() == pid {
            return Some(child);
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    unreachable!("{pid} was never given out again");
}

#[test]
fn a_process_that_has_the_id_of_a_dead_service_is_left_alone() {
    let mut world = World::new();
    world.release(&[]).expect(0);
    world.release(&[]).expect(0);
    let (keeper, next, live) =
        (world.keeper_pid(), world.supervisor_pid().unwrap(), world.live_pid());
    let Some(group) = Group::new("freezer") else { return };
    // The keeper that would see its end is gone, and who takes its place looks later.
    group.take(next);
    group.freeze(true);
    kill(keeper, libc::SIGKILL);
    kill(live, libc::SIGKILL);
    world.wait("it is gone", |_| fs::metadata(format!("/proc/{live}")).is_err());
    let stranger = another(live);
    group.freeze(false);
    world.replaced_keeper(next);
    world.wait("another process serves", |world| ![0, live].contains(&world.live_pid()));
    world.release(&[]).expect(0);
    world.cli(&["rollback", "web", "--json"]).expect(0);
    world.cli(&["stop", "web", "--json"]).expect(0);
    assert!(world.sleep());
    let Some(mut stranger) = stranger else { return };
    assert!(!is_gone(live), "the stranger was ended");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}
