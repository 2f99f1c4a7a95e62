//! A host that is short of descriptors and memory.

use std::fs;
use std::process::Command;

use crate::world::{World, config, free_address};

/// More instances than a soft limit has room for, and a program that has that limit.
#[test]
fn a_low_soft_limit_of_open_files_limits_programs_and_not_halley() {
    let mut world = World::asleep(free_address());
    let text = config(world.address, "");
    world.configure(&text.replace("[service.web.health]", "instances = 6\n[service.web.health]"));
    world.wake_under(&["sh", "-c", "ulimit -Sn 40 && exec \"$@\"", "sh"]);
    world.release(&[]).expect(0);
    world.release(&[]).expect(0);
    let of = |pid: i32, name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
    let soft = |pid: i32| {
        let limits = of(pid, "limits");
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        line.split_whitespace().nth(3).unwrap().to_owned()
    };
    let (live, supervisor) = (world.live_pid(), world.supervisor_pid().unwrap());
    assert_eq!(soft(live), "40");
    assert_ne!(soft(supervisor), "40");
    let score = |pid: i32| of(pid, "oom_score_adj").trim().to_owned();
    let own = score(i32::try_from(std::process::id()).unwrap());
    // Not everywhere may root do so.
    let lowered = Command::new("sh").args(["-c", "echo -900 > /proc/self/oom_score_adj"]).output();
    let may = lowered.is_ok_and(|output| output.status.success() && output.stderr.is_empty());
    let spared = if may { "-900" } else { own.as_str() };
    assert_eq!([score(world.keeper_pid()), score(supervisor)], [spared, spared]);
    assert_eq!(score(live), own);
}
