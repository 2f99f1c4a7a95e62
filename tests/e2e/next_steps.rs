//! `next:` names commands that can be run as they stand, and that lead on.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::way_back::{meddle, own_program};
use crate::world::{BINARY, Said, World, config};

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
    shell.env_remove("HALLEY_CONFIG").current_dir(world.path(""));
    shell.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
    shell.stderr(std::process::Stdio::null()).status().unwrap().code().unwrap()
}

/// Everything that a command prints, its commands with the option.
fn as_it_is(world: &World, args: &[&str]) -> Said {
    let output = world.command(args).output().unwrap();
    Said {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn next(said: &Said) -> Vec<String> {
    let result = said.result();
    let trouble = if result["trouble"].is_null() { &result } else { &result["trouble"] };
    let next = trouble["next"].as_array().unwrap().iter();
    next.map(|command| command.as_str().unwrap().to_owned()).collect()
}

/// Runs what is named, and gives the exit codes with it.
fn run_all(world: &World, said: &Said) -> Vec<(String, i32)> {
    let all = next(said).into_iter().filter(|command| command.contains("halley-sup"));
    all.map(|command| (command.clone(), typed(world, &command))).collect()
}

fn release(world: &World, build: &Path, more: &[&str]) -> Said {
    let path = build.to_string_lossy().into_owned();
    as_it_is(world, &[&["release", "web", &path, "--json"], more].concat())
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
        let said = as_it_is(&world, &[args, &["--json"]].concat());
        assert_ne!(said.code, 0, "{args:?}");
        let ran = run_all(&world, &said);
        let reach = |(command, _): &(String, i32)| command.contains(" --config /");
        assert!(ran.iter().all(reach), "{ran:?}");
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

#[test]
fn what_is_printed_for_people_leads_to_the_same_halley_by_option_and_by_variable() {
    let world = World::with("[service.web.env]\nHINT = \"halley-sup status web\"\n");
    world.release(&[]).expect(0);
    let file = world.path("my halley.toml");
    fs::rename(world.path("halley.toml"), &file).unwrap();
    let option = format!(" --config '{}'", file.display());
    let asked = |args: &[&str], by_variable: bool| {
        let mut command = Command::new(BINARY);
        command.args(args).env_remove("HALLEY_CONFIG");
        match by_variable {
            true => command.env("HALLEY_CONFIG", &file),
            false => command.arg("--config").arg(&file),
        };
        let output = command.output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    for by_variable in [false, true] {
        let refused = asked(&["rollback", "web", "--to", "9"], by_variable);
        assert!(
            refused.contains(&format!("next:  halley-sup releases{option} web\n")),
            "{refused}"
        );
        let stopped = asked(&["stop", "web"], by_variable);
        assert!(stopped.contains(&format!("until halley-sup start{option} web")), "{stopped}");
        let started = asked(&["start", "web", "--json"], by_variable);
        assert!(started.contains("\"started\""), "{started}");
        // The words of a program are its own.
        let own = asked(&["env", "web"], by_variable);
        assert!(own.contains("HINT=halley-sup status web\n"), "{own}");
    }
}

#[test]
fn a_rejected_archive_goes_out_by_the_command_that_converts_it() {
    let world = World::new();
    world.release(&[]).expect(0);
    let mut live = 1;
    for (name, pack) in [
        ("my app.tar.xz", "tar -C $BUILD -c . | xz > \"$TO\""),
        ("app.tar.bz2", "tar -C $BUILD -c . | bzip2 > \"$TO\""),
        ("app.tar.lz4", "tar -C $BUILD -c . | lz4 -q > \"$TO\""),
        ("app.zip", "cd $BUILD && zip -qr \"$TO\" ."),
        (
            "it's sparse.tar",
            "truncate -s 1M $BUILD/hole && echo x >> $BUILD/hole && \
             tar -C $BUILD -S --format=gnu -cf \"$TO\" .",
        ),
    ] {
        let (build, to) = (world.build(&[]), world.path(name));
        let mut packing = Command::new("sh");
        packing.args(["-ec", pack]).env("BUILD", &build).env("TO", &to);
        assert!(packing.status().unwrap().success(), "{name}");
        let said = release(&world, &to, &[]).expect(11);
        assert_eq!(world.answering(), Some(live));
        let ran = run_all(&world, &said);
        assert!(ran.len() == 1 && ran[0].1 == 0, "{ran:?}");
        live = world.answering().unwrap();
        let version = fs::read_to_string(world.service_path("current/VERSION")).unwrap();
        assert!(build.ends_with(format!("build{version}")), "{ran:?}");
    }
}

#[test]
fn a_list_of_nothing_has_a_result_too() {
    let world = World::new();
    for args in [&["releases", "web"][..], &["history"]] {
        let said = world.cli(&[args, &["--json"]].concat()).expect(0).result();
        assert_eq!((&said["event"], &said["n"]), (&"result".into(), &0.into()), "{args:?}: {said}");
    }
}

#[test]
fn a_renamed_service_is_released_after_the_stop_that_its_refusal_names() {
    let world = World::new();
    world.release(&[]).expect(0);
    let text = config(world.address, "").replace("[service.web", "[service.site");
    world.reload(&text);
    let build = world.build(&[]);
    let said =
        as_it_is(&world, &["release", "site", &build.to_string_lossy(), "--json"]).expect(10);
    assert!(said.why().contains("web, which is not configured any more"), "{}", said.why());
    assert_eq!(world.answering(), Some(1));
    let ran = run_all(&world, &said);
    assert!(ran.len() == 2 && ran.iter().all(|(_, code)| *code == 0), "{ran:?}");
    assert_eq!(world.status_of("site")["serving"], 1);
}

#[test]
fn a_rollback_to_a_release_that_is_not_warm_shows_no_failure() {
    let world = World::with("[service.web.keep]\nstandby = \"0s\"\n");
    world.release(&[]).expect(0);
    world.release(&[]).expect(0);
    world.wait("the old one is gone", World::is_alone);
    let said = world.cli(&["rollback", "web"]).expect(0);
    assert!(said.stderr.contains("gate") && !said.stderr.contains("FAILED"), "{}", said.stderr);
    assert_eq!(world.answering(), Some(1));
}
