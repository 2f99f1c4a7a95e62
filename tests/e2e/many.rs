//! Many services in one stack: it comes up, answers and comes back. `HALLEY_SERVICES` is their number.

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::world::{NOBODY, World, config, free_address};

/// The first time every service's directories and its reserve are made, and synced.
const FIRST_BOOT: Duration = Duration::from_secs(300);

/// What a stack of many takes.
#[derive(Debug)]
pub struct Taken {
    /// Of keeper and supervisor.
    pub n_descriptors: [usize; 2],
    pub memory_kib: [u64; 2],
}

fn taken(world: &World) -> Taken {
    let own = [world.keeper_pid(), world.supervisor_pid().unwrap()];
    let memory = |pid: i32| -> u64 {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
        let line = text.lines().find(|line| line.starts_with("Pss:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    Taken {
        n_descriptors: own.map(|pid| fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()),
        memory_kib: own.map(memory),
    }
}

/// `web`, which is released, and so many more, which wait for their first release.
fn many(address: SocketAddr, n_services: usize) -> String {
    let mut text = config(address, "");
    let one = text.split_once('\n').unwrap().1.to_owned();
    for n in 1..n_services {
        let own = one.replace("service.web", &format!("service.web{n}"));
        text.push_str(&own.replace(&address.to_string(), &free_address().to_string()));
    }
    text
}

fn world(n_services: usize, wrapper: &[&str]) -> World {
    let mut world = World::asleep(free_address());
    world.configure(&many(world.address, n_services));
    world.begin_under(wrapper);
    let begun = Instant::now();
    while world.cli(&["status"]).code != 0 {
        assert!(begun.elapsed() < FIRST_BOOT, "never: the supervisor answers\n{}", world.run_log());
        std::thread::park_timeout(Duration::from_millis(50));
    }
    world
}

fn n_answered(world: &World) -> usize {
    let status = world.cli(&["status", "--json"]).expect(0).result();
    status["services"].as_array().unwrap().len()
}

/// It is asked, its supervisor is killed, and it is begun anew. What it takes at rest.
pub fn lives(n_services: usize, wrapper: &[&str]) -> Taken {
    let mut world = world(n_services, wrapper);
    world.release(&[]).expect(0);
    let live = world.live_pid();
    assert_eq!(n_answered(&world), n_services);
    let taken = taken(&world);
    let before = world.supervisor_pid();
    world.kill_supervisor();
    world.wait("another supervisor answers", |world| {
        world.supervisor_pid().is_some_and(|pid| Some(pid) != before)
            && world.cli(&["status"]).code == 0
    });
    assert_eq!((n_answered(&world), world.live_pid()), (n_services, live));
    assert!(!world.run_log().contains("not taken over"), "{}", world.run_log());
    world.release(&[]).expect(0);
    assert!(world.sleep());
    world.wake_under(wrapper);
    world.wait("it serves", |world| world.answering() == Some(2));
    taken
}

fn n_services() -> usize {
    std::env::var("HALLEY_SERVICES").ok().and_then(|n| n.parse().ok()).unwrap_or(150)
}

#[test]
fn a_stack_of_many_services_answers_and_comes_back() {
    let taken = lives(n_services(), &[]);
    // Two of the keeper's and of the supervisor's for each; what they are is no leak.
    let n = n_services();
    assert!(taken.n_descriptors.iter().all(|n_open| *n_open < 4 * n + 64), "{taken:?}");
    assert!(taken.memory_kib.iter().all(|kib| *kib < 96 * 1024), "{taken:?}");
}

#[test]
fn a_stack_of_many_services_needs_no_root() {
    lives(n_services() / 3, &NOBODY);
}

/// More services than there is room for: those that have none say so, and the others serve.
#[test]
fn a_stack_with_fewer_descriptors_than_services_runs_what_fits_and_has_one_keeper() {
    let mut world = World::asleep(free_address());
    world.configure(&config(world.address, ""));
    world.wake_under(&["sh", "-c", "ulimit -n 420 && exec \"$@\"", "sh"]);
    world.release(&[]).expect(0);
    world.reload(&many(world.address, n_services()));
    let (keeper, live) = (world.keeper_pid(), world.live_pid());
    let before = world.supervisor_pid();
    world.kill_supervisor();
    world.wait("another supervisor answers", |world| {
        world.supervisor_pid().is_some_and(|pid| Some(pid) != before)
            && world.cli(&["status"]).code == 0
    });
    assert_eq!((world.keeper_pid(), world.live_pid()), (keeper, live));
    assert!(!world.run_log().contains("takes its place"), "{}", world.run_log());
    assert!(world.run_log().contains("Too many open files"), "{}", world.run_log());
}

fn n_switches(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

/// The end of a process is reported: nothing is asked again and again of a worker that has no
/// address, and its end is seen all the same.
#[test]
fn workers_without_an_address_wake_no_process_while_they_run() {
    let mut world = World::asleep(free_address());
    let text = config(world.address, "")
        .replace(&format!("listen = [\"tcp://{}\"]", world.address), "strategy = \"replace\"")
        .replace("http = \"/healthz\"", "")
        .replace("rest_interval = \"off\"", "rest_interval = \"5ms\"");
    world.configure(&text);
    world.wake();
    let build = world.build_of(&["/bin/sleep", "1000"]);
    world.release_path(&build).expect(0);
    let own = [world.keeper_pid(), world.supervisor_pid().unwrap()];
    let before = own.map(n_switches);
    // The keeper asks its supervisor now and then whether it lives: that is the clock here.
    world.wait("the keeper has asked twice", |_| n_switches(own[0]) >= before[0] + 4);
    let n_wakes = n_switches(own[1]) - before[1];
    assert!(n_wakes < 100, "{n_wakes} wake-ups");
    let first = world.live_pid();
    crate::world::kill(first, libc::SIGKILL);
    world.wait("another runs", |world| {
        let status = world.status();
        let pid = status["instances"][0]["pid"].as_i64();
        status["state"] == "running" && pid.is_some_and(|pid| pid != i64::from(first))
    });
}
