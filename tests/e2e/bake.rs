//! What the bake watches beside the health check: each bad one is named and rolled back, healthy
//! ones pass under load, and what nobody can judge is inconclusive.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use halley_sup::demo::load::Shape;
use halley_sup::os::proc;
use serde_json::Value;

use crate::world::{Said, World, config};

/// Everything at once, with bounds that a healthy program keeps under load.
const EVERYTHING: &str = r#"for = "4s"
warm_up = "500ms"
inconclusive = "rollback"
max_rss = "1GiB"
max_rss_growth = "256MiB"
max_fd_growth = 200
max_thread_growth = 200
error_lines = "(?i)error"
max_error_rate = "3/s"
wanted = ["/wanted", "/peer"]
command = ["/bin/sh", "-c", "exit 0"]
metrics.bad = 'http_requests_total{code=~"5.."}'
metrics.total = "http_requests_total"
metrics.max_ratio = 0.02
metrics.min_total = 10
"#;

/// A bake that a bad one never sees the end of.
const LONG: &str = "for = \"60s\"\nwarm_up = \"200ms\"\n";

const METRICS: &str = "metrics.bad = 'http_requests_total{code=~\"5..\"}'\n\
                       metrics.total = \"http_requests_total\"\nmetrics.min_total = 10\n";

/// A world whose first release, of this behaviour, is committed, and whose second one will be
/// watched like this.
fn world(behaviour: &[&str], bake: &str) -> World {
    let world = World::new();
    world.release(behaviour).expect(0);
    world.reload(&config(world.address, "").replace("for = \"200ms\"", bake));
    world
}

fn bakes(world: &World) {
    world.wait("it bakes", |world| world.status()["operation"]["phase"] == "bake");
}

fn why(result: &Value) -> String {
    result["trouble"]["why"].as_str().unwrap_or_default().to_owned()
}

/// The second release of a world with this bake is rolled back by this signal.
#[track_caller]
fn rolled_back(world: &World, release: impl Fn(&World) -> Said, signal: &str) -> String {
    let result = release(world).expect(21).result();
    let why = why(&result);
    assert!(why.starts_with(signal), "{signal}: {why}");
    assert_eq!((&result["serving"], &result["last_good"]), (&1.into(), &1.into()), "{result}");
    assert_eq!(world.answering(), Some(1));
    why
}

/// The phases' details, as the client saw them.
fn details(said: &Said, phase: &str) -> String {
    let events = said.stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let of_phase = events.filter(|event| event["phase"] == phase && event["state"] != "start");
    of_phase.map(|event| event["detail"].as_str().unwrap_or_default().to_owned()).collect()
}

fn ask(world: &World, path: &str) -> String {
    let mut text = String::new();
    if let Ok(mut stream) = TcpStream::connect(world.address) {
        drop(
            stream
                .write_all(format!("GET {path} HTTP/1.0\r\nConnection: close\r\n\r\n").as_bytes()),
        );
        drop(stream.read_to_string(&mut text));
    }
    text
}

#[test]
fn each_bad_one_is_rolled_back_and_its_signal_is_named() {
    for (behaviour, bake, signal, numbers) in [
        ("leak-kb=1024", "max_rss_growth = \"8MiB\"", "memory: release 2 ", "more, limit 8.4 MB"),
        ("leak-kb=1024", "max_rss_growth = \"100%\"", "memory: release 2 ", "more, limit 100%"),
        ("leak-kb=4096", "max_rss = \"64MiB\"", "memory: release 2 ", "limit 67.1 MB"),
        ("leak-fds=3", "max_fd_growth = 20", "descriptors: release 2 ", "more, limit 20"),
        ("leak-threads=3", "max_thread_growth = 20", "threads: release 2 ", "more, limit 20"),
        ("error-lines=1", "error_lines = \"ERROR\"", "error lines: ", "in 1s, limit 1/s"),
        ("bad-percent=50", METRICS, "metrics: ", ", limit 5 %"),
    ] {
        let world = world(&[], &format!("{LONG}{bake}"));
        let load = (signal != "error lines: ").then(|| world.load(Shape::Short));
        let why = rolled_back(&world, |world| world.release(&[behaviour]), signal);
        assert!(why.lines().next().unwrap().contains(numbers), "{why}");
        if let Some(ledger) = load.map(halley_sup::demo::load::Load::stop) {
            assert_eq!(ledger.n_lost(), 0, "{behaviour}: {}", ledger.losses());
        }
    }
}

#[test]
fn a_healthy_one_passes_everything_under_load() {
    let world = world(&[], EVERYTHING);
    let loads = [world.load(Shape::Short), world.load(Shape::KeepAlive)];
    let said = world.release(&[]).expect(0);
    let text = details(&said, "bake");
    for signal in ["memory", "descriptors", "threads", "error lines", "metrics", "command"] {
        assert!(text.contains(signal), "{text}");
    }
    assert!(text.contains("wanted probes"), "{text}");
    assert_eq!(said.result()["warnings"], Value::Array(Vec::new()), "{}", said.stdout);
    for load in loads {
        let ledger = load.stop();
        assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
    }
    assert_eq!(world.answering(), Some(2));
}

#[test]
fn what_comes_in_the_warm_up_is_not_judged() {
    let bake = "for = \"3s\"\nwarm_up = \"2700ms\"\nmax_fd_growth = 20\n\
                error_lines = \"ERROR\"\nmax_error_rate = \"20/s\"";
    let world = world(&[], bake);
    let said = world.release(&["leak-fds=1", "error-lines=1"]).expect(0);
    let text = details(&said, "bake");
    assert!(text.contains("good: descriptors, error lines"), "{text}");
}

/// It leaks before the warm-up ends, and no more than that.
#[test]
fn descriptors_near_their_limit_end_a_bake_that_was_told_nothing_of_them() {
    let world = world(&[], "for = \"60s\"\nwarm_up = \"50s\"");
    let script = format!("ulimit -n 64; exec {} demo-service leak-fds=1", crate::world::BINARY);
    let build = world.build_of(&["/bin/sh", "-c", &script]);
    let why = rolled_back(&world, |world| world.release_path(&build), "file limit: release 2 ");
    assert!(why.contains("open files, its limit is 64"), "{why}");
}

#[test]
fn a_command_that_cannot_say_is_inconclusive_and_the_policy_decides() {
    let bake = |policy: &str, script: &str| {
        let command = format!("command = [\"/bin/sh\", \"-c\", \"{script}\"]");
        format!("for = \"3s\"\nwarm_up = \"0\"\ninconclusive = \"{policy}\"\n{command}")
    };
    for (policy, script, code) in
        [("hold", "exit 75", 22), ("rollback", "exit 75", 21), ("rollback", "exit 3", 21)]
    {
        let world = world(&[], &bake(policy, script));
        let said = world.release(&[]).expect(code);
        let text = details(&said, "bake");
        assert!(text.contains(&format!("command: /bin/sh: {script}")), "{text}");
        let is_odd = script == "exit 3";
        assert_eq!(said.result()["warnings"].as_array().map(Vec::len), Some(usize::from(is_odd)));
        if code == 22 {
            assert_eq!(world.status()["operation"]["phase"], "hold");
            world.cli(&["abort", "web"]).expect(23);
        }
        assert_eq!(world.answering(), Some(1));
    }
}

#[test]
fn a_command_that_says_no_rolls_back_and_knows_both_releases() {
    let script = "echo $HALLEY_RELEASE after $HALLEY_OLD_RELEASE >> $HALLEY_SHARED/asked; \
                  test $HALLEY_RELEASE = 1";
    let bake = format!("{LONG}command = [\"/bin/sh\", \"-c\", \"{script}\"]");
    let world = world(&[], &bake);
    rolled_back(&world, |world| world.release(&[]), "command: /bin/sh: exit 1");
    let asked = fs::read_to_string(world.service_path("shared/asked")).unwrap();
    assert!(asked.lines().any(|line| line == "2 after 1"), "{asked}");
    // The old one was asked as well, before the new one was blamed.
    assert!(asked.lines().any(|line| line == "1 after 1"), "{asked}");
}

#[test]
fn what_the_old_one_does_as_badly_is_not_the_new_ones_fault() {
    let hold = "for = \"3s\"\nwarm_up = \"300ms\"\ninconclusive = \"hold\"\n";
    let command = "command = [\"/bin/false\"]";
    let lines = "error_lines = \"ERROR\"\nmax_error_rate = \"2/m\"";
    for (behaviour, bake, doubt) in [
        ("error-lines=1", lines, "error lines: "),
        ("bad-percent=50", METRICS, "metrics: "),
        ("lines=0", command, "command: /bin/false: exit 1; and /bin/false: exit 1"),
    ] {
        let world = world(&[behaviour], &format!("{hold}{bake}"));
        for _ in 0..20 {
            assert!(ask(&world, "/").contains("release 1"));
        }
        let said = world.release(&[behaviour]).expect(22);
        let text = details(&said, "bake");
        assert!(text.contains(doubt), "{text}");
        world.cli(&["promote", "web"]).expect(0);
        assert_eq!(world.answering(), Some(2));
    }
}

#[test]
fn what_both_depend_on_and_is_down_is_not_the_new_ones_fault() {
    let world = world(&["shares-fate"], "for = \"3s\"\ninconclusive = \"hold\"");
    let build = world.build(&["shares-fate"]);
    world.cli(&["release", "web", &build.to_string_lossy(), "--detach"]).expect(40);
    bakes(&world);
    fs::write(world.service_path("shared/down"), "").unwrap();
    world.wait("it holds", |world| world.status()["operation"]["phase"] == "hold");
    fs::remove_file(world.service_path("shared/down")).unwrap();
    world.cli(&["promote", "web"]).expect(0);
    world.wait("it is committed", |world| world.status()["last_good"] == 2);
}

#[test]
fn too_little_to_judge_and_paths_that_are_only_wanted_are_inconclusive() {
    let few = format!("{METRICS}metrics.max_ratio = 0.5\n").replace("= 10\n", "= 1000000\n");
    for (bake, behaviour, doubt) in [
        (few.as_str(), "bad-percent=100", "metrics: "),
        ("wanted = [\"/peer\", \"/wanted\"]", "unwanted", "GET /wanted answered 503"),
        ("metrics.bad = \"x\"\nmetrics.total = \"y\"", "lines=0", "metrics: 0 events, 50 needed"),
        (
            "metrics.path = \"/\"\nmetrics.bad = \"x\"\nmetrics.total = \"y\"",
            "lines=0",
            "line 1 is not",
        ),
        ("command = [\"/bin/sleep\", \"60\"]", "lines=0", "command: 0 samples, 1 needed"),
    ] {
        let world = world(&[], &format!("for = \"2s\"\n{bake}"));
        let said = world.release(&[behaviour]).expect(0);
        let text = details(&said, "bake");
        assert!(text.contains(doubt), "{text}");
        // `promote` is the rule; that it was needed is said.
        let warnings = said.result()["warnings"].to_string();
        assert!(warnings.contains("the bake was inconclusive"), "{warnings}");
    }
}

/// The next supervisor watches again, with a baseline of its own: what grows is still seen.
#[test]
fn a_killed_supervisor_is_followed_by_one_that_watches_as_hard() {
    let bake = format!("{LONG}max_fd_growth = 60\ncommand = [\"/bin/sleep\", \"1000\"]");
    let world = world(&[], &bake);
    let build = world.build(&["leak-fds=1"]);
    world.cli(&["release", "web", &build.to_string_lossy(), "--detach"]).expect(40);
    world.wait("the command runs", |world| !sleeping(world).is_empty());
    let asked = sleeping(&world);
    let killed = world.supervisor_pid();
    world.kill_supervisor();
    world.wait("another supervisor", |world| {
        world.supervisor_pid().is_some_and(|pid| Some(pid) != killed)
    });
    world.wait("nobody waits for its command", |world| sleeping(world).is_disjoint(&asked));
    world.wait("it is rolled back", |world| {
        let status = world.status();
        status["serving"] == 1 && status["operation"].is_null()
    });
    let releases = world.cli(&["releases", "web", "--json"]).expect(0).stdout;
    assert!(releases.contains("descriptors: release 2"), "{releases}");
}

/// The commands of this world's bake that run.
fn sleeping(world: &World) -> BTreeSet<i32> {
    let is_sleep = |pid: &i32| proc::name(*pid).as_deref() == Some("sleep");
    world.left_behind().into_iter().filter(is_sleep).collect()
}
