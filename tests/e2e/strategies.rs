//! How a new release takes over: hold, replace, canary, instances; and the drain of what is left.

use std::fs;
use std::net::TcpStream;
use std::process::Stdio;

use halley_sup::demo::load::{Load, Shape};
use serde_json::Value;

use crate::ledger_app::{BACKUP, Build, Store, serve_rows, world_of};
use crate::migrations::{ADD_COLUMN, migrates_by};
use crate::modes::{world, world_with};
use crate::world::{Said, World, config, free_address, kill};

fn strategy(lines: &str) -> impl Fn(&World) -> String {
    move |world| format!("listen = [\"tcp://{}\"]\n{lines}", world.address)
}

fn hold(more: &str) -> World {
    world(strategy("strategy = \"hold\"\nmax_gap = \"8s\""), more)
}

/// The details of a phase, as the client saw them.
fn details(said: &Said, phase: &str) -> Vec<String> {
    let lines = said.stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .filter(|event| event["phase"] == phase && event["state"] != "start")
        .map(|event| event["detail"].as_str().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn hold_replaces_what_cannot_run_twice_and_refuses_nobody() {
    let world = hold("");
    world.release(&["alone"]).expect(0);
    let load = world.load(Shape::Short);
    for _ in 0..3 {
        let said = world.release(&["alone"]).expect(0);
        let gap = details(&said, "flip").concat();
        assert!(gap.contains("; gap "), "{gap}");
        assert!(load.wait_for(20));
    }
    world.cli(&["restart", "web", "--json"]).expect(0);
    assert_eq!(world.cli(&["rollback", "web", "--json"]).expect(0).result()["serving"], 3);
    assert!(load.wait_for(20));
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
    assert_eq!(world.answering(), Some(3));
}

/// As a database that recovers: it takes connections at once, and turns them away until it is through.
#[test]
fn what_is_held_in_a_release_is_held_after_a_crash_until_it_is_healthy() {
    let world = hold("");
    let build = world.build_of(&["/usr/bin/python3", "app.py"]);
    let program = "import os, socket\n\
         shared = os.environ['HALLEY_SHARED']\n\
         s = socket.socket(fileno=3)\n\
         while True:\n\
         \x20   c, _ = s.accept(); asked = c.recv(4096).split()[1].decode()\n\
         \x20   status = '503' if os.path.exists(shared + '/recovers') else '200'\n\
         \x20   open(shared + '/answers', 'a').write(f'{asked} {status}\\n')\n\
         \x20   c.send(f'HTTP/1.0 {status} X\\r\\n\\r\\nrelease 1'.encode()); c.close()\n";
    fs::write(build.join("app.py"), program).unwrap();
    world.release_path(&build).expect(0);
    fs::write(world.service_path("shared/recovers"), "").unwrap();
    kill(world.live_pid(), libc::SIGKILL);
    let address = world.address;
    let callers: Vec<_> =
        (0..8).map(|_| std::thread::spawn(move || crate::ledger_app::get(address, "/"))).collect();
    let answers = || fs::read_to_string(world.service_path("shared/answers")).unwrap_or_default();
    world.wait("it is asked again how it is", |_| answers().matches("/healthz 503").count() > 2);
    fs::remove_file(world.service_path("shared/recovers")).unwrap();
    for caller in callers {
        assert_eq!(caller.join().unwrap().as_deref(), Ok("release 1"));
    }
    assert!(!answers().contains("/ 503"), "{}", answers());
}

#[test]
fn hold_brings_the_old_one_back_when_the_new_one_fails() {
    for behaviour in [&["exit=3"][..], &["unhealthy", "alone"], &["hang", "alone"]] {
        let world = hold("");
        world.release(&["alone"]).expect(0);
        let load = world.load(Shape::Short);
        let said = world.release(behaviour).expect(21).result();
        assert_eq!(said["serving"], 1, "{behaviour:?} {said}");
        assert!(load.wait_for(20));
        let ledger = load.stop();
        assert_eq!(ledger.n_lost(), 0, "{behaviour:?}: {}", ledger.losses());
        assert_eq!(world.status()["state"], "running");
    }
}

#[test]
fn a_candidate_has_no_longer_than_the_gap_may_be() {
    let lines = "strategy = \"hold\"\nmax_gap = \"700ms\"";
    let world = world_with(strategy(lines), "", &[("timeout = \"5s\"", "timeout = \"600ms\"")]);
    world.release(&["alone"]).expect(0);
    let load = world.load(Shape::Short);
    // It would answer, too late.
    let said = world.release(&["alone", "late-ms=1200"]);
    assert_eq!(said.expect(21).result()["serving"], 1);
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
}

#[test]
fn in_turn_a_rollback_that_fails_ends_where_it_began() {
    let world = hold("");
    world.release(&["alone"]).expect(0);
    world.release(&["alone"]).expect(0);
    let load = world.load(Shape::Short);
    // The target rots: its program does not start any more.
    let tree = world.service_path("meta/1/settings.json");
    let text = fs::read_to_string(&tree).unwrap().replace("\"alone\"", "\"exit=4\"");
    halley_sup::os::fs::remove_tree(&tree).unwrap();
    fs::write(&tree, text).unwrap();
    let said = world.cli(&["rollback", "web", "--json"]).expect(20).result();
    assert_eq!(said["serving"], 2, "{said}");
    assert_eq!(said["outcome"], "gate_failed");
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
}

#[test]
fn a_hold_that_can_overflow_is_refused() {
    let world = world(strategy("strategy = \"hold\"\nbacklog = 8"), "");
    world.release(&["alone"]).expect(0);
    let connected: Vec<TcpStream> =
        (0..9).map(|_| TcpStream::connect(world.address).unwrap()).collect();
    world.wait("all are accepted", |world| world.release(&["alone"]).code == 10);
    let said = world.release(&["alone"]).expect(10).result();
    let why = said["trouble"]["why"].as_str().unwrap();
    assert!(why.contains("the queue holds 8, and the clients of 9 open connections"), "{why}");
    let said = world.cli(&["restart", "web", "--json"]).expect(10).result();
    assert_eq!(said["serving"], 1, "{said}");
    drop(connected);
    world.wait("they are gone", |world| world.release(&["alone"]).code == 0);
}

#[test]
fn a_unix_socket_s_callers_are_held_as_well() {
    let listen = |world: &World| {
        let path = world.path("web.sock");
        format!("listen = [\"unix:{}\"]\nstrategy = \"hold\"", path.display())
    };
    let world = world(listen, "");
    world.release(&["alone"]).expect(0);
    let load = Load::start(world.path("web.sock"), Shape::Short, 4);
    world.release(&["alone"]).expect(0);
    world.release(&["exit=3"]).expect(21);
    world.cli(&["restart", "web", "--json"]).expect(0);
    assert!(load.wait_for(20));
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
}

/// A worker: no listener, never two at once.
#[test]
fn replace_never_runs_two() {
    let mut world = World::asleep(free_address());
    let text = config(world.address, "")
        .replace(&format!("listen = [\"tcp://{}\"]", world.address), "")
        .replace("http = \"/healthz\"", "");
    world.configure(&text);
    world.wake();
    world.release(&["alone", "works"]).expect(0);
    world.release(&["alone", "works"]).expect(0);
    world.cli(&["restart", "web", "--json"]).expect(0);
    let said = world.release(&["exit=3"]).expect(21).result();
    assert_eq!(said["serving"], 2, "{said}");
    assert_eq!(world.cli(&["rollback", "web", "--json"]).expect(0).result()["serving"], 1);
    assert!(world.is_alone());
    // Two at once, when it is allowed.
    let allowed = text.replace(
        "[service.web.health]",
        "strategy = \"overlap\"\nrehearse = \"off\"\n[service.web.health]",
    );
    world.reload(&allowed);
    world.release(&["alone", "works"]).expect(20);
    world.release(&["works"]).expect(0);
}

fn canary(steps: &str, bake: &str) -> World {
    let lines = format!("strategy = \"canary\"\ncanary = {steps}\nbacklog = 4096");
    world_with(strategy(&lines), "", &[("for = \"200ms\"", bake)])
}

#[test]
fn a_canary_gets_its_share_within_one_percent_and_goes_on_by_promote() {
    let world = canary("[\"5%\", \"25%\", \"100%\"]", "for = \"120s\"");
    let detached = |world: &World| {
        let build = world.build(&[]);
        world.cli(&["release", "web", &build.to_string_lossy(), "--detach"]).expect(40);
    };
    detached(&world);
    world.wait("the first one bakes", |world| world.status()["operation"]["phase"] == "bake");
    world.cli(&["promote", "web"]).expect(0);
    detached(&world);
    for (step, share) in [(0, 0.05), (1, 0.25)] {
        let phase = format!("step:{step}");
        world.wait(&phase, |world| world.status()["operation"]["phase"] == phase.as_str());
        let seen = share_of(&world, 2);
        assert!((seen - share).abs() < 0.01, "step {step}: {seen}");
        world.cli(&["promote", "web"]).expect(0);
    }
    world.wait("all of them", |world| world.status()["operation"]["phase"] == "bake");
    assert_eq!(world.answering(), Some(2));
    world.cli(&["promote", "web"]).expect(0);
    world.wait("committed", |world| world.status()["last_good"] == 2);
}

/// The part of 20,000 connections that a release answers.
fn share_of(world: &World, release: u64) -> f64 {
    let load = Load::start(world.address, Shape::Short, 4);
    while load.n_done() < 20_000 {
        assert!(load.wait_for(100));
    }
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
    let by_release = ledger.by_release();
    let all: u64 = by_release.values().sum();
    by_release.get(&release).copied().unwrap_or(0) as f64 / all as f64
}

#[test]
fn a_canary_that_turns_bad_or_is_aborted_leaves_the_old_one() {
    let world = canary("[\"50%\", \"100%\"]", "for = \"5s\"");
    world.release(&[]).expect(0);
    let load = world.load(Shape::Short);
    let said = world.release(&["bad-after-times=15"]).expect(21).result();
    assert_eq!(said["serving"], 1, "{said}");
    assert!(said["trouble"]["why"].as_str().unwrap().contains("at 50 %"), "{said}");
    let said = world.release(&["die-after-ms=600"]).expect(21).result();
    assert_eq!(said["serving"], 1, "{said}");
    let build = world.build(&[]);
    world.cli(&["release", "web", &build.to_string_lossy(), "--detach"]).expect(40);
    world.wait("a step", |world| world.status()["operation"]["phase"] == "step:0");
    world.cli(&["abort", "web"]).expect(23);
    world.wait("over", |world| world.status()["operation"].is_null());
    assert_eq!(world.status()["serving"], 1);
    let ledger = load.stop();
    // Who had been taken by the one that died is lost with it; nobody else is.
    assert!(ledger.n_lost() <= 4, "{}", ledger.losses());
    assert_eq!(world.answering(), Some(1));
}

/// What is bad at the control too is not the candidate's fault.
#[test]
fn a_canary_is_compared_with_the_control() {
    let world = canary("[\"50%\", \"100%\"]", "for = \"600ms\"\ninconclusive = \"rollback\"");
    world.release(&["bad-after-ms=3000"]).expect(0);
    world.wait("the control is bad", |world| {
        !TcpStream::connect(world.address).is_ok_and(|stream| well(&stream))
    });
    // The candidate turns bad once it has begun its step, counted in answers because a busy machine
    // may take longer to its gate: both are.
    let said = world.release(&["bad-after-times=3"]);
    let text = said.stdout.clone();
    assert!(text.contains("\"phase\":\"step:0\""), "{text}");
    let why = said.result()["trouble"]["why"].as_str().unwrap_or_default().to_owned();
    assert!(why.contains("inconclusive"), "{why}");
}

fn well(mut stream: &TcpStream) -> bool {
    use std::io::{Read, Write};
    drop(stream.write_all(b"GET /healthz HTTP/1.0\r\nConnection: close\r\n\r\n"));
    let mut text = String::new();
    drop(stream.read_to_string(&mut text));
    text.contains(" 200 ")
}

#[test]
fn instances_change_with_the_configuration_and_nobody_notices() {
    let world = world(strategy("instances = 1"), "");
    world.release(&[]).expect(0);
    let load = world.load(Shape::Short);
    let n = |world: &World| world.status()["instances"].as_array().map_or(0, Vec::len);
    let text = fs::read_to_string(world.path("halley.toml")).unwrap();
    for wanted in [3, 2, 4, 1] {
        world.reload(&text.replace("instances = 1", &format!("instances = {wanted}")));
        world.wait(&format!("{wanted} instances"), |world| n(world) == wanted);
        assert!(load.wait_for(40));
    }
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
}

#[test]
fn instances_are_replaced_one_at_a_time() {
    let world = world(strategy("instances = 3"), "");
    world.release(&[]).expect(0);
    let load = world.load(Shape::Short);
    let said = world.release(&[]).expect(0);
    assert!(details(&said, "step:0").concat().starts_with("instance 1 of 3"), "{}", said.stdout);
    assert!(details(&said, "step:1").concat().starts_with("instance 2 of 3"), "{}", said.stdout);
    let said = world.cli(&["restart", "web", "--json"]).expect(0);
    assert!(said.stdout.contains("instance 2 of 3"), "{}", said.stdout);
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
}

/// One of three dies again and again: the others get its part until it is back.
#[test]
fn an_instance_that_crashes_takes_only_its_own_slot_out() {
    let world = world(strategy("instances = 3"), "");
    world.release(&[]).expect(0);
    let pids = |world: &World| -> Vec<i32> {
        let status = world.status();
        let all = status["instances"].as_array().cloned().unwrap_or_default();
        all.iter().filter_map(|i| i["pid"].as_i64()).map(|pid| pid as i32).collect()
    };
    let load = world.load(Shape::Short);
    for _ in 0..5 {
        let victim = pids(&world)[0];
        kill(victim, libc::SIGKILL);
        world.wait("it is back", |world| {
            let now = pids(world);
            now.len() == 3 && !now.contains(&victim) && !now.contains(&0)
        });
        assert!(load.wait_for(20));
    }
    let ledger = load.stop();
    // Whom the killed process had accepted is lost with it: one a client, at most.
    assert!(ledger.n_lost() <= 5 * 4, "{}", ledger.losses());
    let refused = ledger.losses().contains("Refused") || ledger.losses().contains("Hanging");
    assert!(!refused, "{}", ledger.losses());
}

/// What status says of the first release while it is on its way out.
fn leaving(world: &World) -> Option<Value> {
    let status = world.status();
    let all = status["instances"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|i| i["release"] == 1 && i["role"] == "draining")
}

#[test]
fn the_drain_is_seen_and_has_its_deadline() {
    let world = world_with(strategy(""), "", &[("drain = \"10s\"", "drain = \"2s\"")]);
    world.release(&[]).expect(0);
    let kept: Vec<TcpStream> = (0..2).map(|_| TcpStream::connect(world.address).unwrap()).collect();
    world.release(&[]).expect(0);
    world.wait("it drains", |world| {
        leaving(world).is_some_and(|old| old["connections"] == 2 && old["stop_in_ms"].is_u64())
    });
    let shown = world.cli(&["status", "web"]).stdout;
    assert!(shown.contains("draining") && shown.contains("2 connections, "), "{shown}");
    world.wait("its deadline ends it", World::is_alone);
    drop(kept);
}

#[test]
fn a_drain_may_last_for_ever() {
    let world = world_with(strategy(""), "", &[("drain = \"10s\"", "drain = \"forever\"")]);
    world.release(&[]).expect(0);
    let kept = TcpStream::connect(world.address).unwrap();
    world.release(&[]).expect(0);
    let is_there = |world: &World| leaving(world).is_some_and(|old| old["connections"] == 1);
    world.wait("it drains", is_there);
    // Others come and go meanwhile, and it may even be gone back to.
    world.release(&[]).expect(0);
    assert!(is_there(&world));
    drop(kept);
    world.wait("it is gone", |world| !is_there(world));
}

/// Programs that allow only one instance when the operation begins are not started twice in it.
#[test]
fn a_reload_changes_nothing_of_an_operation_that_has_begun() {
    let world = world_of(|_| BACKUP.to_owned(), "25s", "strategy = \"hold\"\n");
    serve_rows(&world, Store::Sqlite, 1);
    let slow = Build { version: 1, ..Build::default() }.write(&world);
    // What is written beside the copy from outside may not show there.
    let go = world.path("go");
    let waits = format!(
        "if on_copy:\n    open(os.environ['HALLEY_SHARED'] + '/migrating', 'w').close()\n    \
         while not os.path.exists({go:?}): time.sleep(0.02)\n{ADD_COLUMN}"
    );
    migrates_by(&slow, &waits);
    let path = slow.to_string_lossy().into_owned();
    let mut client = world.command(&["release", "web", &path, "--json"]);
    let client = client.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let copies = world.service_path("scratch");
    world.wait("it is tried on a copy", |_| {
        let all = fs::read_dir(&copies).into_iter().flatten().flatten();
        all.map(|entry| entry.path()).any(|copy| copy.join("migrating").exists())
    });
    let text = fs::read_to_string(world.path("halley.toml")).unwrap();
    world.reload(&text.replace("strategy = \"hold\"", "strategy = \"overlap\""));
    fs::write(go, "").unwrap();
    let said = client.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("; migrated in "), "{said}");
    assert!(!said.contains("the new release runs on it"), "{said}");
    assert!(said.contains("\"outcome\":\"committed\""), "{said}");
    assert!(said.contains("\"phase\":\"stop_old\""), "{said}");
}
