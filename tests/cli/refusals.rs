//! What is refused before anything changes, and why.

use std::fs;
use std::process::Stdio;

use serde_json::Value;

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

/// Commands that are no question to the supervisor.
const ALONE: [&str; 6] = ["run", "check", "init", "doctor", "demo", "help"];

#[test]
fn without_a_supervisor_json_ends_with_a_result_for_every_command() {
    let world = World::asleep(free_address());
    world.configure(&crate::world::config(world.address, ""));
    let build = world.build(&[]).to_string_lossy().into_owned();
    let pair = format!("web={build}");
    let runs: &[&[&str]] = &[
        &["release", "web", &build],
        &["release", "--set", &pair],
        &["rollback", "web"],
        &["status"],
        &["history"],
        &["releases", "web"],
        &["logs", "web"],
        &["env", "web"],
        &["exec", "web", "--", "true"],
        &["start", "web"],
        &["stop", "web"],
        &["restart", "web"],
        &["notify", "pager"],
        &["promote", "web"],
        &["abort", "web"],
        &["freeze", "web"],
        &["thaw", "web"],
        &["drill", "web"],
        &["backup", "web"],
        &["restore", "web", "--yes"],
        &["repair", "web"],
        &["reload"],
        &["watch", "web", "1"],
        &["watch", "--set", "1"],
        &["upgrade"],
    ];
    let help = String::from_utf8(crate::halley(&["--help"]).output().unwrap().stdout).unwrap();
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    for verb in listed.map_while(|line| line.split_whitespace().next()) {
        let is_run = runs.iter().any(|args| args[0] == verb);
        assert!(is_run || ALONE.contains(&verb), "{verb} is not tried");
    }
    // Each waits a moment for a supervisor that is just being replaced: all at the same time.
    let clients: Vec<_> = runs
        .iter()
        .map(|args| {
            // Before what stands behind `--`.
            let (verb, rest) = args.split_at(1);
            let mut command = world.command(verb);
            command.arg("--json").args(rest).stdout(Stdio::piped()).stderr(Stdio::piped());
            (args, command.spawn().unwrap())
        })
        .collect();
    for (args, client) in clients {
        let output = client.wait_with_output().unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert_eq!((output.status.code(), stdout.lines().count()), (Some(3), 1), "{args:?}");
        let said: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!((&said["event"], &said["exit"]), (&"result".into(), &3.into()), "{said}");
        assert_eq!((&said["outcome"], said["next"][0].is_string()), (&"refused".into(), true));
        assert!(["what", "why", "still"].iter().all(|key| said[key].is_string()), "{said}");
    }
}

#[test]
fn an_artifact_that_cannot_be_opened_is_a_result_in_json() {
    let world = World::asleep(free_address());
    let said = world.cli(&["release", "web", "no-such-file", "--json"]).expect(2).result();
    assert_eq!((&said["outcome"], &said["exit"]), (&"refused".into(), &2.into()), "{said}");
    let said = world.cli(&["release", "--set", "web", "--json"]).expect(2).result();
    assert_eq!(said["why"], "\"web\" is not SERVICE=SOURCE");
}

#[test]
fn a_configuration_that_cannot_be_used_is_answered_with_each_problem() {
    let world = World::asleep(free_address());
    let mut texts = vec![ran(&world, &["check"]), ran(&world, &["check", "--json"])];
    let service = "root = \"root\"\n[service.web]\nlisten = [\"tcp://127.0.0.1:1\"]\n";
    for lines in [
        "health.htpp = \"/healthz\"\nstrategy = \"replace\"\nhandoff = \"prot\"\n",
        "keep.standby = \"15\"\ncanary = [\"5%\"]\nproxy.kind = \"caddy\"\nforward.max_clients = 0\n",
        "backup.driver = \"files\"\nbackup.path = \"/\"\nbake.max_error_rate = \"1/s\"\n",
        "after = [\"bew\"]\nhooks.before_flip = []\nbake.command_timeout = \"1s\"\n",
    ] {
        fs::write(world.path("halley.toml"), format!("{service}{lines}")).unwrap();
        texts.push(ran(&world, &["check"]));
        texts.push(ran(&world, &["check", "--json"]));
    }
    texts.push(ran(&world, &["status"]));
    texts.push(ran(&world, &["run"]));
    hold(&world, "config_errors", &texts);
}

/// Machines read one object, whatever went wrong.
#[test]
fn a_command_line_that_was_not_understood_is_answered_in_json_when_it_asks_for_it() {
    for args in [
        ["status", "--json", "--colour"].as_slice(),
        &["release", "--json"],
        &["relase", "web", ".", "--json"],
        &["logs", "web", "-n", "many", "--json"],
    ] {
        let said = crate::halley(args).output().unwrap();
        let value: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
        assert_eq!((said.status.code(), &value["exit"]), (Some(2), &2.into()), "{args:?}");
        assert_eq!(value["outcome"], "refused", "{args:?}");
        for key in ["what", "why", "still"] {
            assert!(value[key].as_str().is_some_and(|text| !text.is_empty()), "{args:?}: {key}");
        }
        assert!(said.stderr.is_empty(), "{args:?}");
    }
    // What stands behind -- is no option.
    let said = crate::halley(&["release", "--", "web", ".", "--json"]).output().unwrap();
    assert!(said.stdout.is_empty() && !said.stderr.is_empty());
}
