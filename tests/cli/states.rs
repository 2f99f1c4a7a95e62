//! What is unusual: damaged files, a service that is not configured any more, verbs with nothing to do.

use std::fs;
use std::net::SocketAddr;

use crate::redact::redacted;
use crate::world::{BINARY, World, config, free_address};
use crate::{ran, snapshot};

fn hold(world: &World, name: &str, texts: &[String]) {
    snapshot(name, &redacted(world, &texts.join("\n")));
}

/// Runs of the client, one after the other.
fn all(world: &World, runs: &[&[&str]]) -> Vec<String> {
    runs.iter().map(|args| ran(world, args)).collect()
}

fn build(world: &World, behaviour: &[&str]) -> String {
    world.build(behaviour).to_string_lossy().into_owned()
}

#[test]
fn a_damaged_file_is_named_and_rebuilt() {
    let world = World::new();
    world.release(&[]).expect(0);
    world.release(&[]).expect(0);
    let mut texts = all(&world, &[&["repair", "web"], &["repair", "web", "--json"]]);
    fs::write(world.service_path("state.json"), "{}").unwrap();
    world.kill_supervisor();
    world.wait("another supervisor answers", |world| world.cli(&["status"]).code == 0);
    texts.extend(all(
        &world,
        &[
            &["status"],
            &["rollback", "web"],
            &["repair", "web"],
            &["repair", "web", "--json"],
            &["repair", "web", "--yes"],
            &["repair", "web"],
        ],
    ));
    hold(&world, "repair", &texts);
}

#[test]
fn a_verb_that_has_nothing_to_do_or_may_not_says_so() {
    let world = World::new();
    let mut texts =
        all(&world, &[&["stop", "web"], &["stop", "web"], &["start", "web"], &["abort", "web"]]);
    world.release(&[]).expect(0);
    world.release(&["exit=3"]).expect(20);
    texts.extend(all(
        &world,
        &[
            &["start", "web"],
            &["rollback", "web", "--to", "1"],
            &["rollback", "web", "--to", "2"],
            &["rollback", "web"],
            &["thaw", "web", "--release", "1"],
            &["drill", "web", "--json"],
            &["watch", "1"],
            &["watch", "web", "2"],
            &["watch", "web", "x"],
            &["run"],
        ],
    ));
    hold(&world, "nothing_to_do", &texts);
}

#[test]
fn a_release_that_turns_bad_and_what_status_says_of_it() {
    let world = World::new();
    world.release(&[]).expect(0);
    let bad = build(&world, &["healthy-times=4"]);
    let runs: &[&[&str]] = &[
        &["release", "web", &bad],
        &["release", "web", &bad],
        &["releases", "web"],
        &["thaw", "web", "--release", "2"],
    ];
    let mut texts = all(&world, runs);
    // Without one to go back to.
    let alone = World::new();
    let bad = build(&alone, &["healthy-times=4"]);
    let mut left = all(&alone, &[&["release", "web", &bad], &["status"]]);
    // It is started again and again: whether it serves, and its row, change from moment to moment.
    let stays = |line: &&str| !line.contains(" live ") && !line.starts_with("  serving ");
    left[1] = left[1].lines().filter(stays).collect::<Vec<_>>().join("\n");
    texts.extend(left.iter().map(|text| redacted(&alone, text)));
    hold(&world, "rolled_back", &texts);
}

#[test]
fn a_service_that_is_not_configured_any_more() {
    let (world, other) = two_services();
    for name in ["web", "api"] {
        let build = build(&world, &[]);
        world.cli(&["release", name, &build]).expect(0);
    }
    let both = fs::read_to_string(world.path("halley.toml")).unwrap();
    // A supervisor that comes up without it leaves its processes running; a reload stops them.
    world.configure(&config(world.address, ""));
    world.kill_supervisor();
    let wait_ready = || {
        world.wait("what runs is ready", |world| {
            let said = world.cli(&["status", "--json"]);
            said.code == 0 && !said.stdout.contains("starting")
        });
    };
    wait_ready();
    let mut texts = all(&world, &[&["status"]]);
    world.reload(&both);
    wait_ready();
    world.reload(&config(world.address, ""));
    texts.extend(all(&world, &[&["status"], &["status", "api"], &["releases", "api", "--json"]]));
    for text in &mut texts {
        *text = text.replace(&other.to_string(), "OTHER");
    }
    hold(&world, "not_configured", &texts);
}

/// `web`, and `api` at the other address.
fn two_services() -> (World, SocketAddr) {
    let (mut world, other) = (World::asleep(free_address()), free_address());
    let second = config(other, "").replace("root = \"root\"", "");
    world.configure(&(config(world.address, "") + &second.replace("service.web", "service.api")));
    world.wake();
    (world, other)
}

#[test]
fn several_services_as_one() {
    let (world, other) = two_services();
    let set = |web: &str, api: &str| format!("web={web},api={api}");
    let good = set(&build(&world, &[]), &build(&world, &[]));
    let bad = set(&build(&world, &[]), &build(&world, &["exit=3"]));
    let mut texts = all(
        &world,
        &[
            &["release", "--set", &good],
            &["release", "--set", &bad],
            &["release", "--set", "web=nowhere,api=nowhere"],
            &["release", "--set", "web=nowhere,wbe=nowhere"],
            &["watch", "--set", "1"],
            &["watch", "--set", "1", "--json"],
            &["watch", "--set", "9"],
            &["watch", "1"],
            &["history"],
            &["status"],
        ],
    );
    for text in &mut texts {
        *text = text.replace(&other.to_string(), "OTHER");
    }
    hold(&world, "sets", &texts);
}

#[test]
fn logs_and_test_notifications() {
    let targets =
        "[notify.pager]\ncommand = [\"/bin/true\"]\n[notify.mute]\ncommand = [\"/bin/false\"]";
    let world = World::with(targets);
    let program = format!("echo one; echo two >&2; exec {} demo-service", BINARY);
    let build = world.build_of(&["/bin/sh", "-c", &program]);
    world.release_path(&build).expect(0);
    world.wait("the log is written", |world| world.cli(&["logs", "web"]).stdout.contains("two"));
    let runs: &[&[&str]] = &[
        &["logs", "web", "-n", "1", "--release", "1"],
        &["logs", "web"],
        &["logs", "web", "--json"],
        &["notify", "pager"],
        &["notify", "mute"],
        &["notify", "pgaer"],
    ];
    hold(&world, "logs_and_notify", &all(&world, runs));
}

#[test]
fn a_configuration_that_is_sound_and_one_that_is_not_there() {
    let world = World::asleep(free_address());
    let texts = |world: &World| all(world, &[&["check"], &["check", "--json"]]);
    let mut all = texts(&world);
    world.configure(&config(world.address, ""));
    all.extend(texts(&world));
    world.configure(&config(world.address, "[service.web.hooks]\n"));
    all.extend(texts(&world));
    world.configure("root = \"root\"\n[service.web\n");
    all.extend(texts(&world));
    assert!(!world.path("root").exists(), "it only looks");
    hold(&world, "check", &all);
}

#[test]
fn a_restart_that_fails_and_one_that_may_not() {
    let world = World::new();
    let ill = world.path("ill");
    let program = format!("test -e {} && exit 3; exec {BINARY} demo-service", ill.display());
    let build = world.build_of(&["/bin/sh", "-c", &program]);
    world.release_path(&build).expect(0);
    fs::write(ill, "").unwrap();
    hold(&world, "restart_failed", &all(&world, &[&["restart", "web"], &["restart", "wbe"]]));
}
