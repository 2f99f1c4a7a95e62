//! The stack starts in `after` order and stops in reverse, side by side where the order allows.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::world::{World, free_address};

/// Writes each start and stop into one log. Where its directory has `meet`, a program of a pair is
/// ready, and gone, only when the other one has begun to be; where it has no `go`, nobody is ready.
const PROGRAM: &str = r#"#!/bin/sh
cd "$1"; me=$HALLEY_SERVICE
case $me in left) other=right ;; right) other=left ;; *) other= ;; esac
meet() { touch "$me.$1"; [ -z "$other" ] || [ ! -e meet ] || until [ -e "$other.$1" ]; do sleep 0.02; done; }
bye() { echo "stop $me" >> log; meet bye; echo "gone $me" >> log; exit 0; }
trap bye TERM
echo "start $me" >> log
meet here
until [ -e go ]; do sleep 0.02; done
echo "ready $me" >> log
touch "$me.ready"
while :; do sleep 0.02; done
"#;

/// `top` after `left` and `right`, both after `base`.
fn diamond(deadline: &str) -> World {
    let mut world = World::asleep(free_address());
    let here = world.path("").display().to_string();
    fs::write(world.path("program"), PROGRAM).unwrap();
    fs::set_permissions(world.path("program"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut text = "root = \"root\"\n".to_owned();
    let after =
        [("top", "\"right\", \"left\""), ("right", "\"base\""), ("left", "\"base\""), ("base", "")];
    for (name, after) in after {
        let probe = format!("echo {name} >> {here}/probes; test -e {here}/{name}.ready");
        text.push_str(&format!(
            "[service.{name}]\ncommand = [\"{here}/program\", \"{here}\"]\nafter = [{after}]\n\
             [service.{name}.health]\nexec = [\"/bin/sh\", \"-c\", \"{probe}\"]\n\
             interval = \"30ms\"\nrise = 1\nmin_healthy = \"0s\"\ndeadline = \"{deadline}\"\n\
             [service.{name}.bake]\nfor = \"0s\"\n[service.{name}.stop]\ntimeout = \"600s\"\n"
        ));
    }
    world.configure(&text);
    fs::write(world.path("go"), "").unwrap();
    world.wake();
    let build = world.build_of(&["/bin/true"]);
    fs::remove_file(build.join("release.toml")).unwrap();
    for name in ["base", "left", "right", "top"] {
        world.cli(&["release", name, &build.display().to_string()]).expect(0);
    }
    assert!(world.sleep());
    for name in ["base", "left", "right", "top"] {
        for mark in ["here", "bye", "ready"] {
            drop(fs::remove_file(world.path(&format!("{name}.{mark}"))));
        }
    }
    fs::write(world.path("log"), "").unwrap();
    fs::write(world.path("probes"), "").unwrap();
    world
}

fn log(world: &World) -> Vec<String> {
    let text = fs::read_to_string(world.path("log")).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[track_caller]
fn before(log: &[String], first: &str, then: &str) {
    let place = |wanted: &str| log.iter().position(|line| line == wanted);
    assert!(place(first).is_some() && place(first) < place(then), "{first}, {then}: {log:?}");
}

#[test]
fn starts_and_stops_follow_the_order_and_pairs_go_side_by_side() {
    let mut world = diamond("600s");
    fs::write(world.path("meet"), "").unwrap();
    fs::remove_file(world.path("go")).unwrap();
    world.wake();
    // Those after it wait until it answers, not until it runs.
    world.wait("base is asked several times", |world| {
        fs::read_to_string(world.path("probes")).unwrap().matches("base").count() > 5
    });
    assert_eq!(log(&world), ["start base"]);
    fs::write(world.path("go"), "").unwrap();
    world.wait("all are ready", |world| log(world).contains(&"ready top".to_owned()));
    let started = log(&world);
    for (first, then) in [
        ("ready base", "start left"),
        ("ready base", "start right"),
        ("ready left", "start top"),
        ("ready right", "start top"),
    ] {
        before(&started, first, then);
    }
    assert!(world.sleep());
    let all = log(&world);
    for (first, then) in [
        ("gone top", "stop left"),
        ("gone top", "stop right"),
        ("gone left", "stop base"),
        ("gone right", "stop base"),
    ] {
        before(&all, first, then);
    }
    assert_eq!(all.last().map(String::as_str), Some("gone base"));
}

#[test]
fn a_service_that_does_not_answer_holds_the_others_up_for_its_deadline_only() {
    let mut world = diamond("300ms");
    fs::remove_file(world.path("go")).unwrap();
    world.wake();
    world.wait("the last one is started", |world| log(world).contains(&"start top".to_owned()));
    before(&log(&world), "start base", "start left");
    before(&log(&world), "start left", "start top");
}
