//! Faults, each so many times, at places spread over a release, under clients that count what they lose.
//! Each row of the table: a fault, how often it was made, the requests that were lost, and how often the
//! stack was whole afterwards: either the release from before serves, or the new one is committed.
//!
//! `HALLEY_TRIES` is the number of tries of each (20 when absent); words behind `faults` choose rows.

use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use halley_sup::core::ids::OpId;
use halley_sup::demo::load::{Load, Shape};
use halley_sup::os::proc;
use halley_sup::store::journal;
use halley_sup::store::layout::Layout;

use crate::broken_disk::{Broken, Work};
use crate::clock::Jumping;
use crate::full_disk::{Disk, world_on};
use crate::passthrough::Fault;
use crate::starved::{Group, limit_files, run_out_of_memory, unlimit_files};
use crate::up_to_the_kill;
use crate::world::{World, kill};

/// How long it may take until everything is settled after a fault.
const SETTLED: Duration = Duration::from_secs(60);

/// Makes a fault so many times.
type Make = fn(u32) -> Row;

#[derive(Debug, Default)]
struct Row {
    n_tries: u32,
    n_requests: u64,
    n_lost: u64,
    n_old: u32,
    n_new: u32,
}

pub fn table() {
    let n = std::env::var("HALLEY_TRIES").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    println!("fault                          tries  requests   lost  converged  ended in");
    let chosen: Vec<String> =
        std::env::args().skip_while(|word| word != "faults").skip(1).collect();
    let all: [(&str, Make); 19] = [
        ("kill -9 supervisor", |n| on_world(n, |world, _| world.kill_supervisor())),
        ("kill -9 keeper", |n| on_world(n, |world, _| world.kill_keeper())),
        ("kill -9 both", |n| on_world(n, |world, _| kill_both(world))),
        ("SIGSTOP supervisor", |n| on_world(n, |world, _| stop_supervisor(world))),
        ("full disk", full),
        ("EIO", |n| refused(n, libc::EIO)),
        ("EDQUOT", |n| refused(n, libc::EDQUOT)),
        ("ENOSPC", |n| refused(n, libc::ENOSPC)),
        ("read-only (EROFS)", |n| refused(n, libc::EROFS)),
        ("EMFILE supervisor", |n| {
            on_world(n, |world, _| {
                starve(world.supervisor_pid());
            })
        }),
        ("EMFILE keeper", |n| on_world(n, |world, _| starve(Some(world.keeper_pid())))),
        ("fork EAGAIN", no_processes),
        ("out of memory: supervisor", |n| {
            out_of_memory(n, |world| world.supervisor_pid().unwrap())
        }),
        ("out of memory: keeper", |n| out_of_memory(n, World::keeper_pid)),
        ("clock ten years on, then back", clock),
        ("clock ten years back, then on", |n| jumps(n, -10)),
        ("damaged state", |n| on_world(n, |world, _| damage(world, "state.json"))),
        ("damaged journal", |n| on_world(n, |world, _| damage_journal(world))),
        ("damaged trial", |n| on_world(n, |world, _| damage(world, "trial+2"))),
    ];
    for (name, make) in all {
        if chosen.is_empty() || chosen.iter().any(|word| name.contains(word.as_str())) {
            let row = make(n);
            let ends = format!("old {}, new {}", row.n_old, row.n_new);
            println!(
                "{name:<30} {:>5} {:>9} {:>6} {:>10}  {ends}",
                row.n_tries,
                row.n_requests,
                row.n_lost,
                row.n_old + row.n_new
            );
        }
    }
}

fn clock(n: u32) -> Row {
    jumps(n, 10)
}

/// A release under load with a fault in it, so many times.
fn tries(n: u32, world: &mut World, mut fault: impl FnMut(&mut World, u32)) -> Row {
    let mut row = Row::default();
    for nth in 0..n {
        let before = world.status()["serving"].as_u64();
        let load = Load::start(world.address, Shape::Short, 4);
        let mut client = release(world);
        // Spread over the life of a release.
        up_to_the_kill(Duration::from_millis(u64::from(nth * 37 % 450)));
        fault(world, nth);
        let end = settled(world);
        // Others may come to it too late.
        drop(client.kill());
        drop(client.wait());
        let ledger = load.stop();
        row.n_tries += 1;
        row.n_requests += ledger.n_requests();
        row.n_lost += ledger.n_lost();
        if ledger.n_lost() > 0 {
            eprintln!("try {nth}: {}\n{}", ledger.losses(), last_lines(&world.run_log()));
        }
        let answers = world.answering();
        match end {
            Some(end) if answers != Some(end) => {}
            Some(end) if Some(end) == before => row.n_old += 1,
            Some(_) => row.n_new += 1,
            None => {}
        }
    }
    row
}

fn last_lines(log: &str) -> String {
    let n_lines = log.lines().count();
    log.lines().skip(n_lines.saturating_sub(40)).map(|line| format!("    {line}\n")).collect()
}

fn release(world: &World) -> Child {
    let build = world.build(&[]).to_string_lossy().into_owned();
    let mut command = world.command(&["release", "web", &build, "--json"]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// The release that serves and is the last good one, once nothing is under way any more.
fn settled(world: &World) -> Option<u64> {
    let begun = Instant::now();
    while begun.elapsed() < SETTLED {
        if world.cli(&["status"]).code == 0 {
            let status = world.status();
            let is_whole = status["operation"].is_null() && status["state"] == "running";
            if is_whole && status["serving"] == status["last_good"] {
                return status["serving"].as_u64();
            }
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
    None
}

fn released(world: &World) {
    world.release(&[]).expect(0);
    world.release(&[]).expect(0);
}

fn on_world(n: u32, fault: impl FnMut(&mut World, u32)) -> Row {
    let mut world = World::new();
    released(&world);
    tries(n, &mut world, fault)
}

fn another_supervisor(world: &World, before: Option<i32>) {
    world.wait("another supervisor answers", |world| {
        world.supervisor_pid().is_some_and(|pid| Some(pid) != before)
            && world.cli(&["status"]).code == 0
    });
}

/// The services go with them, as under systemd: what is lost is what was asked while nothing ran.
fn kill_both(world: &mut World) {
    // The supervisor first, and nobody sees it: it would take the keeper's place.
    kill(world.keeper_pid(), libc::SIGSTOP);
    world.kill_supervisor();
    world.power_cut();
    world.wake();
}

fn stop_supervisor(world: &World) {
    let before = world.supervisor_pid();
    kill(before.unwrap(), libc::SIGSTOP);
    another_supervisor(world, before);
}

fn full(n: u32) -> Row {
    let disk = Disk::tmpfs("size=24m,nr_inodes=4000");
    let mut world = world_on(&disk);
    released(&world);
    tries(n, &mut world, |world, _| {
        disk.fill();
        up_to_the_kill(Duration::from_millis(300));
        drop(world.cli(&["rollback", "web"]));
        disk.empty();
    })
}

/// From a call on that is chosen by the number of the try, and until the disk is mended.
fn refused(n: u32, error: i32) -> Row {
    let mut broken = Broken::new(Work::Release);
    let n_calls = broken.perform(Work::Release, Fault::None).asked.len();
    let Broken { world, disk } = &mut broken;
    let mut row = Row::default();
    for nth in 0..n {
        let at = nth as usize * n_calls / n as usize;
        disk.set(Fault::From(at, error));
        let once = tries(1, world, |_, _| {
            up_to_the_kill(Duration::from_millis(700));
            disk.set(Fault::None);
        });
        row.n_tries += 1;
        row.n_requests += once.n_requests;
        row.n_lost += once.n_lost;
        row.n_old += once.n_old;
        row.n_new += once.n_new;
    }
    row
}

/// No descriptor is left to a process for a while.
fn starve(pid: Option<i32>) {
    let Some(pid) = pid.filter(|pid| proc::start_ticks(*pid).is_ok()) else { return };
    limit_files(pid);
    up_to_the_kill(Duration::from_millis(300));
    unlimit_files(pid);
}

fn no_processes(n: u32) -> Row {
    let Some(group) = Group::new("pids") else { return Row::default() };
    let mut world = World::new();
    released(&world);
    let row = tries(n, &mut world, |world, _| {
        // What serves makes threads of its own, and is not in it.
        let own = [Some(world.keeper_pid()), world.supervisor_pid()].into_iter().flatten();
        own.clone().for_each(|pid| group.take(pid));
        group.limit_processes(true);
        up_to_the_kill(Duration::from_millis(300));
        own.for_each(|pid| group.let_go(pid));
        group.limit_processes(false);
    });
    drop(world);
    row
}

fn out_of_memory(n: u32, victim: impl Fn(&World) -> i32) -> Row {
    let Some(group) = Group::new("memory") else { return Row::default() };
    let mut world = crate::starved::within(&group);
    let row = tries(n, &mut world, |world, _| {
        let (pid, keeper) = (victim(world), world.keeper_pid());
        let (before, n_killed) = (world.supervisor_pid(), group.n_killed());
        run_out_of_memory(&group, pid);
        assert!(group.n_killed() > n_killed);
        if pid == keeper {
            world.replaced_keeper(before.unwrap());
        } else {
            another_supervisor(world, before);
        }
    });
    drop(world);
    row
}

fn jumps(n: u32, by_years: i64) -> Row {
    let mut jumping = Jumping::new("");
    released(&jumping.world);
    let clock = jumping.clock();
    tries(n, &mut jumping.world, |_, nth| {
        clock.jump(if nth % 2 == 0 { by_years } else { 0 });
    })
}

/// What a supervisor finds when it comes up, and what `repair` makes of it.
fn damage(world: &World, name: &str) {
    let before = world.supervisor_pid();
    let path = world.service_path(name);
    if path.exists() {
        fs::write(&path, "{ this was once whole").unwrap();
    }
    kill(before.unwrap(), libc::SIGKILL);
    another_supervisor(world, before);
    repaired(world);
}

fn damage_journal(world: &World) {
    let before = world.supervisor_pid();
    let paths = Layout::new(&world.path("root")).service(&"web".parse().unwrap());
    let op = journal::next_op(&paths).0.saturating_sub(1);
    let path = journal::path(&paths, OpId(op));
    if let Ok(text) = fs::read_to_string(&path) {
        fs::write(&path, text.replacen("\"start\"", "\"stxrt\"", 1)).unwrap();
    }
    kill(before.unwrap(), libc::SIGKILL);
    another_supervisor(world, before);
    repaired(world);
}

/// Until it has something to mend or nothing is left: an operation that goes on comes first.
fn repaired(world: &World) {
    let begun = Instant::now();
    while begun.elapsed() < SETTLED && world.cli(&["repair", "web", "--yes"]).code == 9 {
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// So many releases one after another, and what they have left behind (`HALLEY_RELEASES`).
pub fn soak() {
    let n = std::env::var("HALLEY_RELEASES").ok().and_then(|n| n.parse().ok()).unwrap_or(1000);
    let [first, last] = crate::soak::quarters(n);
    println!("{n} releases, a failed one and a rollback after each fourth");
    println!("the first quarter: {first:?}\nthe last quarter:  {last:?}");
}

/// So many services in one stack (`HALLEY_SERVICES`).
pub fn many() {
    let n = std::env::var("HALLEY_SERVICES").ok().and_then(|n| n.parse().ok()).unwrap_or(1000);
    for (who, wrapper) in [("root", [].as_slice()), ("nobody", &crate::world::NOBODY)] {
        let taken = crate::many::lives(n, wrapper);
        let [keeper, supervisor] = taken.memory_kib;
        println!(
            "{n} services as {who}: keeper {keeper} KiB PSS, supervisor {supervisor} KiB PSS, {:.1} KiB a service",
            (keeper + supervisor) as f64 / n as f64
        );
    }
}
