//! Releases and what is shown of them, for people and for programs.

use crate::redact::redacted;
use crate::world::World;
use crate::{ran, snapshot};

/// A new build of the demo service, as an argument.
fn build(world: &World, behaviour: &[&str]) -> String {
    world.build(behaviour).to_string_lossy().into_owned()
}

fn hold(world: &World, name: &str, texts: &[String]) {
    snapshot(name, &redacted(world, &texts.join("\n")));
}

#[test]
fn a_release_that_goes_live() {
    let world = World::new();
    let first = ran(&world, &["release", "web", &build(&world, &[])]);
    let second = ran(&world, &["release", "web", &build(&world, &[]), "--json"]);
    hold(&world, "release_committed", &[first, second]);
}

#[test]
fn a_release_whose_gate_fails() {
    let world = World::new();
    world.release(&[]).expect(0);
    let first = ran(&world, &["release", "web", &build(&world, &["exit=3"])]);
    let second = ran(&world, &["release", "web", &build(&world, &["exit=3"]), "--json"]);
    hold(&world, "release_gate_failed", &[first, second]);
}

#[test]
fn a_rollback() {
    let world = World::new();
    let none = ran(&world, &["rollback", "web"]);
    world.release(&[]).expect(0);
    world.release(&[]).expect(0);
    let people = ran(&world, &["rollback", "web"]);
    world.release(&[]).expect(0);
    let programs = ran(&world, &["rollback", "web", "--json"]);
    hold(&world, "rollback", &[none, people, programs]);
}

#[test]
fn status_of_a_service_without_a_release_with_some_and_after_a_failure() {
    let world = World::new();
    let mut texts = vec![ran(&world, &["status"]), ran(&world, &["status", "--json"])];
    world.release(&[]).expect(0);
    world.release(&[]).expect(0);
    texts.push(ran(&world, &["status"]));
    world.release(&["exit=3"]).expect(20);
    world.wait("the failed release is gone", |world| {
        world.status()["instances"].as_array().is_some_and(|all| all.len() == 2)
    });
    texts.extend([ran(&world, &["status"]), ran(&world, &["status", "--json"])]);
    texts.push(ran(&world, &["status", "web"]));
    hold(&world, "status", &texts);
}

#[test]
fn releases_and_history() {
    let world = World::new();
    let verbs = ["releases", "history"];
    let mut texts: Vec<_> = verbs.iter().map(|verb| ran(&world, &[verb, "web"])).collect();
    world.release(&[]).expect(0);
    world.release(&["exit=3"]).expect(20);
    for verb in verbs {
        texts.extend([ran(&world, &[verb, "web"]), ran(&world, &[verb, "web", "--json"])]);
    }
    hold(&world, "releases_and_history", &texts);
}
