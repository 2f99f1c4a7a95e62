//! The verbs beside release and rollback: what they print when they succeed.

use std::fs;

use regex_lite::Regex;

use crate::redact::redacted;
use crate::world::{World, config, free_address};
use crate::{ran, snapshot};

fn hold(world: &World, name: &str, texts: &[String]) {
    snapshot(name, &redacted(world, &texts.join("\n")));
}

#[test]
fn stop_start_restart_and_drill() {
    let world = World::new();
    world.release(&[]).expect(0);
    world.release(&[]).expect(0);
    let runs: &[&[&str]] = &[
        &["drill", "web"],
        &["restart", "web"],
        &["stop", "web"],
        &["status"],
        &["restart", "web"],
        &["start", "web"],
        &["start", "web", "--json"],
    ];
    let texts: Vec<_> = runs.iter().map(|args| ran(&world, args)).collect();
    hold(&world, "processes", &texts);
}

#[test]
fn a_bake_that_is_watched_promoted_and_aborted() {
    let mut world = World::asleep(free_address());
    world.configure(&config(world.address, "").replace("for = \"200ms\"", "for = \"60s\""));
    world.wake();
    let mut texts = Vec::new();
    for end in ["promote", "abort"] {
        let build = world.build(&[]).to_string_lossy().into_owned();
        texts.push(ran(&world, &["release", "web", &build, "--detach"]));
        world.wait("the bake", |world| world.status()["operation"]["phase"] == "bake");
        if end == "promote" {
            texts.push(ran(&world, &["status"]));
            texts.push(ran(&world, &["release", "web", &build]));
        }
        texts.push(ran(&world, &[end, "web"]));
    }
    texts.push(ran(&world, &["promote", "web"]));
    hold(&world, "bake", &texts);
}

#[test]
fn a_backup_and_its_restore() {
    let world = World::with("[service.web.backup]\ndriver = \"files\"\npath = \"data\"\n");
    let data = world.service_path("shared/data");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("a"), "a").unwrap();
    world.release(&[]).expect(0);
    let mut texts = vec![ran(&world, &["backup", "web"])];
    fs::write(data.join("b"), "b").unwrap();
    for args in [
        &["backup", "web", "--list"][..],
        &["restore", "web"],
        &["restore", "web", "--dry-run"],
        &["restore", "web", "--yes"],
    ] {
        texts.push(ran(&world, args));
    }
    hold(&world, "backup", &texts);
}

#[test]
fn the_plan_of_a_release() {
    let world = World::new();
    let build = world.build(&[]).to_string_lossy().into_owned();
    let first = ran(&world, &["release", "web", &build, "--dry-run"]);
    world.release(&[]).expect(0);
    let second = ran(&world, &["release", "web", &build, "--dry-run"]);
    hold(&world, "plan", &[first, second]);
}

/// What `doctor` finds out about the machine, in words that stand for either answer.
const MACHINE: &[(&str, &str)] = &[
    (r"(?m)^(ok +intercept works.*|warn +this kernel does not report.*\n +next: .*)$", "INTERCEPT"),
    (
        r"(?m)^(ok +isolation works.*|warn +(no mounts of its own|rehearsals cannot).*\n +next: .*)$",
        "ISOLATION",
    ),
    (r"(?m)^ok +Linux \S+: ", "KERNEL "),
    (r"(?m)^(warn|bad) +Linux \S+ is older than \S+: (.*)\n +next: .*$", "KERNEL $2"),
    (r"(?m)^(ok +the kernel moves no.*|warn +net\.ipv4\.tcp_migrate.*\n +next: .*)$", "MIGRATION"),
    (r"(?m)^warn +web: (backlog|port) .*\n +next: .*\n", ""),
];

#[test]
fn doctor_checks_the_kernel_the_configuration_and_the_supervisor() {
    let mut world = World::asleep(free_address());
    world.configure("root = \"root\"\nservice = 1\n");
    let bad = |text: String| {
        let lines: Vec<_> = text.lines().filter(|line| !line.contains("\"ok\"")).collect();
        lines.join("\n")
    };
    let mut texts = vec![ran(&world, &["doctor"]), bad(ran(&world, &["doctor", "--json"]))];
    world.configure(&config(world.address, ""));
    texts.push(ran(&world, &["doctor"]));
    world.wake();
    texts.push(ran(&world, &["doctor"]));
    let mut text = texts.join("\n");
    for (pattern, stand_in) in MACHINE {
        text = Regex::new(pattern).unwrap().replace_all(&text, *stand_in).into_owned();
    }
    hold(&world, "doctor", &[text]);
}
