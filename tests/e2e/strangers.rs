//! A service that cannot be managed harms no other one, and a verb leads out.

use std::fs;

use crate::world::{World, config, free_address, kill};

/// Two services; `api` is a worker that waits for a file, writes a lot of lines, and waits.
fn two() -> (World, String, String) {
    let mut world = World::asleep(free_address());
    let alone = config(world.address, "");
    let both = config(
        world.address,
        "[service.api]\nstrategy = \"replace\"\n[service.api.bake]\nfor = \"50ms\"",
    );
    world.configure(&both);
    world.wake();
    world.release(&[]).expect(0);
    let (go, written) = (world.path("go"), world.path("written"));
    let script = format!(
        "while [ ! -e {} ]; do sleep 0.02; done; i=0; \
         while [ $i -lt 9000 ]; do i=$((i+1)); echo \"a line of output, number $i\"; done; \
         touch {}; exec sleep 1000",
        go.display(),
        written.display()
    );
    let build = world.build_of(&["/bin/sh", "-c", &script]);
    world.cli(&["release", "api", &build.to_string_lossy()]).expect(0);
    (world, alone, both)
}

fn pid_of_api(world: &World) -> i32 {
    let status = world.status_of("api");
    status["instances"][0]["pid"].as_i64().map_or(0, |pid| i32::try_from(pid).unwrap())
}

/// Another supervisor, after the one that runs was killed.
fn another(world: &World) -> i32 {
    let before = world.supervisor_pid();
    world.kill_supervisor();
    world.wait("another supervisor answers", |world| {
        world.supervisor_pid().is_some_and(|pid| Some(pid) != before)
            && world.cli(&["status"]).code == 0
    });
    world.supervisor_pid().unwrap()
}

/// More than a pipe holds.
fn writes_on(world: &World) {
    fs::write(world.path("go"), "").unwrap();
    world.wait("it has written more than a pipe holds", |world| world.path("written").exists());
    let log = world.path("root/api/logs/1.log");
    world.wait("its log has all of it", |_| {
        fs::read_to_string(&log).is_ok_and(|text| text.contains("number 9000\n"))
    });
}

#[test]
fn a_service_whose_state_is_unreadable_harms_no_other_and_start_takes_it_over_once_it_is_mended() {
    let (world, _, _) = two();
    let path = world.path("root/api/state.json");
    let whole = fs::read_to_string(&path).unwrap();
    let pid = pid_of_api(&world);
    fs::write(&path, "{ this was a state").unwrap();
    let supervisor = another(&world);
    let status = world.status_of("api");
    let why = status["why"].to_string();
    assert_eq!((&status["state"], &status["serving"]), (&"degraded".into(), &1.into()), "{status}");
    assert_eq!(status["instances"][0]["pid"], pid);
    assert!(
        why.contains("its processes keep running")
            && why.contains("state.json")
            && why.contains("halley-sup start api"),
        "{why}"
    );
    writes_on(&world);
    kill(pid, libc::SIGKILL);
    world.wait("its end is noted", |world| world.run_log().contains("that is not managed ended"));
    assert_eq!(world.status_of("api")["state"], "down");
    let refused = world.cli(&["start", "api"]).expect(1);
    assert!(refused.stderr.contains("state.json"), "{}", refused.stderr);
    world.release(&[]).expect(0);
    fs::write(&path, whole).unwrap();
    world.cli(&["start", "api"]).expect(0);
    assert_eq!(world.status_of("api")["state"], "running");
    assert!(pid_of_api(&world) > 0);
    assert_eq!(world.supervisor_pid(), Some(supervisor));
}

#[test]
fn a_service_that_left_the_configuration_is_read_and_comes_back_as_it_runs() {
    let (world, alone, both) = two();
    let pid = pid_of_api(&world);
    world.configure(&alone);
    another(&world);
    let status = world.cli(&["status", "--json"]).expect(0).result();
    let warnings = status["warnings"].to_string();
    assert!(warnings.contains("api is not in the configuration"), "{warnings}");
    assert!(warnings.contains(&pid.to_string()), "{warnings}");
    world.reload(&both);
    world.wait("it is managed", |world| pid_of_api(world) == pid);
    writes_on(&world);
    let status = world.cli(&["status", "--json"]).expect(0).result();
    assert!(status["warnings"].is_null(), "{status}");
    world.configure(&alone);
    another(&world);
    kill(pid, libc::SIGKILL);
    world.wait("its end is noted", |world| world.run_log().contains("that is not managed ended"));
}
