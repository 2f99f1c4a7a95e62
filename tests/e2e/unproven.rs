//! Data that a release has migrated, and older releases that do not run on it.

use std::fs;
use std::path::Path;

use crate::ledger_app::{BACKUP, Build, Store, get, serve_rows, world, world_of};
use crate::migrations::{ADD_COLUMN, backups, migrates_by};
use crate::world::kill;

/// Side by side the old one goes on serving, and the data is no longer its own.
#[test]
fn what_has_no_way_back_and_never_goes_live_leaves_an_alarm_and_a_way_out() {
    let world = world(BACKUP);
    serve_rows(&world, Store::Sqlite, 1);
    let new = Build {
        version: 1,
        quirks: &["drop"],
        needs: "id,comment",
        schema: "[schema]\nprovides = \"1\"",
        ..Build::default()
    };
    let build = new.write(&world);
    let program = fs::read_to_string(build.join("main.py")).unwrap();
    let dies = "import os, sys\nif 'HALLEY_REHEARSAL' not in os.environ: sys.exit(3)\n";
    fs::write(build.join("main.py"), format!("{dies}{program}")).unwrap();
    let release = |path: &Path| {
        let path = path.to_string_lossy().into_owned();
        world.cli(&["release", "web", &path, "--json", "--no-way-back", "renamed"])
    };
    let said = release(&build).expect(18);
    assert_eq!(said.result()["outcome"], "gate_failed");
    let told = said.why();
    assert!(told.contains("exit 3") && told.contains("the data is migrated"), "{told}");
    assert!(told.contains("release 1 does not run on it"), "{told}");
    let next = said.result()["next"].to_string();
    assert!(next.contains("--no-way-back") && next.contains("--backup"), "{next}");
    let status = world.status();
    assert_eq!((&status["serving"], &status["last_good"]), (&1.into(), &1.into()), "{status}");
    assert!(status["alarm"]["why"].to_string().contains("the data is migrated"), "{status}");
    // A mended one goes live, though no rollback from it would work.
    release(&new.write(&world)).expect(0);
    let status = world.status();
    assert_eq!((&status["serving"], &status["alarm"]), (&3.into(), &serde_json::Value::Null));
}

/// The release before fails as well, and the one before that does not run on the migrated data.
#[test]
fn a_rollback_passes_over_what_does_not_accept_the_data_by_then() {
    let world = world_of(|_| BACKUP.to_owned(), "12s", "strategy = \"hold\"\n");
    let one = |accepts: &'static str| Build { version: 1, schema: accepts, ..Build::default() };
    let wide = "[schema]\nprovides = \"1\"\naccepts = [\"1\", \"2\"]";
    let narrow = "[schema]\nprovides = \"1\"\naccepts = [\"1\"]";
    let first = one(wide).write(&world);
    let text = fs::read_to_string(first.join("migrate.py")).unwrap();
    fs::write(first.join("migrate.py"), text.replace("shared =", "db.create()\nshared =")).unwrap();
    world.release_path(&first).expect(0);
    get(world.address, "/add").unwrap();
    world.release_path(&one(narrow).write(&world)).expect(0);
    let ends = |build: &Path, when: &str| {
        let program = fs::read_to_string(build.join("main.py")).unwrap();
        let line = format!(
            "import os, sys\nif os.path.exists(os.environ['HALLEY_SHARED'] + '/{when}'): sys.exit(3)\n"
        );
        fs::write(build.join("main.py"), format!("{line}{program}")).unwrap();
    };
    let third = one(wide).write(&world);
    ends(&third, "broken");
    world.release_path(&third).expect(0);
    fs::write(world.service_path("shared/broken"), "").unwrap();
    let last = Build { version: 2, ..Build::default() }.write(&world);
    ends(&last, "broken");
    let said = world.release_path(&last).expect(21);
    let warnings = said.result()["warnings"].to_string();
    let passed = "passed over: the data has schema 2, release 2 accepts 1";
    assert!(warnings.contains(passed), "{warnings}");
    assert!(!said.stdout.contains("\"detail\":\"release 2"), "{}", said.stdout);
    assert_eq!(world.status()["serving"], 1, "{}", said.stdout);
    assert_eq!(get(world.address, "/count").unwrap(), "1");
}

/// It has outlived its keeper, nobody knows of it any more, and it holds its address: nothing can be
/// started there, nothing is proven.
#[test]
fn what_still_runs_after_a_crash_is_not_said_not_to_run() {
    let mut world = world(BACKUP);
    serve_rows(&world, Store::Sqlite, 1);
    let build = Build { version: 1, quirks: &["live:wait"], ..Build::default() }.write(&world);
    let path = build.to_string_lossy().into_owned();
    world.cli(&["release", "web", &path, "--detach"]).expect(40);
    world.wait("the migration runs", |world| world.service_path("shared/migrating").is_file());
    let old = world.live_pid();
    world.power_cut_sparing(|line| line.contains("migrate.py") || line.contains("main.py"));
    fs::remove_file(world.path("root/running.ndjson")).unwrap();
    world.wake();
    fs::write(world.service_path("shared/go"), "").unwrap();
    world.wait("it is settled", |world| world.status()["operation"].is_null());
    assert_eq!(get(world.address, "/count").unwrap(), "1", "it serves on");
    let said = world.cli(&["watch", "web", "2", "--json"]).expect(18);
    let (told, still) = (said.why(), said.result()["trouble"]["still"].to_string());
    let unknown = "whether release 1 runs on it could not be tried: ";
    assert!(told.contains(unknown) && told.contains("is in use by"), "{told}");
    assert!(told.contains(&format!("(pid {old})")) && !told.contains("does not run"), "{told}");
    assert!(!still.contains("nothing is serving"), "{still}");
    kill(old, libc::SIGTERM);
    world.wait("its place is taken", |world| world.status()["serving"] == 1);
    assert_eq!(get(world.address, "/count").unwrap(), "1");
}

#[test]
fn a_schema_that_did_not_change_is_said_and_the_next_release_without_a_migration_warns() {
    let world = world(BACKUP);
    serve_rows(&world, Store::Sqlite, 3);
    let build = Build { version: 1, ..Build::default() }.write(&world);
    // It reports success all the same.
    let purge = format!(
        "if on_copy: {ADD_COLUMN}; sys.exit()\ndb.connect().execute('DELETE FROM rows WHERE id = 1')\n"
    );
    migrates_by(&build, &purge);
    let said = world.release_path(&build).expect(16).why();
    assert!(said.contains("migrate reported success, but the schema is 0, not 1"), "{said}");
    assert!(said.contains("the schema is 0, as before; the data is not: rows: 1 fewer"), "{said}");
    let id = backups(&world)[0]["id"].as_str().unwrap().to_owned();
    world.cli(&["thaw", "web"]).expect(0);
    let warnings = world.release_path(&Build::default().write(&world)).expect(0);
    let warnings = warnings.result()["warnings"].to_string();
    assert!(
        warnings.contains("rows: 1 fewer (3 before, 2 now); this release migrates nothing"),
        "{warnings}"
    );
    assert!(
        warnings.contains(&format!("halley-sup restore web --backup {id} --dry-run")),
        "{warnings}"
    );
}
