//! Where control groups can be made, whatever a program starts is in its own, and ends with it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::way_back::own_program;
use crate::world::{World, config, free_address, is_gone, kill};

/// A group that a stack has for itself, as under systemd; it ends with the test. `None` where none can be made.
struct Delegated(PathBuf);

impl Delegated {
    fn new() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let mut lines = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let at = lines.find(|line| line[2] == "cgroup2")?[1].to_owned();
        let dir = Path::new(&at).join(format!("test-of-halley-{}", free_address().port()));
        fs::create_dir(&dir).ok().map(|()| Self(dir))
    }

    fn world(&self, more: &str) -> World {
        let mut world = World::asleep(free_address());
        world.configure(&config(world.address, more));
        self.wake(&mut world);
        world
    }

    fn wake(&self, world: &mut World) {
        let script = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", self.0.display());
        world.wake_under(&["sh", "-c", &script, "sh"]);
    }

    fn groups(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.0).unwrap().flatten();
        entries.filter(|entry| entry.file_type().unwrap().is_dir()).map(|it| it.path()).collect()
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        for group in self.groups().into_iter().chain([self.0.clone()]) {
            drop(fs::remove_dir(group));
        }
    }
}

/// It has left its parents, its session, its environment and, as root may, its mark.
const RUNS_AWAY: &str = "\
    (env -i /usr/bin/setsid /usr/bin/unshare --uts /bin/sh -c 'echo none > /proc/sys/kernel/domainname; \
     echo $$ > '$HALLEY_SHARED/away'; exec /bin/sleep 1000' </dev/null >/dev/null 2>&1 &)";

/// What has run away, once it is in its last program.
fn away(world: &World) -> i32 {
    let pid = || fs::read_to_string(world.service_path("shared/away")).ok()?.trim().parse().ok();
    let is_asleep = |pid: i32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "sleep")
    };
    world.wait("it has run away", |_| pid().is_some_and(is_asleep));
    pid().unwrap()
}

fn group_of(pid: i32) -> String {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap().to_owned()
}

#[test]
fn what_runs_away_from_a_program_ends_with_it() {
    let Some(delegated) = Delegated::new() else { return };
    let mut world = delegated.world("");
    world.release_path(&own_program(&world, RUNS_AWAY)).expect(0);
    let (live, stray) = (world.live_pid(), away(&world));
    assert_eq!(group_of(live), group_of(stray));
    assert_ne!(group_of(live), group_of(world.keeper_pid()));
    // A crash of the program takes it along.
    kill(live, libc::SIGKILL);
    world.wait("it is started again", |world| ![0, live].contains(&world.live_pid()));
    world.wait("what it had started is gone", |_| is_gone(stray));
    let stray = away(&world);
    // Neither does it outlive a keeper and a supervisor that have never seen each other.
    world.kill_both();
    delegated.wake(&mut world);
    assert!(!is_gone(stray));
    world.cli(&["stop", "web"]).expect(0);
    world.wait("what it had started is gone", |_| is_gone(stray));
    assert!(world.sleep());
    assert_eq!(delegated.groups(), Vec::<PathBuf>::new());
}

/// A restart, a release and a failed release leave no group behind.
#[test]
fn groups_go_with_their_processes() {
    let Some(delegated) = Delegated::new() else { return };
    let world = delegated.world("[service.web.keep]\nstandby = \"0s\"");
    world.release(&[]).expect(0);
    world.release(&[]).expect(0);
    // A program may make groups in its own.
    delegated.groups().iter().for_each(|group| fs::create_dir(group.join("inner")).unwrap());
    world.release(&["exit=1"]).expect(20);
    world.cli(&["restart", "web"]).expect(0);
    world.wait("only the live one is left", World::is_alone);
    world.wait("one group is left", |_| delegated.groups().len() == 1);
    let own = fs::read_to_string(delegated.groups()[0].join("cgroup.procs")).unwrap();
    assert_eq!(own.trim(), world.live_pid().to_string());
}
