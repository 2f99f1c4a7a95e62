//! A host that is short of descriptors, processes and memory.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use halley_sup::demo::load::Shape;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::world::{World, config, free_address, is_gone, kill};

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

/// Lets a process open no more files than it has.
pub fn limit_files(pid: i32) {
    limit_files_to(pid, first_free(pid));
}

fn first_free(pid: i32) -> u64 {
    let open: Vec<u64> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .collect();
    (0..).find(|fd| !open.contains(fd)).unwrap()
}

fn limit_files_to(pid: i32, n_files: u64) {
    let pid = Pid::from_raw(pid);
    let maximum = hard(pid).maximum;
    prlimit(pid, Resource::Nofile, Rlimit { current: Some(n_files), maximum }).unwrap();
}

/// The highest limit that is left as it is.
fn hard(pid: Option<Pid>) -> Rlimit {
    let limits = fs::read_to_string(format!("/proc/{}/limits", pid.unwrap().as_raw_nonzero()));
    let limits = limits.unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let maximum = line.split_whitespace().nth(4).unwrap().parse().ok();
    Rlimit { current: maximum, maximum }
}

pub fn unlimit_files(pid: i32) {
    let pid = Pid::from_raw(pid);
    prlimit(pid, Resource::Nofile, hard(pid)).unwrap();
}

/// Everything works again.
fn works_again(world: &World) {
    world.wait("it serves", |world| world.status()["state"] == "running");
    world.release(&[]).expect(0);
    world.release(&[]).expect(0);
    world.cli(&["rollback", "web", "--json"]).expect(0);
    world.cli(&["restart", "web", "--json"]).expect(0);
}

#[test]
fn a_supervisor_without_a_descriptor_left_answers_and_goes_back_and_what_serves_goes_on() {
    let world = World::new();
    world.release(&[]).expect(0);
    world.release(&[]).expect(0);
    let load = world.load(Shape::Short);
    let supervisor = world.supervisor_pid().unwrap();
    limit_files(supervisor);
    assert_eq!(world.status()["serving"], 2);
    // Several at a time, one after the other.
    let ask = |_| world.command(&["status"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let several: Vec<_> = (0..4).map(|n| ask(n).unwrap()).collect();
    for mut client in several {
        assert!(client.wait().unwrap().success());
    }
    let refused = world.release(&[]).expect(1);
    assert!(refused.why().contains("no room for its descriptors"), "{refused:?}");
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
    let live = world.live_pid();
    kill(live, libc::SIGKILL);
    world.wait("another process serves", |world| ![0, live].contains(&world.live_pid()));
    assert_eq!(world.supervisor_pid(), Some(supervisor));
    unlimit_files(supervisor);
    works_again(&world);
}

#[test]
fn a_keeper_without_a_descriptor_left_says_so_and_loses_no_request() {
    let world = World::new();
    world.release(&[]).expect(0);
    world.release(&[]).expect(0);
    let load = world.load(Shape::Short);
    let keeper = world.keeper_pid();
    limit_files(keeper);
    let refused = world.release(&[]);
    assert!([14, 20].contains(&refused.code), "{refused:?}");
    assert!(refused.why().contains("descriptor"), "{refused:?}");
    assert_eq!(world.cli(&["rollback", "web", "--json"]).expect(0).result()["serving"], 1);
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
    let live = world.live_pid();
    kill(live, libc::SIGKILL);
    world.wait("it is said why it is not started", |world| {
        world.run_log().contains("starting a launcher: Too many open files")
    });
    unlimit_files(keeper);
    works_again(&world);
}

/// A program whose calls the keeper answers is started: the supervisor has no room for its copy of that.
#[test]
fn a_supervisor_that_has_no_room_for_what_the_keeper_hands_over_is_replaced_and_is_no_keeper() {
    let mut world = World::asleep(free_address());
    let text = config(world.address, "");
    world.configure(&text.replace("listen =", "handoff = \"intercept\"\nlisten ="));
    world.wake();
    let address = world.address.to_string();
    let bind = format!("bind={address}");
    world.release(&[&bind]).expect(0);
    let (keeper, supervisor) = (world.keeper_pid(), world.supervisor_pid().unwrap());
    let live = world.live_pid();
    limit_files_to(supervisor, 4);
    kill(live, libc::SIGKILL);
    world.wait("another supervisor", |world| {
        world.supervisor_pid().is_some_and(|pid| pid != supervisor)
            && world.cli(&["status"]).code == 0
    });
    assert!(is_gone(supervisor), "there are two keepers");
    assert!(!is_gone(keeper));
    assert!(!world.run_log().contains("takes its place"), "{}", world.run_log());
    world.wait("it serves", |world| world.status()["state"] == "running");
    world.release(&[&bind]).expect(0);
}

/// A control group that ends with the test: of processes, or of memory. `None` where none can be made.
pub struct Group {
    path: PathBuf,
    is_unified: bool,
}

impl Group {
    pub fn new(controller: &str) -> Option<Self> {
        let own = format!("halley-{}-{controller}", free_address().port());
        let old = Path::new("/sys/fs/cgroup").join(controller).join(&own);
        let new = Path::new("/sys/fs/cgroup").join(&own);
        let is_unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        let path = if is_unified { new } else { old };
        if is_unified && controller != "freezer" {
            let enabled =
                fs::write("/sys/fs/cgroup/cgroup.subtree_control", format!("+{controller}"));
            enabled.ok()?;
        }
        fs::create_dir(&path).ok()?;
        Some(Self { path, is_unified })
    }

    /// What a world is started under to be in it.
    pub fn wrapper(&self) -> [String; 4] {
        let script = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", self.path.display());
        ["sh".to_owned(), "-c".to_owned(), script, "sh".to_owned()]
    }

    /// A process that is in it from now on, with what it starts.
    pub fn take(&self, pid: i32) {
        fs::write(self.path.join("cgroup.procs"), pid.to_string()).unwrap();
    }

    /// A process that is where the group itself is, from now on.
    pub fn let_go(&self, pid: i32) {
        let outside = self.path.parent().unwrap().join("cgroup.procs");
        drop(fs::write(outside, pid.to_string()));
    }

    /// What is in it stands still, and is not stopped (`SIGSTOP`).
    pub fn freeze(&self, is_frozen: bool) {
        let (name, words) = match self.is_unified {
            true => ("cgroup.freeze", ["0", "1"]),
            false => ("freezer.state", ["THAWED", "FROZEN"]),
        };
        fs::write(self.path.join(name), words[usize::from(is_frozen)]).unwrap();
    }

    /// No more processes than there are.
    pub fn limit_processes(&self, is_limited: bool) {
        let now = fs::read_to_string(self.path.join("pids.current")).unwrap();
        let limit = if is_limited { now.trim() } else { "max" };
        fs::write(self.path.join("pids.max"), limit).unwrap();
    }

    pub fn limit_memory(&self, bytes: u64) {
        let name = if self.is_unified { "memory.max" } else { "memory.limit_in_bytes" };
        fs::write(self.path.join(name), bytes.to_string()).unwrap();
    }

    /// How many processes were killed because memory ran out.
    pub fn n_killed(&self) -> u32 {
        let name = if self.is_unified { "memory.events" } else { "memory.oom_control" };
        let text = fs::read_to_string(self.path.join(name)).unwrap();
        let line = text.lines().find(|line| line.starts_with("oom_kill ")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        drop(fs::remove_dir(&self.path));
    }
}

/// A world in a control group.
pub fn within(group: &Group) -> World {
    let mut world = World::asleep(free_address());
    world.configure(&config(world.address, ""));
    let wrapper = group.wrapper();
    world.wake_under(&wrapper.each_ref().map(String::as_str));
    world.release(&[]).expect(0);
    world.release(&[]).expect(0);
    world
}

#[test]
fn a_host_without_a_process_left_starts_nothing_and_what_serves_goes_on() {
    let Some(group) = Group::new("pids") else { return };
    // A name has to be looked up, which takes a thread.
    let hook = format!("[notify.hook]\nhttp = \"http://localhost:{}/\"", free_address().port());
    let world = World::with(&hook);
    world.release(&[]).expect(0);
    world.release(&[]).expect(0);
    let load = world.load(Shape::Short);
    let supervisor = world.supervisor_pid();
    // What serves makes threads of its own.
    for pid in [world.keeper_pid(), supervisor.unwrap()] {
        group.take(pid);
    }
    // The one that reads other processes' memory does nothing else.
    let works = |thread: &fs::DirEntry| {
        fs::read_to_string(thread.path().join("comm")).is_ok_and(|name| name.trim() != "reader")
    };
    world.wait("its threads have left", |_| {
        let threads = fs::read_dir(format!("/proc/{}/task", supervisor.unwrap())).unwrap();
        threads.flatten().filter(works).count() == 1
    });
    // Neither a process nor a thread.
    group.limit_processes(true);
    let refused = world.release(&[]);
    assert!([1, 13, 14, 20].contains(&refused.code), "{refused:?}");
    assert_eq!(world.cli(&["rollback", "web", "--json"]).expect(0).result()["serving"], 1);
    let untold = world.cli(&["notify", "hook"]);
    assert_ne!(untold.code, 0, "{untold:?}");
    assert!(untold.stderr.contains("Resource temporarily unavailable"), "{untold:?}");
    for verb in ["drill", "repair"] {
        let not_tried = world.cli(&[verb, "web"]);
        assert_ne!(not_tried.code, 0, "{not_tried:?}");
    }
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
    assert_eq!(world.supervisor_pid(), supervisor, "{}", world.run_log());
    let live = world.live_pid();
    kill(live, libc::SIGKILL);
    world.wait("it is said why it is not started", |world| {
        world.run_log().contains("starting a launcher: Resource temporarily unavailable")
    });
    group.limit_processes(false);
    for pid in [world.keeper_pid(), supervisor.unwrap()] {
        group.let_go(pid);
    }
    works_again(&world);
}

/// Takes memory until it is killed.
const HUNGRY: [&str; 3] =
    ["/usr/bin/python3", "-c", "a = []\nwhile True: a.append(bytearray(b'x' * 1048576))"];

#[test]
fn a_candidate_that_eats_all_memory_is_the_one_that_is_killed() {
    let Some(group) = Group::new("memory") else { return };
    let world = within(&group);
    let load = world.load(Shape::Short);
    let before = (world.keeper_pid(), world.supervisor_pid(), world.live_pid());
    group.limit_memory(400 << 20);
    let build = world.build_of(&HUNGRY);
    let refused = world.release_path(&build).expect(20);
    assert!(refused.why().contains("memory ran out"), "{}", refused.why());
    assert!(group.n_killed() > 0);
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
    assert_eq!((world.keeper_pid(), world.supervisor_pid(), world.live_pid()), before);
    group.limit_memory(4 << 30);
    works_again(&world);
}

/// The same, the last of it when its input ends.
const HUNGRY_WHEN_TOLD: &str = "import sys\n\
     a = [bytearray(b'x' * 1048576) for n in range(250)]\n\
     print('ready', flush=True); sys.stdin.read()\n\
     while True: a.append(bytearray(b'x' * 1048576))";

/// Has the kernel kill a process of the world because memory has run out.
pub fn run_out_of_memory(group: &Group, victim: i32) {
    group.limit_memory(400 << 20);
    let wrapper = group.wrapper();
    let mut hungry = Command::new(&wrapper[0]);
    hungry.args(&wrapper[1..]).args(["/usr/bin/python3", "-c", HUNGRY_WHEN_TOLD]);
    let mut hungry = hungry.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut told = [0; 6];
    hungry.stdout.take().unwrap().read_exact(&mut told).unwrap();
    // What it starts would have the same place in the order, and be killed after it.
    kill(victim, libc::SIGSTOP);
    fs::write(format!("/proc/{victim}/oom_score_adj"), "1000").unwrap();
    drop(hungry.stdin.take());
    drop(hungry.wait());
    group.limit_memory(4 << 30);
}

#[test]
fn a_supervisor_and_a_keeper_that_are_killed_for_their_memory_are_replaced() {
    let Some(group) = Group::new("memory") else { return };
    let world = within(&group);
    let load = world.load(Shape::Short);
    let live = world.live_pid();
    let (keeper, supervisor) = (world.keeper_pid(), world.supervisor_pid().unwrap());
    run_out_of_memory(&group, supervisor);
    assert!(group.n_killed() > 0 && is_gone(supervisor));
    world.wait("another supervisor", |world| world.cli(&["status"]).code == 0);
    let next = world.supervisor_pid().unwrap();
    run_out_of_memory(&group, keeper);
    assert!(is_gone(keeper));
    world.replaced_keeper(next);
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
    assert_eq!(world.live_pid(), live);
    works_again(&world);
}
