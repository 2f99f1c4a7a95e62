//! `next:` names commands that can be run as they stand, and that lead on.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::way_back::{meddle, own_program};
use crate::world::{BINARY, Said, World};

/// Runs a command as somebody types it who has read it.
fn typed(world: &World, command: &str) -> i32 {
    let bin = world.path("bin");
    if !bin.exists() {
        fs::create_dir(&bin).unwrap();
        symlink(BINARY, bin.join("halley-sup")).unwrap();
    }
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).env("PATH", path).env("PAGER", "cat").env("LESS", "-FEX");
    shell.env("HALLEY_CONFIG", world.path("halley.toml")).current_dir(world.path(""));
    shell.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
    shell.stderr(std::process::Stdio::null()).status().unwrap().code().unwrap()
}

fn next(said: &Said) -> Vec<String> {
    let result = said.result();
    let trouble = if result["trouble"].is_null() { &result } else { &result["trouble"] };
    let next = trouble["next"].as_array().unwrap().iter();
    next.map(|command| command.as_str().unwrap().to_owned()).collect()
}

/// Runs what is named, and gives the exit codes with it.
fn run_all(world: &World, said: &Said) -> Vec<(String, i32)> {
    let all = next(said).into_iter().filter(|command| command.starts_with("halley-sup"));
    all.map(|command| (command.clone(), typed(world, &command))).collect()
}

fn release(world: &World, build: &Path, more: &[&str]) -> Said {
    let path = build.to_string_lossy().into_owned();
    world.cli(&[&["release", "web", &path, "--json"], more].concat())
}

#[test]
fn a_release_that_cannot_be_taken_back_goes_out_by_what_its_refusal_names() {
    let world = World::new();
    world.release_path(&own_program(&world, "")).expect(0);
    meddle(&world, 1, |run| fs::remove_file(run).unwrap());
    let build = world.build(&[]);
    let moved = world.path("my app's build");
    fs::rename(build, &moved).unwrap();
    let said = release(&world, &moved, &[]).expect(14);
    let ran = run_all(&world, &said);
    assert!(
        ran.iter().any(|(command, code)| command.contains("--no-way-back") && *code == 0),
        "{ran:?}"
    );
    assert_eq!(world.answering(), Some(3));
}

#[test]
fn a_frozen_artifact_and_a_frozen_service_go_out_by_what_their_refusals_name() {
    let world = World::new();
    world.release(&[]).expect(0);
    let build = world.build(&["healthy-times=4"]);
    release(&world, &build, &[]).expect(21);
    let said = release(&world, &build, &[]).expect(9);
    let ran = run_all(&world, &said);
    // It is as bad as before, and was let in.
    assert!(
        ran.iter().any(|(command, code)| command.contains("--force") && *code == 21),
        "{ran:?}"
    );
    world.cli(&["freeze", "web", "--why", "holidays"]).expect(0);
    let said = release(&world, &world.build(&[]), &[]).expect(9);
    let ran = run_all(&world, &said);
    assert!(ran.iter().all(|(_, code)| *code == 0) && ran.len() == 3, "{ran:?}");
}

#[test]
fn the_log_of_a_failed_candidate_is_there_as_long_as_its_report() {
    let world = World::new();
    world.release(&[]).expect(0);
    let mut reports = Vec::new();
    for n in 0..3 {
        let build = own_program(&world, &format!("echo broken-{n}; exit 4"));
        reports.push((n, release(&world, &build, &[]).expect(20)));
    }
    for (n, said) in &reports {
        let commands = next(said);
        let log = commands.iter().find(|command| command.contains(" logs ")).unwrap();
        assert_eq!(typed(&world, &format!("{log} | grep broken-{n}")), 0, "{log}");
        let report = commands.iter().find_map(|command| command.strip_prefix("less ")).unwrap();
        assert!(fs::read_to_string(report).unwrap().contains("broken"), "{report}");
    }
}

#[test]
fn what_a_refused_verb_names_can_be_run() {
    let world = World::new();
    let refused = |args: &[&str]| {
        let said = world.cli(&[args, &["--json"]].concat());
        assert_ne!(said.code, 0, "{args:?}");
        let ran = run_all(&world, &said);
        assert!(!ran.is_empty() && ran.iter().all(|(_, code)| *code == 0), "{args:?}: {ran:?}");
    };
    world.release(&[]).expect(0);
    refused(&["rollback", "web"]);
    refused(&["rollback", "web", "--to", "9"]);
    refused(&["abort", "web"]);
    refused(&["promote", "web"]);
    refused(&["logs", "web", "--release", "77"]);
    refused(&["drill", "web"]);
    refused(&["status", "wbe"]);
    refused(&["release", "wbe", "/tmp"]);
    refused(&["watch", "web", "99"]);
    refused(&["restore", "web", "--dry-run"]);
    refused(&["backup", "web"]);
    refused(&["notify", "nobody"]);
    world.cli(&["stop", "web"]).expect(0);
    refused(&["restart", "web"]);
    assert_eq!(world.answering(), Some(1));
}
