//! Hooks: each at its point and once, in whose tree, and what they can stop.

use std::fs;

use halley_sup::demo::load::Shape;
use serde_json::Value;

use crate::daemons::asleep_for;
use crate::world::{Said, World, config, free_address};

/// A world with more lines, which may name its paths.
fn world(more: impl Fn(&World) -> String) -> World {
    let mut world = World::asleep(free_address());
    let text = config(world.address, &more(&world));
    world.configure(&text);
    world.wake();
    world
}

/// A hook that notes its point and the releases it is told.
fn noting(world: &World, before: &str) -> String {
    let notes = world.path("notes").display().to_string();
    let line = "$HALLEY_HOOK $HALLEY_OPERATION $HALLEY_OP $HALLEY_RELEASE $HALLEY_RELEASE_BEFORE.";
    format!(r#"["/bin/sh", "-c", "echo {line} >> {notes}; {before}"]"#)
}

fn notes(world: &World) -> Vec<String> {
    let text = fs::read_to_string(world.path("notes")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

const POINTS: [&str; 7] = [
    "before_migrate",
    "before_start",
    "before_flip",
    "after_flip",
    "after_commit",
    "after_rollback",
    "before_stop",
];

/// Every point notes itself, but for one that does something else first.
fn all(world: &World, odd: &str, deed: &str) -> String {
    let line = |point: &&str| {
        let deed = if *point == odd { deed } else { "true" };
        format!("{point} = {}\n", noting(world, deed))
    };
    let lines: String = POINTS.iter().map(line).collect();
    format!("[service.web.hooks]\n{lines}")
}

fn release_detached(world: &World, behaviour: &[&str]) {
    let build = world.build(behaviour);
    world.cli(&["release", "web", &build.to_string_lossy(), "--detach"]).expect(40);
}

/// The result of an operation that has been let alone.
fn outcome(world: &World, op: &str) -> Value {
    world.cli(&["watch", "web", op, "--json"]).result()
}

fn why(said: &Value) -> &str {
    said["trouble"]["why"].as_str().unwrap_or_default()
}

#[test]
fn each_point_is_met_in_its_order_with_what_it_must_know() {
    let world =
        world(|world| format!("[service.web.keep]\nstandby = \"0s\"\n{}", all(world, "", "")));
    world.release(&[]).expect(0);
    let first: Vec<String> = POINTS[..5].iter().map(|p| format!("{p} release 1 1 .")).collect();
    assert_eq!(notes(&world), first);
    fs::remove_file(world.path("notes")).unwrap();
    world.release(&[]).expect(0);
    world.wait("the old one was told", |world| notes(world).len() == 6);
    let mut second: Vec<String> =
        POINTS[..5].iter().map(|p| format!("{p} release 2 2 1.")).collect();
    second.push("before_stop release 2 1 .".to_owned());
    assert_eq!(notes(&world), second);
    world.wait("it is gone", World::is_alone);
    fs::remove_file(world.path("notes")).unwrap();
    world.cli(&["restart", "web"]).expect(0);
    world.cli(&["rollback", "web"]).expect(0);
    world.wait("the bad one is gone", World::is_alone);
    assert_eq!(notes(&world), ["after_rollback rollback 4 1 2."]);
}

#[test]
fn what_they_print_is_in_the_operations_log() {
    let world = world(|world| all(world, "before_flip", "echo out; echo err >&2"));
    world.release(&[]).expect(0);
    let log = world.service_path("ops/0000001/output.log");
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.contains("--- hook before_flip\nout\nerr\n"), "{text}");
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(fs::metadata(log).unwrap().permissions().mode() & 0o777, 0o600);
}

/// A release that its hook stops: nothing was lost, nothing has moved, and the error says which.
#[track_caller]
fn stopped(world: &World, code: i32, release: impl Fn(&World) -> Said) -> String {
    let load = world.load(Shape::Short);
    let said = release(world).expect(code).result();
    assert!(load.wait_for(20));
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
    assert_eq!(ledger.by_release().into_keys().collect::<Vec<_>>(), [1]);
    assert_eq!((&said["serving"], &said["last_good"]), (&1.into(), &1.into()), "{said}");
    why(&said).to_owned()
}

#[test]
fn one_that_fails_before_fails_the_release_in_its_phase() {
    for (point, code) in [("before_migrate", 10), ("before_start", 20), ("before_flip", 20)] {
        let deed = r"test $HALLEY_RELEASE = 1 || { echo no luck >&2; exit 3; }";
        let world = world(|world| all(world, point, deed));
        world.release(&[]).expect(0);
        fs::remove_file(world.path("notes")).unwrap();
        let why = stopped(&world, code, |world| world.release(&[]));
        assert!(why.starts_with(&format!("hook {point} (/bin/sh -c")), "{why}");
        assert!(why.contains("exit 3: no luck"), "{why}");
        let log = world.service_path("ops/0000002/output.log");
        assert!(why.contains(&format!("its output: {}", log.display())), "{why}");
        let index = POINTS.iter().position(|known| *known == point).unwrap();
        assert_eq!(notes(&world).len(), index + 1, "{:?}", notes(&world));
    }
}

#[test]
fn one_that_hangs_is_killed_at_its_deadline_with_what_it_has_started() {
    // A daemon has left its parents, its session and its environment: root's is known all the same.
    let seconds = format!("3{}", std::process::id());
    let is_root = nix::unistd::geteuid().is_root();
    let sleep = if is_root { format!("/bin/sleep {seconds}") } else { "/bin/true".to_owned() };
    let daemon = format!("/usr/bin/setsid -f /usr/bin/env -i {sleep} >/dev/null 2>&1 </dev/null");
    let runs = format!("until pgrep -f ^/bin/sleep.{seconds}$; do sleep 0.1; done; echo it runs");
    let deed =
        format!("test $HALLEY_RELEASE = 1 || {{ {daemon}; sleep 1000 & {runs}; sleep 1000; }}");
    let world = world(|world| format!("{}deadline = \"3s\"", all(world, "before_flip", &deed)));
    world.release(&[]).expect(0);
    let why = stopped(&world, 20, |world| world.release(&[]));
    assert!(why.contains("hook before_flip: killed: it ran longer than 3s"), "{why}");
    assert_eq!(why.contains("it runs"), is_root, "{why}");
    world.wait("the daemon is gone", |_| asleep_for(&seconds).is_empty());
    // The world's own end finds what else is left: nothing may be.
}

#[test]
fn one_that_fails_afterwards_is_a_warning() {
    for point in ["after_flip", "after_commit"] {
        let world = world(|world| all(world, point, "exit 5"));
        let said = world.release(&[]).expect(0).result();
        assert_eq!((&said["outcome"], &said["serving"]), (&"committed".into(), &1.into()));
        let warning = said["warnings"][0].as_str().unwrap_or_default();
        assert!(warning.starts_with(&format!("hook {point}")), "{said}");
        assert!(warning.contains("exit 5"), "{said}");
    }
}

/// What turns bad is left at once, and its hook is not waited for.
#[test]
fn a_rollback_waits_for_no_hook_and_runs_none_of_the_bad_release() {
    let deed = "test $HALLEY_RELEASE = 1 || sleep 1000";
    let world = world(|world| all(world, "after_flip", deed));
    world.release(&[]).expect(0);
    world.wait("it is alone", World::is_alone);
    fs::remove_file(world.path("notes")).unwrap();
    let text = config(world.address, &all(&world, "after_flip", deed));
    world.reload(&text.replace("for = \"200ms\"", "for = \"20s\""));
    let load = world.load(Shape::Short);
    let said = world.release(&["bad-after-times=8"]).expect(21).result();
    assert_eq!((&said["serving"], &said["last_good"]), (&1.into(), &1.into()), "{said}");
    let warnings = said["warnings"].to_string();
    assert!(warnings.contains("hook after_flip: interrupted; it is not run again"), "{said}");
    world.wait("the bad one is gone", World::is_alone);
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
    let mut expected: Vec<String> =
        POINTS[..4].iter().map(|p| format!("{p} release 2 2 1.")).collect();
    expected.push("after_rollback release 2 1 2.".to_owned());
    assert_eq!(notes(&world), expected);
}

#[test]
fn one_that_fails_after_a_rollback_is_a_warning() {
    let world = world(|world| all(world, "after_rollback", "exit 5"));
    world.release(&[]).expect(0);
    world.release(&[]).expect(0);
    let said = world.cli(&["rollback", "web", "--json"]).expect(0).result();
    assert_eq!(said["outcome"], "rolled_back");
    assert!(said["warnings"].to_string().contains("hook after_rollback"), "{said}");
}

#[test]
fn a_releases_own_hooks_run_after_the_hosts() {
    let own = |world: &World| {
        let build = world.build(&[]);
        let mut text = fs::read_to_string(build.join("release.toml")).unwrap();
        let notes = world.path("notes").display().to_string();
        text.push_str(&format!(
            "hooks.before_start = [[\"/bin/sh\", \"-c\", \"echo own >> {notes}\"], [\"./more\"]]\n"
        ));
        fs::write(build.join("release.toml"), text).unwrap();
        fs::write(build.join("more"), format!("#!/bin/sh\necho more >> {notes}\n")).unwrap();
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(build.join("more"), fs::Permissions::from_mode(0o755)).unwrap();
        build
    };
    let world = world(|world| {
        let notes = world.path("notes").display().to_string();
        let host = format!("[\"/bin/sh\", \"-c\", \"echo host >> {notes}\"]");
        format!("[service.web.hooks]\nbefore_start = {host}")
    });
    let build = own(&world);
    world.release_path(&build).expect(0);
    assert_eq!(notes(&world), ["host", "own", "more"]);
    fs::remove_file(build.join("more")).unwrap();
    let said = world.release_path(&build).expect(10).result();
    assert!(why(&said).contains("hook before_start: ./more is not there"), "{said}");
}

/// Killed in a hook before the flip: it is not run twice, and the release is undone.
#[test]
fn a_supervisor_killed_in_a_hook_before_the_flip_undoes_the_release() {
    for point in ["before_start", "before_flip"] {
        let deed = "test $HALLEY_RELEASE = 1 || sleep 1000";
        let world = world(|world| all(world, point, deed));
        world.release(&[]).expect(0);
        fs::remove_file(world.path("notes")).unwrap();
        let load = world.load(Shape::Short);
        release_detached(&world, &[]);
        world.wait("the hook runs", |world| notes(world).iter().any(|n| n.starts_with(point)));
        let phase = world.status()["operation"]["phase"].clone();
        assert_eq!(phase, format!("hook:{point}"));
        world.kill_supervisor();
        world.wait("it is over", |world| world.status()["operation"].is_null());
        let said = outcome(&world, "2");
        assert_eq!((&said["serving"], &said["last_good"]), (&1.into(), &1.into()), "{said}");
        assert!(said["exit"] == 20 || said["exit"] == 23, "{said}");
        let ledger = load.stop();
        assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
        assert_eq!(ledger.by_release().into_keys().collect::<Vec<_>>(), [1]);
        let n_runs = notes(&world).iter().filter(|note| note.starts_with(point)).count();
        assert_eq!(n_runs, 1, "{:?}", notes(&world));
        world.wait("the hook is gone", |world| is_gone(world, point));
    }
}

/// Nobody runs this hook any more: what hangs in these tests is a `sleep` below a shell.
fn is_gone(world: &World, _point: &str) -> bool {
    let mut hanging = world.left_behind().into_iter().filter(|pid| {
        fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("1000"))
    });
    hanging.next().is_none()
}

/// Killed in a hook after the flip: at most once, a warning, and never a rollback.
#[test]
fn a_supervisor_killed_in_a_hook_after_the_flip_commits_all_the_same() {
    for point in ["after_flip", "after_commit"] {
        let world = world(|world| all(world, point, "sleep 1000"));
        release_detached(&world, &[]);
        world.wait("the hook runs", |world| notes(world).iter().any(|n| n.starts_with(point)));
        world.kill_supervisor();
        world.wait("it is over", |world| {
            let status = world.status();
            status["operation"].is_null() && status["last_good"] == 1
        });
        let said = outcome(&world, "1");
        assert_eq!((&said["outcome"], &said["exit"]), (&"committed".into(), &0.into()), "{said}");
        let warning = format!("hook {point}: interrupted; it is not run again");
        assert_eq!(said["warnings"][0], warning, "{said}");
        let runs = |wanted: &str| notes(&world).iter().filter(|n| n.starts_with(wanted)).count();
        assert_eq!(runs(point), 1);
        assert_eq!(runs("after_commit"), 1, "the other point is not left out");
        world.wait("the hook is gone", |world| is_gone(world, point));
    }
}

#[test]
fn an_abort_ends_a_hook_before_the_migration_and_nothing_is_migrated() {
    let deed = "test $HALLEY_RELEASE = 1 || sleep 1000";
    let world = world(|world| all(world, "before_migrate", deed));
    world.release(&[]).expect(0);
    fs::remove_file(world.path("notes")).unwrap();
    let build = world.build(&[]);
    let migrated = world.path("migrated");
    let text = fs::read_to_string(build.join("release.toml")).unwrap();
    let migrate = format!("[migrate]\ncommand = [\"/usr/bin/touch\", {migrated:?}]\n");
    fs::write(build.join("release.toml"), text + &migrate).unwrap();
    world.cli(&["release", "web", &build.to_string_lossy(), "--detach"]).expect(40);
    world.wait("the hook runs", |world| !notes(world).is_empty());
    world.cli(&["abort", "web"]).expect(23);
    assert!(!migrated.exists(), "it was migrated all the same");
    world.wait("the hook is gone", |world| is_gone(world, ""));
    assert_eq!((notes(&world).len(), world.answering()), (1, Some(1)));
}

#[test]
fn who_says_abort_does_not_wait_for_a_hook_after_the_commit() {
    let world = world(|world| all(world, "after_commit", "sleep 1000"));
    release_detached(&world, &[]);
    world
        .wait("the hook runs", |world| world.status()["operation"]["phase"] == "hook:after_commit");
    let told = world.cli(&["abort", "web", "--json"]).expect(2);
    assert_eq!(told.why(), "the abort came too late: release 1 was committed before");
    assert_eq!(told.result()["next"][0], "halley-sup rollback web");
    let said = outcome(&world, "1");
    assert_eq!((&said["outcome"], &said["exit"]), (&"committed".into(), &0.into()), "{said}");
    assert!(said["warnings"][0].as_str().unwrap().contains("ended by abort"), "{said}");
}

/// In turn a hook that says no says it before anybody waits and before the old one is stopped.
#[test]
fn in_turn_they_run_before_the_old_one_is_stopped() {
    for point in ["before_start", "before_stop"] {
        let deed = "test $HALLEY_OP = 1 || exit 4";
        let world = world(|world| all(world, point, deed));
        let text = config(world.address, &all(&world, point, deed))
            .replace("[service.web.health]", "strategy = \"hold\"\n[service.web.health]");
        world.reload(&text);
        world.release(&["alone"]).expect(0);
        let why = stopped(&world, 10, |world| world.release(&["alone"]));
        assert!(why.contains(&format!("hook {point}")), "{why}");
    }
}
