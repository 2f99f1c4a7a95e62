//! Figures of the ways a program can get its connections.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use halley_sup::demo::ledger::Ledger;
use halley_sup::demo::load::{Load, Shape};
use halley_sup::demo::service;
use halley_sup::demo::stream::Target;

use crate::world::{BINARY, World, config, free_address, kill};
use crate::{measured_for, spread};

/// Rounds of a comparison, and how long each side has in one.
const N_ROUNDS: usize = 10;
const ROUND: Duration = Duration::from_secs(2);

/// A service with these lines, and times that are short.
fn world(lines: impl Fn(&World) -> String, drain: &str) -> World {
    let mut world = World::asleep(free_address());
    let address = world.address;
    let text = config(address, "[service.web.keep]\nstandby = \"0s\"")
        .replace(&format!("listen = [\"tcp://{address}\"]"), &lines(&world))
        .replace("interval = \"30ms\"", "interval = \"10ms\"")
        .replace("min_healthy = \"60ms\"", "min_healthy = \"10ms\"")
        .replace("deadline = \"1500ms\"", "deadline = \"20s\"")
        .replace("drain = \"0s\"", &format!("drain = \"{drain}\""))
        .replace("for = \"200ms\"", "for = \"20ms\"");
    world.configure(&text);
    world.wake();
    world
}

/// A hundred releases one after another in each mode, under sixteen clients of each shape.
pub fn modes() {
    const N: u32 = 100;
    let shapes = [Shape::ShortFast, Shape::KeepAlive, Shape::SlowDownload, Shape::LongTalk];
    for (mode, scheme) in [
        ("inherit", "tcp"),
        ("intercept", "tcp"),
        ("port", "tcp"),
        ("inherit", "unix"),
        ("intercept", "unix"),
    ] {
        for shape in shapes {
            let path = |world: &World| world.path("web.sock");
            let at = |world: &World| match scheme {
                "unix" => format!("unix:{}", path(world).display()),
                _ => format!("tcp://{}", world.address),
            };
            let lines =
                |world: &World| format!("listen = [\"{}\"]\nhandoff = \"{mode}\"", at(world));
            // Who keeps a connection for good is asked to leave; who talks or loads may finish.
            let drain = if shape == Shape::KeepAlive { "0s" } else { "20s" };
            let world = world(lines, drain);
            let target = match scheme {
                "unix" => Target::Unix(path(&world)),
                _ => Target::Tcp(world.address),
            };
            let bind = format!("bind={}", at(&world).trim_start_matches("tcp://"));
            let behaviour: &[&str] = if mode == "intercept" { &[&bind] } else { &[] };
            world.release(behaviour).expect(0);
            let load = Load::start(target, shape, 16);
            for _ in 0..N {
                world.release(behaviour).expect(0);
            }
            assert!(load.wait_for(32));
            let ledger = load.stop();
            println!(
                "{mode:<9} {scheme:<4} {shape:<12?} {N} releases, 16 clients: {:>7} requests, {} lost ({}), {} releases answered",
                ledger.n_requests(),
                ledger.n_lost(),
                ledger.losses(),
                ledger.by_release().len()
            );
        }
    }
}

fn measured(address: SocketAddr, shape: Shape) -> Ledger {
    let load = Load::start(address, shape, 16);
    measured_for(ROUND);
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
    ledger
}

/// Two addresses in turn; the ratio of what they do.
fn compared(ours: SocketAddr, theirs: SocketAddr, shape: Shape, names: &str) {
    let (mut rps, mut p99) = (Vec::new(), Vec::new());
    measured(theirs, shape);
    measured(ours, shape);
    for round in 0..N_ROUNDS {
        let (us, them) = if round % 2 == 0 {
            (measured(ours, shape), measured(theirs, shape))
        } else {
            let them = measured(theirs, shape);
            (measured(ours, shape), them)
        };
        rps.push(us.n_requests() as f64 / them.n_requests() as f64);
        p99.push(f64::from(us.latency_us(990)) / f64::from(them.latency_us(990)));
    }
    println!("requests per second, {shape:?}, {names}: {}", spread(&mut rps));
    println!("p99, {shape:?}, {names}: {}", spread(&mut p99));
}

/// What the filter costs a request: the same program with it and without.
pub fn intercept() {
    let lines = |mode: &'static str| {
        move |world: &World| format!("listen = [\"tcp://{}\"]\nhandoff = \"{mode}\"", world.address)
    };
    let (with, without) = (world(lines("intercept"), "0s"), world(lines("inherit"), "0s"));
    with.release(&[&format!("bind={}", with.address)]).expect(0);
    without.release(&[]).expect(0);
    for shape in [Shape::ShortFast, Shape::KeepAliveFast] {
        compared(with.address, without.address, shape, "intercept : inherit");
    }
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        kill(i32::try_from(self.0.id()).unwrap(), libc::SIGKILL);
        drop(self.0.wait());
    }
}

/// The forwarder against HAProxy in TCP mode, before the same program.
pub fn forward() {
    let world =
        world(|world| format!("listen = [\"tcp://{}\"]\nhandoff = \"port\"", world.address), "0s");
    world.release(&[]).expect(0);
    let (address, backend) = (free_address(), free_address());
    let quiet = |command: &mut Command| {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Running(command.spawn().unwrap())
    };
    // A session of its own for each, as any service manager gives: the scheduler shares by session.
    let mut program = Command::new("setsid");
    program.args([BINARY, service::VERB, &format!("bind={backend}")]).env("HALLEY_RELEASE", "1");
    let _program = quiet(&mut program);
    let config = format!(
        "global\n  maxconn 4096\ndefaults\n  mode tcp\n  option splice-auto\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\nfrontend f\n  bind {address}\n  default_backend b\nbackend b\n  server s {backend}\n"
    );
    fs::write(world.path("haproxy.cfg"), config).unwrap();
    let mut haproxy = Command::new("setsid");
    haproxy.args(["haproxy", "-db", "-f"]).arg(world.path("haproxy.cfg"));
    let _haproxy = quiet(&mut haproxy);
    world.wait("haproxy answers", |_| TcpStream::connect(address).is_ok());
    world.wait("the program answers", |_| TcpStream::connect(backend).is_ok());
    for shape in [Shape::ShortFast, Shape::KeepAliveFast] {
        compared(world.address, address, shape, "the forwarder : HAProxy in TCP mode");
    }
}

/// How long callers wait while what cannot run twice is restarted by `hold`.
pub fn hold() {
    let lines =
        |world: &World| format!("listen = [\"tcp://{}\"]\nstrategy = \"hold\"", world.address);
    let world = world(lines, "0s");
    world.release(&["alone"]).expect(0);
    let load = Load::start(world.address, Shape::ShortFast, 16);
    let mut gaps: Vec<f64> = (0..50)
        .map(|_| {
            let said = world.cli(&["restart", "web", "--json"]).expect(0);
            let gap = said.stdout.split("; gap ").nth(1).and_then(|text| text.split(' ').next());
            gap.and_then(|text| text.parse().ok()).expect("a gap is told")
        })
        .collect();
    let ledger = load.stop();
    println!(
        "50 restarts by hold, 16 clients: {} requests, {} lost ({}); gap in ms: {}",
        ledger.n_requests(),
        ledger.n_lost(),
        ledger.losses(),
        spread(&mut gaps)
    );
}
