//! The verbs beside release and rollback: what they print when they succeed.

use std::fs;

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
