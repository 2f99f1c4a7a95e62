//! Damaged files of Halley's own: what serves goes on, the error names the file and the way out, `repair` leads
//! there.

use std::fs;

use halley_sup::core::ids::OpId;
use halley_sup::demo::load::Shape;
use halley_sup::store::journal;
use halley_sup::store::layout::Layout;

use crate::world::{World, config, free_address};

fn another_supervisor(world: &World) {
    let before = world.supervisor_pid();
    world.kill_supervisor();
    world.wait("another supervisor answers", |world| {
        world.supervisor_pid().is_some_and(|pid| Some(pid) != before)
            && world.cli(&["status"]).code == 0
    });
}

/// Names of what was set aside in the service's directory.
fn kept(world: &World) -> usize {
    let names = fs::read_dir(world.path("root/web")).unwrap().flatten();
    names.filter(|entry| entry.file_name().to_string_lossy().contains(".damaged-")).count()
}

/// What runs was released: it is not taken for a service that never ran, also when nothing is left.
#[test]
fn a_service_whose_directory_is_gone_is_not_begun_anew_while_it_runs() {
    let world = World::new();
    world.release(&[]).expect(0);
    let live = world.live_pid();
    fs::remove_dir_all(world.path("root/web")).unwrap();
    another_supervisor(&world);
    let status = world.status();
    assert!(
        status["why"].as_str().unwrap_or_default().contains("state.json is missing"),
        "{status}"
    );
    assert!(!crate::world::is_gone(live));
    assert_eq!(world.answering(), Some(1));
}

#[test]
fn a_lost_state_is_rebuilt_and_nothing_that_serves_notices() {
    let mut world = World::new();
    world.release(&[]).expect(0);
    world.release(&[]).expect(0);
    let (load, pid) = (world.load(Shape::Short), world.live_pid());
    assert!(world.cli(&["repair", "web"]).expect(0).stderr.contains("no file of web is damaged"));
    fs::remove_file(world.service_path("state.json")).unwrap();
    let sum = world.service_path("meta/2/verdict.json");
    fs::remove_file(&sum).unwrap();
    another_supervisor(&world);
    let why = world.status()["why"].to_string();
    assert!(
        why.contains("state.json is missing") && why.contains("halley-sup repair web"),
        "{why}"
    );
    assert!(world.cli(&["doctor"]).stdout.contains("next: halley-sup repair web"));
    let refused = world.cli(&["rollback", "web"]).expect(1);
    assert!(refused.stderr.contains("halley-sup repair web"), "{}", refused.stderr);
    let shown = world.cli(&["repair", "web"]).expect(0);
    assert!(shown.stdout.contains("nothing was changed"), "{}", shown.stdout);
    assert!(!world.service_path("state.json").exists());
    let done = world.cli(&["repair", "web", "--yes", "--json"]).expect(0).result();
    assert_eq!((&done["outcome"], &done["last_good"]), (&"repaired".into(), &2.into()), "{done}");
    let status = world.status();
    assert_eq!((&status["state"], &status["serving"]), (&"running".into(), &2.into()), "{status}");
    assert_eq!(world.live_pid(), pid);
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
    world.cli(&["rollback", "web"]).expect(0);
    // After a power cut nothing runs: a repair leaves it to a human whether it is to.
    fs::write(world.service_path("state.json"), "").unwrap();
    world.power_cut();
    world.wake();
    let done = world.cli(&["repair", "web", "--yes", "--json"]).expect(0).result();
    assert_eq!(done["next"][0], "halley-sup start web", "{done}");
    assert_eq!(kept(&world), 1);
    world.cli(&["start", "web"]).expect(0);
    assert_eq!(world.answering(), Some(1));
}

#[test]
fn a_state_that_rots_under_a_supervisor_is_written_again_from_its_memory() {
    let world = World::new();
    world.release(&[]).expect(0);
    world.cli(&["freeze", "web"]).expect(0);
    let path = world.service_path("state.json");
    fs::write(&path, fs::read_to_string(&path).unwrap().replace("\"freeze\"", "\"frieze\""))
        .unwrap();
    assert!(world.cli(&["doctor"]).stdout.contains("its checksum is of another text"));
    world.cli(&["repair", "web", "--yes"]).expect(0);
    another_supervisor(&world);
    assert!(!world.status()["frozen"].is_null(), "{}", world.status());
}

#[test]
fn a_damaged_journal_leaves_its_operation_open_and_repair_goes_back() {
    let mut world = World::asleep(free_address());
    world.configure(&config(world.address, "").replace("for = \"200ms\"", "for = \"60s\""));
    world.wake();
    for _ in 0..2 {
        let build = world.build(&[]);
        world.cli(&["release", "web", &build.to_string_lossy(), "--detach"]).expect(40);
        world.wait("it bakes", |world| world.status()["operation"]["phase"] == "bake");
        if world.status()["operation"]["op"] == 1 {
            world.cli(&["promote", "web"]).expect(0);
        }
    }
    let load = world.load(Shape::Short);
    let paths = Layout::new(&world.path("root")).service(&"web".parse().unwrap());
    let path = journal::path(&paths, OpId(2));
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("\"start\"", "\"stxrt\"", 1)).unwrap();
    assert_eq!(world.cli(&["repair", "web", "--yes"]).code, 9, "an operation runs");
    another_supervisor(&world);
    let status = world.status();
    // Managed, and what serves is the release on trial, as before.
    assert_eq!((&status["state"], &status["serving"]), (&"degraded".into(), &2.into()), "{status}");
    let alarm = &status["alarm"];
    assert!(alarm["why"].as_str().unwrap().contains("journal.ndjson: line"), "{alarm}");
    assert_eq!(alarm["next"][0], "halley-sup repair web");
    let done = world.cli(&["repair", "web", "--yes", "--json"]).expect(0).result();
    assert_eq!((&done["outcome"], &done["serving"]), (&"rolled_back".into(), &1.into()), "{done}");
    assert_eq!(world.status()["alarm"], serde_json::Value::Null);
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
    // The intent is lost: nothing shows what was set out to do, so the service is left to a human.
    let path = journal::path(&paths, OpId(3));
    fs::write(&path, "{\"name\": \"left-pad\"}\n{}\n").unwrap();
    another_supervisor(&world);
    let why = world.status()["why"].to_string();
    assert!(why.contains("journal.ndjson") && why.contains("halley-sup repair web"), "{why}");
    assert_eq!(world.answering(), Some(1));
    world.cli(&["repair", "web", "--yes"]).expect(0);
    assert_eq!(world.status()["state"], "running");
}
