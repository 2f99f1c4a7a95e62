//! Whether one could come back: rehearsed before each release, drilled without one, known at any
//! moment; and each rung of the way back.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use halley_sup::demo::load::Shape;
use serde_json::Value;

use crate::world::{BINARY, World, config, kill};

/// A build whose program is a file of its own, which can rot.
pub fn own_program(world: &World, line: &str) -> PathBuf {
    let build = world.build_of(&["./run"]);
    let script = format!("#!/bin/sh\n{line}\nexec {BINARY} demo-service \"$@\"\n");
    fs::write(build.join("run"), script).unwrap();
    fs::set_permissions(build.join("run"), fs::Permissions::from_mode(0o755)).unwrap();
    build
}

/// Somebody meddles with a sealed tree.
pub fn meddle(world: &World, release: u64, with: impl FnOnce(&Path)) {
    let tree = world.service_path(&format!("releases/{release}"));
    fs::set_permissions(&tree, fs::Permissions::from_mode(0o755)).unwrap();
    with(&tree.join("run"));
}

#[test]
fn a_release_begins_when_one_could_come_back() {
    let world = World::new();
    let first = world.release_path(&own_program(&world, "")).expect(0);
    assert!(first.stdout.contains("no earlier release exists"), "{}", first.stdout);
    let said = world.release(&[]).expect(0);
    assert!(said.stdout.contains("release 1, full: 2 of 2"), "{}", said.stdout);
    let rollback = world.status()["rollback"].clone();
    assert_eq!((&rollback["ready"], &rollback["rehearsal"]), (&true.into(), &"full".into()));
    let text = world.cli(&["status", "web"]).stdout;
    assert!(text.contains("rollback: ready (release 1, warm, rehearsed "), "{text}");
    // Who was tried out is gone.
    let roles = world.status()["instances"].to_string();
    assert!(!roles.contains("rehearsal"), "{roles}");
}

#[test]
fn one_that_could_not_be_gone_back_to_is_not_left() {
    let world = World::new();
    world.release_path(&own_program(&world, "")).expect(0);
    let load = world.load(Shape::Short);
    meddle(&world, 1, |run| fs::write(run, "#!/bin/sh\nexit 0\n").unwrap());
    let said = world.release(&[]).expect(14);
    assert!(said.why().contains("its tree differs from its hashes: run"), "{}", said.why());
    let status = world.status();
    assert_eq!((&status["serving"], &status["last_good"]), (&1.into(), &1.into()));
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
    // Whole, and it does not start a second time: only a full rehearsal sees it.
    let mark = world.path("mark");
    let once =
        format!("[ -e {0} ] && [ $HALLEY_RELEASE = 3 ] && exit 7; touch {0}", mark.display());
    let world_two = World::new();
    let once = once.replace("= 3", "= 1");
    world_two.release_path(&own_program(&world_two, &once)).expect(0);
    let said = world_two.release(&[]).expect(14);
    assert!(said.why().contains("release 1: process"), "{}", said.why());
    assert!(said.why().contains("exit 7"), "{}", said.why());
    let report = world_two.service_path("ops/0000002/report.md");
    let report = fs::read_to_string(report).unwrap();
    assert!(report.contains("rehearse_old") && report.contains("exit 7"), "{report}");
}

#[test]
fn light_compares_and_off_does_not() {
    for (depth, exit) in [("light", 14), ("off", 0)] {
        let text = |world: &World| {
            let line = format!("rehearse = {depth:?}\n[service.web.health]");
            config(world.address, "").replace("[service.web.health]", &line)
        };
        let mut world = World::asleep(crate::world::free_address());
        world.configure(&text(&world));
        world.wake();
        // It never starts a second time, which nobody finds out.
        let mark = world.path("mark");
        let once =
            format!("[ $HALLEY_RELEASE = 1 ] && [ -e {0} ] && exit 7; touch {0}", mark.display());
        world.release_path(&own_program(&world, &once)).expect(0);
        world.release_path(&own_program(&world, "")).expect(0);
        meddle(&world, 2, |run| fs::remove_file(run).unwrap());
        let said = world.release(&[]).expect(exit);
        assert_eq!(said.why().contains("its tree differs from its hashes"), exit == 14);
    }
}

#[test]
fn a_drill_tells_whether_a_rollback_would_work() {
    let world = World::new();
    assert_eq!(world.cli(&["drill", "web"]).code, 31);
    world.release_path(&own_program(&world, "")).expect(0);
    world.release(&[]).expect(0);
    let said = world.cli(&["drill", "web"]).expect(0);
    assert!(said.stdout.contains("the rollback rehearsal passed"), "{}", said.stdout);
    let text = fs::read_to_string(world.service_path("releases/1/run")).unwrap();
    meddle(&world, 1, |run| fs::write(run, "#!/bin/sh\nexit 0\n").unwrap());
    let said = world.cli(&["drill", "web", "--json"]).expect(14);
    assert!(said.why().contains("its tree differs from its hashes"), "{}", said.why());
    let rollback = world.status()["rollback"].clone();
    assert_eq!(rollback["ready"], false, "{rollback}");
    let shown = world.cli(&["status", "web"]).stdout;
    assert!(shown.contains("rollback: NOT READY: its last rehearsal failed"), "{shown}");
    meddle(&world, 1, |run| fs::write(run, text).unwrap());
    world.cli(&["drill", "web"]).expect(0);
    assert_eq!(world.status()["rollback"]["ready"], true);
    assert_eq!(world.answering(), Some(2));
}

#[test]
fn drills_come_by_themselves_and_bad_news_is_told() {
    let mut world = World::asleep(crate::world::free_address());
    let told = world.path("told");
    let tell = format!("cat >> {}", told.display());
    let more = format!("[notify.pager]\ncommand = [\"/bin/sh\", \"-c\", {tell:?}]");
    let text = config(world.address, &more)
        .replace("[service.web.health]", "drill = \"1s\"\n[service.web.health]");
    world.configure(&text);
    world.wake();
    world.release_path(&own_program(&world, "")).expect(0);
    world.release(&[]).expect(0);
    let rehearsed = |world: &World| world.status()["rollback"]["rehearsed"].clone();
    let first = rehearsed(&world);
    world.wait("a drill", |world| rehearsed(world) != first);
    assert!(!fs::read_to_string(&told).unwrap_or_default().contains("rollback_not_ready"));
    meddle(&world, 1, |run| fs::remove_file(run).unwrap());
    world.wait("it is told", |_| {
        let text = fs::read_to_string(&told).unwrap_or_default();
        text.contains("rollback_not_ready") && text.contains("drill_failed")
    });
    assert_eq!(world.status()["rollback"]["ready"], false);
    assert_eq!(world.answering(), Some(2));
}

#[test]
fn a_drill_gives_way_to_a_release() {
    let world = World::new();
    let slow = "[ -n \"$HALLEY_REHEARSAL\" ] && [ -e ${HALLEY_SHARED}/slow ] && exec sleep 100";
    world.release_path(&own_program(&world, slow)).expect(0);
    world.release(&[]).expect(0);
    fs::write(world.service_path("shared/slow"), "").unwrap();
    let drill = world.command(&["drill", "web"]).stderr(std::process::Stdio::null()).spawn();
    world.wait("it drills", |world| world.status()["instances"].to_string().contains("rehearsal"));
    world.release(&[]).expect(0);
    let ended = drill.unwrap().wait().unwrap();
    assert!(matches!(ended.code(), Some(23 | 14)), "{ended}");
    world
        .wait("it is gone", |world| !world.status()["instances"].to_string().contains("rehearsal"));
}

#[test]
fn what_is_frozen_gets_no_release_and_every_rollback() {
    let world = World::new();
    world.release(&[]).expect(0);
    world.release(&[]).expect(0);
    assert_eq!(world.cli(&["thaw", "web"]).code, 0, "nothing to do");
    world.cli(&["freeze", "web", "--why", "holidays"]).expect(0);
    let said = world.release(&[]).expect(9);
    assert!(said.why().contains("by tester: holidays"), "{}", said.why());
    assert!(world.cli(&["status"]).stdout.contains("frozen since"));
    world.kill_supervisor();
    world.release(&[]).expect(9);
    world.cli(&["rollback", "web"]).expect(0);
    assert_eq!(world.answering(), Some(1));
    let build = world.build(&[]).to_string_lossy().into_owned();
    world.cli(&["release", "web", &build, "--force"]).expect(0);
    world.cli(&["thaw", "web"]).expect(0);
    world.release(&[]).expect(0);
}

#[test]
fn one_frozen_artifact_can_be_thawed() {
    let world = World::new();
    world.release(&[]).expect(0);
    // The rollback ends it early; a shorter bake may end on a busy machine before it has seen enough.
    let text = fs::read_to_string(world.path("halley.toml")).unwrap();
    world.reload(&text.replace("for = \"200ms\"", "for = \"2s\""));
    let bad = world.build(&["bad-after-times=6"]).to_string_lossy().into_owned();
    world.cli(&["release", "web", &bad]).expect(21);
    world.cli(&["release", "web", &bad]).expect(9);
    assert_eq!(world.cli(&["thaw", "web", "--release", "7"]).code, 0, "nothing to do");
    world.cli(&["release", "web", &bad]).expect(9);
    world.cli(&["thaw", "web", "--release", "2"]).expect(0);
    world.cli(&["release", "web", &bad]).expect(21);
}

#[test]
fn a_dry_run_tells_the_plan_and_changes_nothing() {
    let world = World::with("[service.web.migrate]\ncommand = [\"./migrate\"]");
    let tree = |world: &World| {
        let said = std::process::Command::new("find")
            .args([world.path("root/web/releases"), world.path("root/web/meta")])
            .args([world.path("root/web/staging"), world.path("root/web/incoming")])
            .output();
        String::from_utf8(said.unwrap().stdout).unwrap()
    };
    let build = |world: &World| {
        let build = world.build(&[]);
        fs::write(build.join("migrate"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(build.join("migrate"), fs::Permissions::from_mode(0o755)).unwrap();
        build.to_string_lossy().into_owned()
    };
    let path = build(&world);
    let said = world.cli(&["release", "web", &path, "--dry-run"]).expect(0);
    assert!(
        said.stdout.contains("rollback: no, because it is the first release"),
        "{}",
        said.stdout
    );
    world.cli(&["release", "web", &path]).expect(0);
    let (before, pid) = (tree(&world), world.live_pid());
    let path = build(&world);
    let said = world.cli(&["release", "web", &path, "--dry-run"]).expect(0);
    for words in [
        "web: plan of release 2",
        "rehearse old",
        "release 1: start it beside the running release and probe it",
        "none is configured: the migration is not rehearsed",
        "./migrate, at most 10m",
        "after this release, rollback to 1: yes, because release 1 stays warm for 15m",
    ] {
        assert!(said.stdout.contains(words), "{words}\n{}", said.stdout);
    }
    let json = world.cli(&["release", "web", &path, "--dry-run", "--json"]).expect(0);
    let plan = json.stdout.lines().find(|line| line.contains("\"event\":\"plan\"")).unwrap();
    let plan: serde_json::Value = serde_json::from_str(plan).unwrap();
    assert_eq!((&plan["rollback"], &plan["rollback_to"]), (&true.into(), &1.into()), "{plan}");
    let gate = plan["steps"].as_array().unwrap().iter().find(|step| step["phase"] == "gate");
    assert!(gate.unwrap()["ms"].is_u64(), "times are learned: {plan}");
    assert_eq!(json.result()["outcome"], "planned");
    assert_eq!((tree(&world), world.live_pid()), (before.clone(), pid));
    // What stands against it is told by the dry run as well.
    let bad = world.build_of(&["./nothing"]).to_string_lossy().into_owned();
    world.cli(&["release", "web", &bad, "--dry-run"]).expect(10);
    assert_eq!(tree(&world), before);
    // Its number was not used up.
    let said = world.cli(&["release", "web", &path, "--json"]).expect(0);
    assert_eq!(said.result()["release"], 2);
}

#[test]
fn a_dead_standby_is_started_cold_from_its_tree() {
    let world = World::new();
    world.release(&[]).expect(0);
    world.release(&[]).expect(0);
    let load = world.load(Shape::Short);
    let status = world.status();
    let standby = status["instances"].as_array().unwrap();
    let standby = standby.iter().find(|instance| instance["role"] == "standby").unwrap();
    kill(i32::try_from(standby["pid"].as_i64().unwrap()).unwrap(), libc::SIGKILL);
    world.wait("only the live one is left", World::is_alone);
    let said = world.cli(&["rollback", "web", "--json"]).expect(0);
    assert!(said.stdout.contains("back_start:1"), "{}", said.stdout);
    assert_eq!(said.result()["serving"], 1);
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
}

/// Nothing answers: callers are held, and the ladder is climbed again until something does.
#[test]
fn when_nothing_answers_callers_are_held_until_something_does() {
    let world = World::with("[service.web.keep]\nstandby = \"0s\"");
    world.release_path(&own_program(&world, "")).expect(0);
    world.release_path(&own_program(&world, "# two")).expect(0);
    world.wait("only the live one is left", World::is_alone);
    let text = fs::read_to_string(world.service_path("releases/1/run")).unwrap();
    for release in [1, 2] {
        meddle(&world, release, |run| fs::remove_file(run).unwrap());
    }
    kill(world.live_pid(), libc::SIGKILL);
    let mut command = world.command(&["rollback", "web", "--json"]);
    let client = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    world.wait("it is loud", |world| {
        let status = world.status();
        status["operation"]["phase"] == "stranded" && !status["alarm"].is_null()
    });
    // Who calls now waits.
    let address = world.address;
    let caller = std::thread::spawn(move || World::answering_at(address));
    meddle(&world, 1, |run| {
        fs::write(run, text).unwrap();
        fs::set_permissions(run, fs::Permissions::from_mode(0o755)).unwrap();
    });
    let output = client.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.code().is_some(), "{text}");
    assert_eq!(caller.join().unwrap(), Some(1), "{text}");
    world.wait("it serves", |world| world.status()["serving"] == 1);
}

/// What ended a rollback that nothing came of: the files are back, and the last good release is stopped
/// and started by hand.
#[test]
fn a_rollback_that_failed_is_over_when_the_service_is_stopped_and_started() {
    let world = World::with("[service.web.keep]\nstandby = \"0s\"");
    world.release_path(&own_program(&world, "")).expect(0);
    world.release_path(&own_program(&world, "# two")).expect(0);
    world.wait("only the live one is left", World::is_alone);
    let text = fs::read_to_string(world.service_path("releases/2/run")).unwrap();
    for release in [1, 2] {
        meddle(&world, release, |run| fs::remove_file(run).unwrap());
    }
    kill(world.live_pid(), libc::SIGKILL);
    let mut client = world.command(&["rollback", "web"]).spawn().unwrap();
    world.wait("it is loud", |world| !world.status()["alarm"].is_null());
    client.kill().unwrap();
    client.wait().unwrap();
    world.cli(&["stop", "web"]).expect(0);
    // It has failed, and that has not been mended.
    let alarm = world.status()["alarm"].clone();
    assert!(alarm["still"].as_str().unwrap().contains("stopped"), "{alarm}");
    assert_ne!(world.cli(&["start", "web"]).code, 0);
    assert!(!world.status()["alarm"].is_null());
    world.cli(&["stop", "web"]).expect(0);
    meddle(&world, 2, |run| {
        fs::write(run, text).unwrap();
        fs::set_permissions(run, fs::Permissions::from_mode(0o755)).unwrap();
    });
    world.cli(&["start", "web"]).expect(0);
    let status = world.status();
    assert_eq!((&status["state"], &status["alarm"]), (&"running".into(), &Value::Null));
}
