//! `kill -9` of the supervisor wherever it is: what serves serves on, every operation ends.

use halley_sup::core::ids::ReleaseId;
use halley_sup::core::retention::Verdict;
use halley_sup::demo::load::Shape;
use halley_sup::store::journal::{Intent, Journal, Record};
use halley_sup::store::layout::{Layout, ServiceLayout};
use halley_sup::store::release;
use halley_sup::store::state::State;
use halley_sup::store::trial::{self, Trial};

use crate::modes::world;
use crate::world::{World, config, kill};

#[test]
fn services_outlive_the_supervisor_and_so_do_their_logs() {
    let world = World::new();
    world.release(&[]).expect(0);
    let load = world.load(Shape::Short);
    let pid = world.live_pid();
    for _ in 0..3 {
        let before = world.supervisor_pid();
        world.kill_supervisor();
        assert!(load.wait_for(20));
        world.wait("another supervisor", |world| {
            world.supervisor_pid().is_some_and(|pid| Some(pid) != before)
                && world.cli(&["status"]).code == 0
        });
        assert_eq!(world.live_pid(), pid);
    }
    world.release(&[]).expect(0);
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
    assert!(world.cli(&["logs", "web"]).stdout.contains("release 2 starts"));
}

/// The phases that last long enough to be met; the crash matrix goes through all of them.
const PHASES: [&str; 13] = [
    "receive",
    "verify",
    "preflight",
    "stage",
    "rehearse_old",
    "start",
    "gate",
    "flip",
    "bake",
    "commit",
    "back_gate:0",
    "back_flip:0",
    "back_commit:0",
];

/// In turn, for what cannot run twice.
const IN_TURN: [&str; 11] = [
    "park",
    "stop_old",
    "start",
    "gate",
    "flip",
    "bake",
    "commit",
    "back_start:1",
    "back_gate:1",
    "back_flip:1",
    "back_commit:1",
];

/// Kills the supervisor right after it has announced each phase, by watching the journal.
#[test]
fn a_supervisor_killed_in_any_phase_ends_in_old_or_new() {
    for phase in PHASES {
        killed_in(phase, &World::new(), &[], World::kill_supervisor);
    }
}

#[test]
fn so_it_does_in_turn() {
    for phase in IN_TURN {
        let lines =
            |world: &World| format!("listen = [\"tcp://{}\"]\nstrategy = \"hold\"", world.address);
        killed_in(phase, &world(lines, ""), &["alone"], World::kill_supervisor);
    }
}

#[test]
fn so_it_does_on_a_step() {
    for phase in ["step:0", "step:1"] {
        let lines = |world: &World| {
            let steps = "strategy = \"canary\"\ncanary = [\"20%\", \"50%\", \"100%\"]";
            format!("listen = [\"tcp://{}\"]\n{steps}", world.address)
        };
        killed_in(phase, &world(lines, ""), &[], World::kill_supervisor);
    }
}

/// A kill right after this phase was announced.
pub fn killed_in(phase: &str, world: &World, behaviour: &[&str], kill: impl Fn(&World)) {
    world.release(behaviour).expect(0);
    let load = world.load(Shape::ShortFast);
    let turns_bad = phase.starts_with("back");
    if turns_bad {
        world.bake("200ms", "20s");
    }
    let mut next = behaviour.to_vec();
    next.extend(turns_bad.then_some("bad-after-times=5"));
    let build = world.build(&next);
    let mut command = world.command(&["release", "web", &build.to_string_lossy(), "--json"]);
    let client = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let journal = world.service_path("ops/0000002/journal.ndjson");
    let wanted = format!(r#""phase":"{phase}","state":"start""#);
    let result = r#""phase":"done""#;
    world.wait(phase, |_| {
        std::fs::read_to_string(&journal)
            .is_ok_and(|text| text.contains(&wanted) || text.contains(result))
    });
    kill(world);
    let output = client.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let last: serde_json::Value =
        serde_json::from_str(text.lines().last().unwrap_or("null")).unwrap();
    assert!(!last["outcome"].is_null(), "{phase}: {text}");
    world.wait("it is settled", |world| world.status()["operation"].is_null());
    let status = world.status();
    let (serving, good) = (&status["serving"], &status["last_good"]);
    assert_eq!(serving, good, "{phase}: {status}");
    assert!(serving == 1 || serving == 2, "{phase}: {status}");
    if turns_bad {
        assert_eq!(serving, 1, "{phase}: {status}");
    }
    assert_eq!(world.answering(), serving.as_u64(), "{phase}");
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{phase}: {}\n{}", ledger.losses(), world.run_log());
    if turns_bad {
        world.bake("20s", "200ms");
    }
    world.release(behaviour).expect(0);
}

#[test]
fn a_trial_that_sees_too_many_supervisors_is_taken_back() {
    let mut world = World::asleep(crate::world::free_address());
    world.configure(&config(world.address, "").replace("for = \"200ms\"", "for = \"60s\""));
    world.wake();
    let detach = |world: &World| {
        let build = world.build(&[]);
        world.cli(&["release", "web", &build.to_string_lossy(), "--detach"]).expect(40);
        world.wait("it bakes", |world| world.status()["operation"]["phase"] == "bake");
    };
    detach(&world);
    world.cli(&["promote", "web"]).expect(0);
    detach(&world);
    for _ in 0..3 {
        let before = world.supervisor_pid();
        world.kill_supervisor();
        world.wait("another supervisor", |world| {
            world.supervisor_pid().is_some_and(|pid| Some(pid) != before)
                && world.cli(&["status"]).code == 0
        });
    }
    world.wait("it is taken back", |world| {
        world.status()["serving"] == 1 && world.status()["operation"].is_null()
    });
}

#[test]
fn a_live_process_that_dies_is_started_again_and_its_callers_wait() {
    let world = World::new();
    world.release(&[]).expect(0);
    let pid = world.live_pid();
    kill(pid, libc::SIGKILL);
    // Nobody is refused: the queue is Halley's.
    assert_eq!(world.answering(), Some(1));
    world.wait("it runs", |world| world.status()["state"] == "running");
    assert_ne!(world.live_pid(), pid);
    // Also while no supervisor is there to start it.
    let pid = world.live_pid();
    world.kill_supervisor();
    kill(pid, libc::SIGKILL);
    assert_eq!(world.answering(), Some(1));
    let text = world.cli(&["logs", "web"]).stdout;
    assert!(text.contains("ended: killed by SIGKILL"), "{text}");
}

#[test]
fn a_rollback_whose_target_rotted_takes_the_next_older_one() {
    let world = World::with("[service.web.keep]\nstandby = \"0s\"");
    for _ in 0..3 {
        world.release(&[]).expect(0);
    }
    world.wait("only the live one runs", |world| {
        world.status()["instances"].as_array().unwrap().len() == 1
    });
    std::fs::remove_file(world.service_path("meta/2/settings.json")).unwrap();
    let load = world.load(Shape::Short);
    let said = world.cli(&["rollback", "web", "--json"]).expect(0).result();
    assert_eq!(said["serving"], 1);
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
}

#[test]
fn a_rollback_that_fails_leaves_what_answers_alone_and_is_loud() {
    let world = World::with("[service.web.keep]\nstandby = \"0s\"");
    world.release(&[]).expect(0);
    world.release(&[]).expect(0);
    world.wait("only the live one runs", |world| {
        world.status()["instances"].as_array().unwrap().len() == 1
    });
    std::fs::remove_file(world.service_path("meta/1/settings.json")).unwrap();
    let load = world.load(Shape::Short);
    let said = world.cli(&["rollback", "web", "--json"]).expect(30).result();
    assert_eq!((&said["outcome"], &said["serving"]), (&"rollback_failed".into(), &2.into()));
    let status = world.status();
    assert_eq!(status["state"], "degraded");
    assert!(!status["alarm"]["next"][0].is_null(), "{status}");
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
    world.release(&[]).expect(0);
    assert_eq!(world.status()["state"], "running");
}

/// Compare and act: a live release that cannot be started any more keeps its standby alive, however
/// long ago its time was over, and the way back is there in milliseconds.
#[test]
fn a_standby_is_not_stopped_while_the_live_one_is_dead() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::with("[service.web.keep]\nstandby = \"4s\"");
    world.release(&[]).expect(0);
    let build = world.build_of(&["./run"]);
    let script = format!("#!/bin/sh\nexec {} demo-service\n", crate::world::BINARY);
    std::fs::write(build.join("run"), script).unwrap();
    std::fs::set_permissions(build.join("run"), std::fs::Permissions::from_mode(0o755)).unwrap();
    world.release_path(&build).expect(0);
    let tree = world.service_path("releases/2");
    std::fs::set_permissions(&tree, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::remove_file(tree.join("run")).unwrap();
    kill(world.live_pid(), libc::SIGKILL);
    world.wait("it cannot be started again", |world| {
        world.run_log().matches("cannot be started again").count() >= 6
    });
    let roles = |world: &World| {
        let status = world.status();
        let instances = status["instances"].as_array().cloned().unwrap_or_default();
        instances
            .iter()
            .map(|i| i["role"].as_str().unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
    };
    // Its time is over, and it is asked about again and again.
    let kept = |role: &String| role == "standby" || role == "draining";
    assert!(roles(&world).iter().any(kept), "{:?}", roles(&world));
    let said = world.cli(&["rollback", "web", "--json"]).expect(0);
    assert!(said.stdout.contains("release 1: warm"), "{}", said.stdout);
    assert_eq!(world.answering(), Some(1));
}

#[test]
fn a_stop_that_a_supervisor_did_not_finish_is_finished_by_the_next() {
    let world = World::new();
    world.release(&["ignore-term"]).expect(0);
    let mut stop = world.command(&["stop", "web"]).spawn().unwrap();
    world.wait("it is being stopped", |world| world.status()["state"] == "stopped");
    assert!(!world.status()["instances"].as_array().unwrap().is_empty());
    world.kill_supervisor();
    stop.wait().unwrap();
    world.wait("it is down", |world| world.status()["instances"].as_array().unwrap().is_empty());
    assert!(std::net::TcpStream::connect(world.address).is_err());
}

/// A world that sleeps after two releases, with the beginning of a third operation.
fn cut_off(kind: &str, release: u64) -> (World, ServiceLayout, Journal) {
    let mut world = World::new();
    world.release(&[]).expect(0);
    world.release(&[]).expect(0);
    assert!(world.sleep());
    let paths = Layout::new(&world.path("root")).service(&"web".parse().unwrap());
    let intent = serde_json::json!({
        "version": 1, "op": 3, "kind": kind, "actor": "tester", "source": "", "at": "",
        "boot_id": "another", "release": release, "generation": 9, "old": null, "warm": null,
        "ladder": [1], "inconclusive": "promote", "succession": "overlap",
    });
    let intent: Intent = serde_json::from_value(intent).unwrap();
    let journal = Journal::create(&paths, &intent).unwrap();
    (world, paths, journal)
}

/// It was asked for, and it needs nothing that went with the supervisor.
#[test]
fn a_rollback_that_was_cut_off_before_its_first_phase_is_done() {
    let (mut world, ..) = cut_off("rollback", 1);
    world.wake();
    world.wait("it is settled", |world| world.status()["operation"].is_null());
    assert_eq!(world.status()["last_good"], 1);
    assert_eq!(world.answering(), Some(1));
}

/// The rename is the commit; what follows from it is done by whoever comes next.
#[test]
fn a_commit_that_was_cut_off_after_its_rename_is_wrapped_up() {
    let (mut world, paths, mut journal) = cut_off("release", 2);
    journal.announce(&Record::start("commit", "refused", None)).unwrap();
    let mut state = State::load(&paths).unwrap();
    state.last_good.as_mut().unwrap().op = 3;
    state.save(&paths).unwrap();
    let trial = Trial { version: 1, release: 2, generation: 9, op: 3, n_tries_left: 2 };
    trial::begin(&paths, &trial).unwrap();
    release::set_verdict(&paths, ReleaseId(2), Verdict::Staged, None).unwrap();
    world.wake();
    world.wait("it is settled", |world| world.status()["operation"].is_null());
    let status = world.status();
    assert_eq!((&status["trial"], &status["last_good"]), (&serde_json::Value::Null, &2.into()));
    assert_eq!(release::known(&paths, ReleaseId(2)).unwrap().verdict, Verdict::Good);
}
