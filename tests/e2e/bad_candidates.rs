//! Candidates that are no good: what serves keeps serving, the error says why, nothing is lost.

use halley_sup::demo::load::Shape;

use crate::world::{Said, World};

/// Releases a bad candidate under load, and checks what is always true of it.
#[track_caller]
fn refused(world: &World, code: i32, release: impl Fn(&World) -> Said) -> String {
    let load = world.load(Shape::Short);
    let keep_alive = world.load(Shape::KeepAlive);
    let said = release(world).expect(code);
    assert!(load.wait_for(20));
    let (ledger, kept) = (load.stop(), keep_alive.stop());
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
    assert_eq!(kept.n_lost(), 0, "{}", kept.losses());
    let result = said.result();
    assert_eq!((&result["serving"], &result["last_good"]), (&1.into(), &1.into()), "{result}");
    let trouble = &result["trouble"];
    for line in ["what", "why", "still"] {
        assert!(trouble[line].as_str().is_some_and(|text| !text.is_empty()), "{result}");
    }
    assert_eq!(trouble["still"], "release 1 is serving");
    assert!(trouble["next"][0].as_str().unwrap().starts_with("halley-sup "), "{result}");
    assert_eq!(world.status()["state"], "running");
    trouble["why"].as_str().unwrap().to_owned()
}

/// One that serves, whose next release has this long to become healthy: nothing more comes of a
/// longer wait under load.
fn impatient() -> World {
    let world = World::new();
    world.release(&[]).expect(0);
    let config = crate::world::config(world.address, "");
    world.reload(&config.replace("deadline = \"5s\"", "deadline = \"2s\""));
    world
}

/// A candidate that must not pass the gate, and what the error must say.
#[track_caller]
fn gate(behaviour: &[&str], words: &str) {
    let world = impatient();
    let why = refused(&world, 20, |world| world.release(behaviour));
    assert!(why.contains(words), "{why}");
    world.reload(&crate::world::config(world.address, ""));
    world.release(&[]).expect(0);
}

#[test]
fn one_that_exits_at_once_shows_its_last_words() {
    gate(&["exit=3"], "exit 3");
    gate(&["exit=3"], "these are my last words");
}

#[test]
fn one_that_never_accepts() {
    gate(&["hang"], "no answer within 1s");
}

#[test]
fn one_that_never_answers() {
    gate(&["mute"], "no answer within 1s");
}

#[test]
fn one_that_is_never_healthy() {
    gate(&["unhealthy"], "GET /healthz answered 503");
}

#[test]
fn one_that_is_healthy_once_and_then_dies() {
    gate(&["healthy-times=1"], "exit 9");
}

#[test]
fn one_that_forks_away_leaves_nothing_behind() {
    let world = World::new();
    world.release(&[]).expect(0);
    let script = "setsid sleep 1000 </dev/null >/dev/null 2>&1 & exit 0";
    let build = world.build_of(&["/bin/sh", "-c", script]);
    let why = refused(&world, 20, |world| world.release_path(&build));
    assert!(why.contains("it went to the background"), "{why}");
    // The world's own end finds what is left: nothing may be.
}

#[test]
fn one_that_prints_another_end_than_its_own_is_not_believed() {
    let mut world = World::asleep(crate::world::free_address());
    let config = crate::world::config(world.address, "");
    let two = "instances = 2\n[service.web.health]";
    world.configure(&config.replace("[service.web.health]", two));
    world.wake();
    world.release(&[]).expect(0);
    // The other instance writes into the same log, and its lines follow those of the first one's end.
    let forge = "while echo 'halley: process 1 ended: exit 0'; do :; done";
    let script = format!("[ $HALLEY_INSTANCE = 0 ] || {forge}; sleep 0.3; exit 3");
    let build = world.build_of(&["/bin/sh", "-c", &script]);
    let why = refused(&world, 20, |world| world.release_path(&build));
    assert!(why.contains("ended: exit 3"), "{why}");
    assert!(!why.contains("it went to the background"), "{why}");
}

#[test]
fn one_that_listens_elsewhere_is_told_where() {
    let world = impatient();
    let other = crate::world::free_address();
    let why = refused(&world, 20, |world| world.release(&[&format!("bind={other}")]));
    assert!(why.contains(&format!("it listens on {other}")), "{why}");
    assert!(why.contains("instead of the socket it was given"), "{why}");
}

#[test]
fn one_that_ignores_term_is_ended_all_the_same() {
    let world = impatient();
    refused(&world, 20, |world| world.release(&["unhealthy", "ignore-term"]));
    assert_eq!(world.status()["instances"].as_array().unwrap().len(), 1);
}

#[test]
fn one_that_shuts_its_socket_down_costs_nobody_a_connection() {
    let world = impatient();
    refused(&world, 20, |world| world.release(&["unhealthy", "shutdown-after-ms=200"]));
    world.reload(&crate::world::config(world.address, ""));
    // Its slot is opened again and proven before the next one gets it.
    let load = world.load(Shape::Short);
    for serving in [3, 4] {
        let said = world.release(&[]).expect(0).result();
        assert_eq!(said["serving"], serving);
    }
    assert!(load.wait_for(20));
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
}

#[test]
fn one_that_shrinks_its_accept_queue_gets_the_configured_one_back() {
    let world = World::new();
    world.release(&["backlog=1"]).expect(0);
    let load = halley_sup::demo::load::Load::start(world.address, Shape::Short, 32);
    assert!(load.wait_for(2000));
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0);
    assert!(ledger.latency_us(1000) < 900_000, "a dropped handshake waits for a second");
}

#[test]
fn one_that_turns_bad_in_the_bake_is_rolled_back_by_itself() {
    let text = "[service.web.keep]\nstandby = \"1m\"";
    let world = World::with(text);
    world.reload(
        &crate::world::config(world.address, text)
            .replace("200ms\"\n[service.web.stop]", "5s\"\n[service.web.stop]"),
    );
    let said = world.release(&[]);
    said.expect(0);
    let why = refused(&world, 21, |world| world.release(&["bad-after-times=20"]));
    assert!(why.contains("GET /healthz answered 503"), "{why}");
    let releases = world.cli(&["releases", "web", "--json"]).expect(0).stdout;
    assert!(releases.lines().next().unwrap().contains(r#""verdict":"bad""#), "{releases}");
    // Its own death cuts off who it was serving; nobody else.
    let said = world.release(&["die-after-ms=700"]).expect(21).result();
    let why = said["trouble"]["why"].as_str().unwrap().to_owned();
    assert!(why.contains("exit 7"), "{why}");
    assert_eq!(world.answering(), Some(1));
}

#[test]
fn an_artifact_that_was_rolled_back_is_frozen_until_somebody_insists() {
    let world = World::new();
    world.release(&[]).expect(0);
    let build = world.build(&[]);
    world.release_path(&build).expect(0);
    world.cli(&["rollback", "web"]).expect(0);
    let why = refused(&world, 9, |world| world.release_path(&build));
    assert!(why.contains("--force"), "{why}");
    let path = build.to_string_lossy().into_owned();
    world.cli(&["release", "web", &path, "--force"]).expect(0);
}

#[test]
fn the_first_release_has_nothing_behind_it() {
    let world = World::new();
    let said = world.release(&["unhealthy"]).expect(20);
    assert!(said.result()["serving"].is_null());
    // Its address is free again: callers are refused, not left hanging.
    let connected = std::net::TcpStream::connect(world.address);
    assert_eq!(connected.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    world.bake("200ms", "20s");
    let said = world.release(&["bad-after-times=5"]).expect(30);
    assert_eq!(said.result()["outcome"], "rollback_failed");
    assert_eq!(world.answering(), Some(2), "the best there is serves on");
    assert!(!world.status()["alarm"].is_null());
    world.bake("20s", "200ms");
    world.release(&[]).expect(0);
    assert!(world.status()["alarm"].is_null(), "a commit ends the alarm");
}
