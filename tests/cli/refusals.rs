//! What is refused before anything changes, and why.

use std::fs;

use crate::redact::redacted;
use crate::world::{World, free_address};
use crate::{ran, snapshot};

fn hold(world: &World, name: &str, texts: &[String]) {
    snapshot(name, &redacted(world, &texts.join("\n")));
}

#[test]
fn a_frozen_service_refuses_a_release() {
    let world = World::new();
    let build = world.build(&[]).to_string_lossy().into_owned();
    let runs: &[&[&str]] = &[
        &["thaw", "web"],
        &["freeze", "web", "--why", "holidays"],
        &["status"],
        &["release", "web", &build],
        &["release", "web", &build, "--json"],
        &["thaw", "web", "--json"],
        &["freeze", "web"],
        &["thaw", "web"],
    ];
    let texts: Vec<_> = runs.iter().map(|args| ran(&world, args)).collect();
    hold(&world, "freeze", &texts);
}

#[test]
fn a_service_or_a_release_that_does_not_exist_is_refused() {
    let world = World::new();
    let build = world.build(&[]).to_string_lossy().into_owned();
    let runs: &[&[&str]] = &[
        &["release", "wbe", &build],
        &["status", "wbe", "--json"],
        &["rollback", "web", "--to", "9"],
        &["release", "web", "no-such-file"],
        &["restart", "web"],
        &["promote", "web"],
        &["watch", "web", "9"],
        &["logs", "web", "--release", "9"],
        &["backup", "web", "--list"],
        &["backup", "web"],
        &["restore", "web", "--yes"],
        &["drill", "web"],
        &["notify", "pager"],
    ];
    let texts: Vec<_> = runs.iter().map(|args| ran(&world, args)).collect();
    hold(&world, "not_there", &texts);
}

#[test]
fn without_a_supervisor_each_command_says_what_runs_and_how_to_start_it() {
    let world = World::asleep(free_address());
    world.configure(&crate::world::config(world.address, ""));
    let texts = [ran(&world, &["status"]), ran(&world, &["status", "--json"])];
    hold(&world, "not_reachable", &texts);
}

#[test]
fn a_configuration_that_cannot_be_used_is_answered_with_each_problem() {
    let world = World::asleep(free_address());
    let mut texts = vec![ran(&world, &["check"])];
    let service = "root = \"root\"\n[service.web]\nlisten = [\"tcp://127.0.0.1:1\"]\n";
    for lines in [
        "health.htpp = \"/healthz\"\nstrategy = \"replace\"\nhandoff = \"prot\"\n",
        "keep.standby = \"15\"\ncanary = [\"5%\"]\nproxy.kind = \"caddy\"\nforward.max_clients = 0\n",
        "backup.driver = \"files\"\nbackup.path = \"/\"\nbake.max_error_rate = \"1/s\"\n",
        "after = [\"bew\"]\nhooks.before_flip = []\nbake.command_timeout = \"1s\"\n",
    ] {
        fs::write(world.path("halley.toml"), format!("{service}{lines}")).unwrap();
        texts.push(ran(&world, &["check"]));
    }
    texts.push(ran(&world, &["status"]));
    texts.push(ran(&world, &["run"]));
    hold(&world, "config_errors", &texts);
}
