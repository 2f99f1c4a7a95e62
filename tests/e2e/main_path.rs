//! A release goes live under load, and comes back.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use halley_sup::demo::load::Shape;

use crate::world::World;

#[test]
fn releases_and_rollbacks_under_every_load_shape_lose_nothing() {
    // Without a standby, so that connections that are kept are told to move on.
    let world = World::with("[service.web.keep]\nstandby = \"0s\"");
    world.release(&[]).expect(0);
    let shapes = [
        Shape::ShortFast,
        Shape::KeepAlive,
        Shape::KeepAliveBlind,
        Shape::ConnectThenWait,
        Shape::SlowRequest,
        Shape::SlowUpload,
    ];
    let loads = shapes.map(|shape| world.load(shape));
    let said = world.release(&[]).expect(0).result();
    assert_eq!((&said["outcome"], &said["serving"]), (&"committed".into(), &2.into()));
    assert!(loads.iter().all(|load| load.wait_for(3)));
    let said = world.cli(&["rollback", "web", "--json"]).expect(0).result();
    assert_eq!((&said["outcome"], &said["serving"]), (&"rolled_back".into(), &1.into()));
    world.release(&[]).expect(0);
    world.wait("the old one is gone", World::is_alone);
    assert!(loads.iter().all(|load| load.wait_for(20)));
    for (shape, load) in shapes.iter().zip(loads) {
        let ledger = load.stop();
        assert_eq!(ledger.n_lost(), 0, "{shape:?}: {}", ledger.losses());
        assert!(ledger.by_release().contains_key(&3), "{shape:?}: {:?}", ledger.by_release());
    }
}

/// Loss is seen where there is loss: the same clients, and a program stopped before another one
/// listens.
#[test]
fn the_ledger_sees_what_a_naive_restart_loses() {
    let world = World::new();
    world.release(&[]).expect(0);
    let load = world.load(Shape::Short);
    assert!(load.wait_for(20));
    world.cli(&["stop", "web"]).expect(0);
    assert!(load.wait_for(20));
    world.cli(&["start", "web"]).expect(0);
    let ledger = load.stop();
    assert!(ledger.n_lost() > 0);
    assert!(ledger.losses().contains("Refused"), "{}", ledger.losses());
}

#[test]
fn the_disk_says_what_serves() {
    let world = World::new();
    world.release(&[]).expect(0);
    world.release(&[]).expect(0);
    let link = fs::read_link(world.service_path("current")).unwrap();
    assert_eq!(link.to_str(), Some("releases/2"));
    let state = fs::read_to_string(world.service_path("state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    assert_eq!(state["last_good"]["release"], 2);
    let status = world.status();
    assert_eq!(status["state"], "running");
    assert_eq!(status["rollback"]["ready"], true);
    assert_eq!(
        (&status["rollback"]["release"], &status["rollback"]["from"]),
        (&1.into(), &"warm".into())
    );
    let history = world.cli(&["history", "--json"]).expect(0).stdout;
    assert_eq!(history.lines().count(), 2);
    assert!(history.contains(r#""actor":"tester""#), "{history}");
    let releases = world.cli(&["releases", "web", "--json"]).expect(0).stdout;
    assert!(releases.lines().next().unwrap().contains(r#""roles":["serving","last_good"]"#));
}

#[test]
fn artifacts_come_as_directory_tar_gz_zst_and_stdin() {
    let world = World::new();
    let build = world.build(&[]);
    let tar = |packing: &str, name: &str, content: &str| {
        fs::write(build.join("VERSION"), content).unwrap();
        let path = world.path(name);
        let status = Command::new("tar")
            .arg("-C")
            .arg(&build)
            .arg(packing)
            .arg("-cf")
            .arg(&path)
            .arg(".")
            .status()
            .unwrap();
        assert!(status.success());
        path
    };
    for (packing, name) in
        [("--no-auto-compress", "b.tar"), ("-z", "b.tar.gz"), ("--zstd", "b.tar.zst")]
    {
        let path = tar(packing, name, name);
        let said = world.release_path(&path).expect(0);
        assert_eq!(said.result()["outcome"], "committed", "{name}");
    }
    let path = tar("-z", "stdin.tgz", "stdin");
    let mut command = world.command(&["release", "web", "-", "--json"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&fs::read(path).unwrap()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let installed = fs::read_to_string(world.service_path("current/VERSION")).unwrap();
    assert_eq!(installed, "stdin");
}

#[test]
fn old_releases_are_pruned_and_what_a_rollback_needs_is_not() {
    let world = World::with("[service.web.keep]\nreleases = 2\nstandby = \"0s\"");
    for _ in 0..5 {
        world.release(&[]).expect(0);
    }
    world.wait("old releases are pruned", |world| {
        fs::read_dir(world.service_path("releases")).unwrap().count() <= 3
    });
    world.release(&[]).expect(0);
    assert!(world.service_path("releases/5").is_dir());
    assert!(!world.service_path("releases/1").exists());
    let said = world.cli(&["rollback", "web", "--json"]).expect(0).result();
    assert_eq!(said["serving"], 5);
    assert_eq!(world.answering(), Some(5));
}

#[test]
fn a_reboot_starts_the_last_good_release() {
    let mut world = World::new();
    world.release(&[]).expect(0);
    world.release(&[]).expect(0);
    world.power_cut();
    world.wake();
    world.wait("release 2 serves", |world| world.status()["serving"] == 2);
    assert_eq!(world.answering(), Some(2));
    // What was warm is gone; its tree is not.
    let said = world.cli(&["rollback", "web", "--json"]).expect(0).result();
    assert_eq!(said["serving"], 1);
}

#[test]
fn a_reboot_in_a_trial_comes_back_with_the_release_before() {
    let mut world = World::with("");
    world.release(&[]).expect(0);
    let text = crate::world::config(world.address, "").replace("for = \"200ms\"", "for = \"60s\"");
    world.configure(&text);
    world.sleep();
    world.wake();
    world.wait("release 1 serves", |world| world.status()["serving"] == 1);
    let build = world.build(&[]);
    world.cli(&["release", "web", &build.to_string_lossy(), "--detach"]).expect(40);
    world.wait("the trial has begun", |world| world.status()["trial"] == 2);
    assert_eq!(world.answering(), Some(2));
    world.power_cut();
    world.wake();
    world.wait("release 1 serves", |world| {
        world.status()["serving"] == 1 && world.status()["operation"].is_null()
    });
    let status = world.status();
    assert_eq!((&status["last_good"], &status["trial"]), (&1.into(), &serde_json::Value::Null));
    assert_eq!(world.answering(), Some(1));
}

/// Before the first release is live nobody reaches it, and nobody is turned away: callers wait in
/// a slot that nobody accepts from, and are served as soon as somebody does.
#[test]
fn callers_who_come_during_the_first_gate_wait_and_are_served() {
    use std::io::Read;
    let mut world = World::asleep(crate::world::free_address());
    let text = crate::world::config(world.address, "")
        .replace("min_healthy = \"60ms\"", "min_healthy = \"700ms\"");
    world.configure(&text);
    world.wake();
    let build = world.build(&[]);
    world.cli(&["release", "web", &build.to_string_lossy(), "--detach"]).expect(40);
    world.wait("its gate", |world| world.status()["operation"]["phase"] == "gate");
    let mut early = std::net::TcpStream::connect(world.address).unwrap();
    early.write_all(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
    early.set_read_timeout(Some(std::time::Duration::from_millis(100))).unwrap();
    assert!(early.read(&mut [0; 1]).is_err(), "nobody answers before the flip");
    early.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    let mut answer = String::new();
    early.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("release 1 "), "{answer}");
}
