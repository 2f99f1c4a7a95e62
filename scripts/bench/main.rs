//! The figures that the README quotes. Nothing is compared with a limit here: they are printed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    dead_code,
    unused_imports,
    reason = "a script; the world it shares with the tests has more than it uses"
)]

mod any_program;
mod backup;
#[path = "../../tests/e2e/broken_disk.rs"]
mod broken_disk;
#[path = "../../tests/e2e/clock.rs"]
mod clock;
#[path = "../../tests/e2e/crash_matrix.rs"]
mod crash_matrix;
mod data;
mod faults;
#[path = "../../tests/e2e/full_disk.rs"]
mod full_disk;
#[path = "../../tests/e2e/kept_lines.rs"]
mod kept_lines;
#[path = "../../tests/e2e/ledger_app.rs"]
mod ledger_app;
#[path = "../../tests/e2e/many.rs"]
mod many;
#[path = "../../tests/e2e/mount.rs"]
mod mount;
#[path = "../../tests/e2e/passthrough.rs"]
mod passthrough;
#[path = "../../tests/e2e/passthrough_wire.rs"]
mod passthrough_wire;
#[path = "../../tests/e2e/postgres.rs"]
mod postgres;
#[path = "../../tests/e2e/postgres_server.rs"]
mod postgres_server;
#[path = "../../tests/e2e/soak.rs"]
mod soak;
#[path = "../../tests/e2e/starved.rs"]
mod starved;
mod supervision;
#[path = "../../tests/e2e/template.rs"]
mod template;
#[path = "../../tests/e2e/trio.rs"]
mod trio;
#[path = "../../tests/e2e/upgrade.rs"]
mod upgrade;
#[path = "../../tests/e2e/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use halley_sup::demo::ledger::Ledger;
use halley_sup::demo::load::{Load, Shape};
use halley_sup::demo::service;
use halley_sup::os::{listen, proc};

use world::{BINARY, World, config, free_address, kill};

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let all: [(&str, fn()); 21] = [
        ("releases", || releases(Shape::ShortFast)),
        ("keep-alive", || releases(Shape::KeepAlive)),
        ("overhead", overhead),
        ("rollback", rollback),
        ("kill", kills),
        ("crash", crashes),
        ("upgrade", upgrades),
        ("rest", rest),
        ("lag", lag),
        ("logs", logs),
        ("modes", any_program::modes),
        ("intercept", any_program::intercept),
        ("forward", any_program::forward),
        ("hold", any_program::hold),
        ("data", data::kills),
        ("backup", backup::large),
        ("faults", faults::table),
        ("soak", faults::soak),
        ("many", faults::many),
        ("restart", supervision::restart),
        ("services", supervision::services),
    ];
    for (name, measure) in all {
        if asked.is_empty() || asked.iter().any(|word| word == name) {
            measure();
        }
    }
}

/// How long a measured round goes on. It is what is measured: there is no condition to wait for.
fn measured_for(round: Duration) {
    std::thread::sleep(round);
}

/// The place of a kill: the time is what differs from one to the next.
fn up_to_the_kill(after: Duration) {
    std::thread::sleep(after);
}

/// The shortest times that still make a gate and a bake of a release.
fn quick(more: &str, bake: &str) -> World {
    let mut world = World::asleep(free_address());
    let text = config(world.address, more)
        .replace("interval = \"30ms\"", "interval = \"10ms\"")
        .replace("min_healthy = \"60ms\"", "min_healthy = \"10ms\"")
        .replace("linger = \"200ms\"", "linger = \"50ms\"")
        .replace("for = \"200ms\"", &format!("for = \"{bake}\""));
    world.configure(&text);
    world.wake();
    world
}

fn releases(shape: Shape) {
    const N: u64 = 200;
    let world = quick("[service.web.keep]\nstandby = \"0s\"", "50ms");
    world.release(&[]).expect(0);
    let load = Load::start(world.address, shape, 16);
    for _ in 0..N {
        world.release(&[]).expect(0);
    }
    let ledger = load.stop();
    println!(
        "{N} releases one after another, 16 clients, {shape:?}: {} requests, {} lost ({}), {} releases answered, slowest {:.1} ms",
        ledger.n_requests(),
        ledger.n_lost(),
        ledger.losses(),
        ledger.by_release().len(),
        f64::from(ledger.latency_us(1000)) / 1000.0
    );
    tell_lag("these releases", &world);
}

/// The longest time that the event loop of the running supervisor has stood still.
fn tell_lag(during: &str, world: &World) {
    let status = world.cli(&["status", "--json"]).expect(0).result();
    let at = status["lag_at"].as_str().unwrap_or("no task");
    println!("worst lag of the supervisor's loop, {during}: {} ms ({at})", status["lag_ms"]);
}

/// Releases with 20,000 files each, of which two are kept: they are hashed, sealed and removed beside
/// what must go on.
fn lag() {
    let world = quick("[service.web.keep]\nreleases = 2\nstandby = \"0s\"", "50ms");
    for _ in 0..5 {
        let build = world.build(&[]);
        for n in 0..20_000 {
            let dir = build.join(format!("d{}", n / 100));
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join(n.to_string()), n.to_string()).unwrap();
        }
        world.release_path(&build).expect(0);
        fs::remove_dir_all(build).unwrap();
    }
    tell_lag("5 releases with 20,000 files each", &world);
}

/// The same program behind a listener of Halley's and started by hand, in turn.
fn overhead() {
    const ROUNDS: usize = 10;
    const ROUND: Duration = Duration::from_secs(3);
    let world = quick("", "0s");
    world.release(&[]).expect(0);
    let address = free_address();
    let socket = listen::tcp_slot(address).unwrap();
    listen::listen(&socket, 1024).unwrap();
    // By hand means: the same descriptor 3, and nobody in between.
    let script = format!("exec 3<&0; export LISTEN_PID=$$; exec {BINARY} {}", service::VERB);
    // A session of its own, as any service manager gives: the scheduler shares out by session.
    let mut by_hand = Command::new("setsid")
        .args(["sh", "-c", &script])
        .env("LISTEN_FDS", "1")
        .env("HALLEY_RELEASE", "1")
        .stdin(Stdio::from(socket))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let measure = |address| -> Ledger {
        let load = Load::start(address, Shape::ShortFast, 4);
        measured_for(ROUND);
        load.stop()
    };
    let (mut rps, mut p99) = (Vec::new(), Vec::new());
    measure(address);
    for round in 0..ROUNDS {
        let (halley, hand) = if round % 2 == 0 {
            (measure(world.address), measure(address))
        } else {
            let hand = measure(address);
            (measure(world.address), hand)
        };
        assert_eq!(halley.n_lost() + hand.n_lost(), 0);
        rps.push(halley.n_requests() as f64 / hand.n_requests() as f64);
        p99.push(f64::from(halley.latency_us(990)) / f64::from(hand.latency_us(990)));
    }
    kill(i32::try_from(by_hand.id()).unwrap(), libc::SIGKILL);
    by_hand.wait().unwrap();
    println!("requests per second, Halley's listener : by hand: {}", spread(&mut rps));
    println!("p99, Halley's listener : by hand: {}", spread(&mut p99));
}

fn spread(values: &mut [f64]) -> String {
    values.sort_by(f64::total_cmp);
    let median = values[values.len() / 2];
    let (low, high) = (values[0], values[values.len() - 1]);
    format!("{median:.2} (median of {}, {low:.2} to {high:.2})", values.len())
}

fn rollback() {
    const N: usize = 100;
    let world = quick("", "0s");
    world.release(&[]).expect(0);
    world.release(&[]).expect(0);
    let (mut client_ms, mut flip_us) = (Vec::new(), Vec::new());
    for n in 0..N {
        let to = if n % 2 == 0 { "1" } else { "2" };
        let begun = Instant::now();
        let said = world.cli(&["rollback", "web", "--to", to, "--json"]).expect(0);
        client_ms.push(begun.elapsed().as_secs_f64() * 1000.0);
        let steered = said.stdout.split("steered in ").nth(1).unwrap();
        flip_us.push(steered.split(' ').next().unwrap().parse::<f64>().unwrap());
    }
    println!("rollback to standby, command to result, ms: {}", spread(&mut client_ms));
    println!("the flip itself, us: {}", spread(&mut flip_us));
}

/// Each record of each journal, for the keeper and for all of Halley.
fn crashes() {
    for work in crash_matrix::WORKS {
        let records = work.records();
        for killed in [crash_matrix::Killed::Keeper, crash_matrix::Killed::Both] {
            let mut ledger = Ledger::default();
            for record in &records {
                ledger.merge(crash_matrix::killed_at(work, record, killed));
            }
            println!(
                "kill -9 of {killed:?} at each of {} records of {work:?}: {} requests, {} lost ({}); each ended in old or new",
                records.len(),
                ledger.n_requests(),
                ledger.n_lost(),
                ledger.losses(),
            );
        }
    }
}

fn upgrades() {
    const N: usize = 50;
    let world = quick("[service.web.keep]\nstandby = \"5m\"", "50ms");
    let ledger = upgrade::under_load(&world, N);
    println!(
        "{N} upgrades of halley-sup with a release, a rollback or a restart after each: {} requests, {} lost ({}); no process of a service changed in an upgrade",
        ledger.n_requests(),
        ledger.n_lost(),
        ledger.losses(),
    );
}

fn kills() {
    const N: u32 = 100;
    let world = quick("[service.web.keep]\nstandby = \"0s\"", "100ms");
    world.release(&[]).expect(0);
    let load = Load::start(world.address, Shape::ShortFast, 4);
    let mut outcomes: BTreeMap<String, u32> = BTreeMap::new();
    let mut n_third = 0;
    for n in 0..N {
        let build = world.build(&[]);
        let mut command = world.command(&["release", "web", &build.to_string_lossy(), "--json"]);
        let client = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        // Spread over the life of a release.
        up_to_the_kill(Duration::from_millis(u64::from(n * 37 % 250)));
        world.kill_supervisor();
        let output = client.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let last: serde_json::Value =
            serde_json::from_str(text.lines().last().unwrap_or("null")).unwrap_or_default();
        let outcome = last["outcome"].as_str().unwrap_or("not begun").to_owned();
        *outcomes.entry(outcome).or_default() += 1;
        world.wait("it is settled", |world| {
            world.cli(&["status"]).code == 0 && world.status()["operation"].is_null()
        });
        let status = world.status();
        n_third += u32::from(status["serving"] != status["last_good"]);
    }
    let ledger = load.stop();
    println!(
        "{N} x kill -9 of the supervisor during releases: {} requests, {} lost ({}); outcomes {outcomes:?}; {n_third} ended in neither old nor new",
        ledger.n_requests(),
        ledger.n_lost(),
        ledger.losses()
    );
    tell_lag("since the last kill", &world);
}

/// 200 MB of numbered lines, and who is killed meanwhile.
fn logs() {
    const N_LINES: u32 = 3_600_000;
    const N_KILLS: u32 = 20;
    type Kill = fn(&World, u32);
    let supervisor: Kill = |world, _| world.kill_supervisor();
    let keeper: Kill = |world, _| world.kill_keeper();
    let in_turn: Kill = kept_lines::kill_in_turn;
    let whom = [("the supervisor", supervisor), ("the keeper", keeper), ("both in turn", in_turn)];
    for (whom, kill) in whom {
        let world = kept_lines::writes(N_LINES);
        let begun = Instant::now();
        fs::write(world.path("go"), "").unwrap();
        let kept = kept_lines::kept(&world, N_LINES, N_KILLS, kill);
        println!(
            "{N_LINES} numbered lines (200 MB) during {} x kill -9 of {whom}: {} there once and in order, {} lost, {} repeated, {} torn, in {:.0} s",
            kept.n_killed,
            kept.n_once,
            kept.n_lost,
            kept.n_repeated,
            kept.n_torn,
            begun.elapsed().as_secs_f64()
        );
    }
}

fn rest() {
    const QUIET: Duration = Duration::from_secs(20);
    let mut world = World::asleep(free_address());
    let mut text = config(world.address, "");
    for n in 1..10 {
        let more = config(free_address(), "");
        let more =
            more.split_once('\n').unwrap().1.replace("service.web", &format!("service.web{n}"));
        text.push_str(&more);
    }
    world.configure(&text);
    world.wake();
    let build = world.build(&[]);
    let path = build.to_string_lossy().into_owned();
    world.cli(&["release", "web", &path]).expect(0);
    for n in 1..10 {
        world.cli(&["release", &format!("web{n}"), &path]).expect(0);
    }
    let pids = [("keeper", world.keeper_pid()), ("supervisor", world.supervisor_pid().unwrap())];
    world.wait("the worker threads of the last intake have left", |_| {
        pids.iter().all(|(_, pid)| fs::read_dir(format!("/proc/{pid}/task")).unwrap().count() == 1)
    });
    let before: Vec<u64> = pids.iter().map(|(_, pid)| wake_ups(*pid)).collect();
    measured_for(QUIET);
    let mut total_kib = 0;
    for ((name, pid), before) in pids.iter().zip(before) {
        let pss_kib = pss_kib(*pid);
        total_kib += pss_kib;
        let n = wake_ups(*pid) - before;
        println!(
            "{name} at rest, 10 services: {n} wake-ups in {} s, {pss_kib} KiB PSS",
            QUIET.as_secs()
        );
    }
    tell_lag("10 services released and at rest", &world);
    println!("both together: {:.2} MB PSS", f64::from(total_kib) * 1024.0 / 1e6);
    println!("binary: {:.2} MB", fs::metadata(BINARY).unwrap().len() as f64 / 1e6);
    assert!(proc::start_ticks(pids[0].1).is_ok());
}

fn wake_ups(pid: i32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let of = |path: std::path::PathBuf| -> u64 {
        let text = fs::read_to_string(path.join("status")).unwrap_or_default();
        let lines = text.lines().filter(|line| line.contains("voluntary_ctxt_switches"));
        lines.filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok()).sum()
    };
    threads.map(|entry| of(entry.path())).sum()
}

fn pss_kib(pid: i32) -> u32 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find(|line| line.starts_with("Pss:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
