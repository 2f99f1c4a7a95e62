//! Data: backups that were restored, migrations that were tried on a copy, a way back that was
//! proven. With a real SQLite program under load.

use std::fs;

use crate::ledger_app::{
    BACKUP, Build, Store, Writers, database, entries, get, is_swept, patient, serve_rows, world,
    world_of,
};
use crate::world::World;

#[track_caller]
fn refused(world: &World, build: &Build<'_>, exit: i32) -> String {
    let said = world.release_path(&build.write(world)).expect(exit);
    assert!(is_swept(world), "scratch is not empty");
    said.why()
}

#[test]
fn ten_releases_with_expanding_migrations_lose_no_request_and_no_row() {
    let world = world(BACKUP);
    world.release_path(&Build::default().write(&world)).expect(0);
    let writers = Writers::start(world.address);
    for version in 1..=10 {
        let before = writers.n_acked();
        let build = Build { version, ..Build::default() }.write(&world);
        let said = world.release_path(&build).expect(0);
        assert!(said.stdout.contains("the new release runs on it"), "{}", said.stdout);
        world.wait("rows come in", |_| writers.n_acked() > before + 5);
    }
    let (n_acked, errors) = writers.stop();
    assert_eq!(errors, [""; 0], "{}", world.run_log());
    assert_eq!(get(world.address, "/count").unwrap(), n_acked.to_string());
    assert!(is_swept(&world));
    let receipts = entries(&world.service_path("backups"));
    assert_eq!(receipts, 3, "keep = 3");
    let rollback = &world.status()["rollback"];
    assert_eq!(
        (&rollback["ready"], &rollback["release"]),
        (&true.into(), &10.into()),
        "{rollback}"
    );
    // It was proven to run on what the migration left: it does.
    world.cli(&["rollback", "web", "--json"]).expect(0);
    assert_eq!(get(world.address, "/count").unwrap(), n_acked.to_string());
}

#[test]
fn a_migration_that_fails_on_the_copy_touches_nothing() {
    let world = world(BACKUP);
    serve_rows(&world, Store::Sqlite, 1);
    let before = fs::read(database(&world)).unwrap();
    let build = Build { version: 1, quirks: &["fail"], ..Build::default() };
    let why = refused(&world, &build, 16);
    assert!(why.contains("on a copy of the data: migrate: exit 1: the migration said no"), "{why}");
    assert_eq!(fs::read(database(&world)).unwrap(), before);
    let log = fs::read_to_string(world.service_path("ops/0000002/output.log")).unwrap();
    assert!(log.contains("the migration said no"), "{log}");
    let report = fs::read_to_string(world.service_path("ops/0000002/report.md")).unwrap();
    assert!(report.contains("restore_rehearsal") && report.contains("said no"), "{report}");
    // One that does not come to its end.
    let build = Build { version: 1, quirks: &["hang"], deadline: "2s", ..Build::default() };
    let why = refused(&world, &build, 16);
    assert!(why.contains("migrate (on a copy): killed: it ran longer than 2s"), "{why}");
    assert_eq!(fs::read(database(&world)).unwrap(), before);
    // One that does not do what its release says.
    let build = Build {
        version: 1,
        schema: "[schema]\nprovides = \"7\"\naccepts = [\"1\"]",
        ..Build::default()
    };
    let why = refused(&world, &build, 16);
    assert!(why.contains("after its migration the schema is 1, not 7"), "{why}");
    assert_eq!(fs::read(database(&world)).unwrap(), before);
}

#[test]
fn a_backup_that_is_none_stops_the_release() {
    let backup = |take: &str, check: &str| {
        format!(
            "[service.web.backup]\ndriver = \"command\"\ntake = [\"/bin/sh\", \"-c\", {take:?}]\n\
             restore = [\"/bin/sh\", \"-c\", \"cp $HALLEY_BACKUP_DIR/dump $HALLEY_SHARED/app.db\"]\n\
             check = [\"/bin/sh\", \"-c\", {check:?}]"
        )
    };
    let good = "cp $HALLEY_SHARED/app.db $HALLEY_BACKUP_DIR/dump";
    for (take, check, exit, expected) in [
        (": > $HALLEY_BACKUP_DIR/dump", "true", 15, "reported success, but wrote nothing"),
        ("echo no space; exit 3", "true", 15, "backup.take: exit 3: no space"),
        (good, "echo torn; exit 1", 15, "cannot be restored: backup.check: exit 1: torn"),
        (good, "test -s $HALLEY_SHARED/app.db", 0, ""),
    ] {
        let world = world(&backup(take, check));
        serve_rows(&world, Store::Sqlite, 1);
        let before = fs::read(database(&world)).unwrap();
        let said = world.release_path(&Build { version: 1, ..Build::default() }.write(&world));
        let said = said.expect(exit);
        assert!(said.why().contains(expected), "{}", said.why());
        assert_eq!(fs::read(database(&world)).unwrap() == before, exit != 0);
        assert!(is_swept(&world));
    }
}

#[test]
fn a_step_that_takes_the_way_back_away_is_refused() {
    let world = patient(BACKUP, "10s");
    world.release_path(&Build::default().write(&world)).expect(0);
    let contract = Build {
        version: 1,
        schema: "[schema]\nprovides = \"1\"\nkind = \"contract\"",
        ..Build::default()
    };
    let said = refused(&world, &contract, 10);
    assert!(said.contains("a rollback after it would not work"), "{said}");
    assert!(said.contains("--no-way-back"), "{said}");
    // One that says nothing, and does it: the copy shows it.
    let breaks = Build {
        version: 1,
        quirks: &["drop"],
        needs: "id,comment",
        schema: "[schema]\nprovides = \"1\"",
        ..Build::default()
    };
    let before = fs::read(database(&world)).unwrap();
    let said = refused(&world, &breaks, 14);
    assert!(said.contains("no column note") || said.contains("500"), "{said}");
    assert_eq!(fs::read(database(&world)).unwrap(), before);
    // With a reason it goes.
    let path = breaks.write(&world).to_string_lossy().into_owned();
    let said =
        world.cli(&["release", "web", &path, "--json", "--no-way-back", "renamed"]).expect(0);
    let warnings = said.result()["warnings"].to_string();
    assert!(warnings.contains("does not run on the migrated data"), "{warnings}");
    let rollback = world.status()["rollback"].clone();
    assert_eq!(rollback["ready"], false, "{rollback}");
}

/// Passes on the copy, and does otherwise on the live data.
#[test]
fn what_a_migration_leaves_behind_decides() {
    let cases: [(&[&str], bool, i32, &str); 5] = [
        (&["live:hang"], true, 16, "migrate: killed: it ran longer than 3s"),
        (&["live:fail"], true, 16, "the schema is 0, as before"),
        (&["live:half"], true, 17, "the data has schema 999"),
        (&["live:fail"], false, 17, "the schema of the data is unknown"),
        (&["live:break"], true, 18, "does not run on it"),
    ];
    for (quirks, probed, exit, expected) in cases {
        let world = world(BACKUP);
        world.release_path(&Build::default().write(&world)).expect(0);
        let lax = "[schema]\nprovides = \"1\"";
        let deadline = if quirks == ["live:hang"] { "3s" } else { "60s" };
        let build = Build { version: 1, quirks, probed, deadline, schema: lax, ..Build::default() };
        let said = world.release_path(&build.write(&world)).expect(exit);
        assert!(said.why().contains(expected), "{exit}: {}", said.why());
        let status = world.status();
        assert_eq!(status["serving"], 1);
        let next = Build::default().write(&world).to_string_lossy().into_owned();
        if exit == 18 {
            // Held for a human: loud, and no release before somebody says so.
            assert_eq!(status["state"], "degraded", "{status}");
            world.cli(&["release", "web", &next]).expect(9);
            world.cli(&["thaw", "web"]).expect(0);
        } else {
            world.cli(&["release", "web", &next]).expect(0);
        }
    }
}

#[test]
fn a_migration_goes_on_when_the_supervisor_dies_and_runs_once() {
    let world = world(BACKUP);
    world.release_path(&Build::default().write(&world)).expect(0);
    let writers = Writers::start(world.address);
    let build = Build { version: 1, quirks: &["live:wait"], ..Build::default() }.write(&world);
    let path = build.to_string_lossy().into_owned();
    let child = world.command(&["release", "web", &path, "--json"]);
    let mut child = child;
    let client = child.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let begun = world.service_path("shared/migrating");
    world.wait("the migration runs", |_| begun.is_file());
    world.kill_supervisor();
    world.wait("another one", |world| world.status()["operation"]["phase"] == "migrate");
    fs::write(world.service_path("shared/go"), "").unwrap();
    let output = client.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}\n{}", world.run_log());
    assert_eq!(fs::read_to_string(begun).unwrap(), "begun\n");
    let (n_acked, errors) = writers.stop();
    assert_eq!(errors, [""; 0]);
    assert_eq!(get(world.address, "/count").unwrap(), n_acked.to_string());
    assert_eq!(world.status()["serving"], 2);
}

#[test]
fn an_abort_in_a_migration_waits_for_its_end_and_nothing_goes_live() {
    for dies in [false, true] {
        let world = world(BACKUP);
        serve_rows(&world, Store::Sqlite, 1);
        let build = Build { version: 1, quirks: &["live:wait"], ..Build::default() }.write(&world);
        let path = build.to_string_lossy().into_owned();
        world.cli(&["release", "web", &path, "--detach"]).expect(40);
        let begun = world.service_path("shared/migrating");
        world.wait("the migration runs", |_| begun.is_file());
        let mut abort = world.command(&["abort", "web", "--json"]);
        let abort = abort.stdout(std::process::Stdio::piped()).spawn().unwrap();
        world.wait("the abort has come", |world| world.run_log().contains("an abort waits"));
        if dies {
            world.kill_supervisor();
            world.wait("another one", |world| world.status()["operation"]["phase"] == "migrate");
        }
        fs::write(world.service_path("shared/go"), "").unwrap();
        let said = abort.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&said.stdout);
        assert_eq!(said.status.code(), Some(23), "{text}");
        assert!(text.contains("aborted in phase migrate, which went on to its end"), "{text}");
        // The migrated data is the old release's, as after a failed gate.
        assert_eq!(world.status()["serving"], 1, "{text}");
        assert_eq!(get(world.address, "/count").unwrap(), "1");
        world.release_path(&Build { version: 1, ..Build::default() }.write(&world)).expect(0);
        assert_eq!(get(world.address, "/count").unwrap(), "1");
    }
}

/// The copy is the data's copy, however the data is named.
#[test]
fn an_absolute_path_below_shared_is_tried_on_its_copy() {
    let more = |world: &World| {
        let path = world.path("root/web/shared/app.db");
        BACKUP.replace("app.db", &path.to_string_lossy())
    };
    let world = world_of(more, "12s", "");
    serve_rows(&world, Store::Sqlite, 1);
    let build = Build { version: 1, quirks: &["copy:rows"], ..Build::default() };
    world.release_path(&build.write(&world)).expect(0);
    assert!(is_swept(&world));
}

#[test]
fn a_release_that_is_called_off_in_its_rehearsal_leaves_no_copy() {
    let world = world(BACKUP);
    world.release_path(&Build::default().write(&world)).expect(0);
    let build = Build { version: 1, quirks: &["copy:wait"], ..Build::default() }.write(&world);
    let path = build.to_string_lossy().into_owned();
    world.cli(&["release", "web", &path, "--detach"]).expect(40);
    let scratch = world.service_path("scratch");
    world.wait("it waits on the copy", |_| {
        let copies = fs::read_dir(&scratch).unwrap();
        copies.flatten().any(|copy| copy.path().join("migrating").is_file())
    });
    world.cli(&["abort", "web"]).expect(23);
    world.wait("scratch is swept", is_swept);
    assert_eq!(world.status()["serving"], 1);
    world.release_path(&Build { version: 1, ..Build::default() }.write(&world)).expect(0);
}

#[test]
fn a_power_cut_in_any_phase_loses_no_row_and_migrates_once() {
    let phases = [
        "verify",
        "preflight",
        "stage",
        "rehearse_old",
        "backup",
        "restore_rehearsal",
        "migrate",
        "start",
        "gate",
        "flip",
        "bake",
        "commit",
    ];
    for phase in phases {
        let mut world = world(BACKUP);
        world.release_path(&Build::default().write(&world)).expect(0);
        for _ in 0..5 {
            get(world.address, "/add").unwrap();
        }
        let build = Build { version: 1, ..Build::default() }.write(&world);
        let path = build.to_string_lossy().into_owned();
        let client = world.command(&["release", "web", &path, "--detach"]).spawn();
        let journal = world.service_path("ops/0000002/journal.ndjson");
        let wanted = format!(r#""phase":"{phase}","state":"start""#);
        world.wait(phase, |_| {
            fs::read_to_string(&journal)
                .is_ok_and(|text| text.contains(&wanted) || text.contains(r#""phase":"done""#))
        });
        world.power_cut();
        drop(client.unwrap().wait());
        world.wake();
        world.wait("it is settled", |world| {
            let status = world.status();
            status["operation"].is_null() && status["serving"].is_u64()
        });
        let status = world.status();
        assert_eq!(status["serving"], status["last_good"], "{phase}: {status}");
        world.wait("it answers", |world| get(world.address, "/count").is_ok());
        assert_eq!(get(world.address, "/count").unwrap(), "5", "{phase}");
        world.wait("scratch is swept", is_swept);
        // Whatever became of it, the next release goes through.
        if !status["frozen"].is_null() {
            world.cli(&["thaw", "web"]).expect(0);
        }
        let next = Build { version: 2, ..Build::default() }.write(&world);
        let said = world.release_path(&next);
        let schema = said.result()["trouble"]["why"].to_string();
        assert_eq!(said.code, 0, "{phase}: {schema}\n{}", world.run_log());
    }
}
