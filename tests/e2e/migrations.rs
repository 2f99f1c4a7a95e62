//! What a release does to data, from its first contact on: nothing before there is a way back, and
//! what became of it is known.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::ledger_app::{
    BACKUP, Build, Store, database, entries, get, is_swept, save_rows, serve_rows, world,
};
use crate::world::{Said, World};

/// What is left of a phase in `--json`.
#[track_caller]
pub fn detail(said: &Said, phase: &str) -> String {
    let events = said.stdout.lines().filter_map(|line| serde_json::from_str(line).ok());
    let of_phase = events
        .filter(|event: &serde_json::Value| event["phase"] == phase && event["state"] != "start");
    let ends: Vec<serde_json::Value> = of_phase.collect();
    assert!(!ends.is_empty(), "no {phase}: {}", said.stdout);
    let event = &ends[0];
    format!("{}: {}", event["state"].as_str().unwrap(), event["detail"].as_str().unwrap())
}

pub fn sqlite(file: &Path, script: &str) -> String {
    let said = Command::new("sqlite3").arg(file).arg(script).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8_lossy(&said.stdout).trim().to_owned()
}

/// Data that another program has made.
pub fn with_rows(world: &World, n: u32) {
    fs::create_dir_all(world.service_path("shared")).unwrap();
    let script = format!(
        "CREATE TABLE rows (id INTEGER PRIMARY KEY, note TEXT); WITH RECURSIVE n(i) AS \
         (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < {n}) \
         INSERT INTO rows (note) SELECT 'x' FROM n;"
    );
    sqlite(&database(world), &script);
}

pub fn backups(world: &World) -> serde_json::Value {
    let listed = world.cli(&["backup", "web", "--list", "--json"]).expect(0);
    let backups = listed.stdout.lines().filter_map(|line| serde_json::from_str(line).ok());
    let all: Vec<serde_json::Value> = backups.collect();
    all.iter().find_map(|line| line.get("backups").cloned()).unwrap_or_else(|| all.into())
}

#[test]
fn the_first_release_backs_up_and_rehearses_what_is_there_already() {
    let world = world(BACKUP);
    with_rows(&world, 1000);
    let before = fs::read(database(&world)).unwrap();
    let fails = Build { version: 1, quirks: &["copy:fail"], ..Build::default() };
    let said = world.release_path(&fails.write(&world)).expect(16);
    assert!(said.why().contains("on a copy of the data"), "{}", said.why());
    assert_eq!(fs::read(database(&world)).unwrap(), before);
    // Nothing serves, and there is a backup to go back to all the same.
    let held = backups(&world)[0].clone();
    assert_eq!(held["counts"]["rows"], 1000, "{held}");
    let said =
        world.release_path(&Build { version: 1, ..Build::default() }.write(&world)).expect(0);
    assert!(detail(&said, "restore_rehearsal").contains("ok: 1000 rows in 1 table; migrated in"));
    assert_eq!(get(world.address, "/count").unwrap(), "1000");
    assert_eq!(entries(&world.service_path("backups")), 2);
    assert!(is_swept(&world));
}

#[test]
fn a_first_release_without_data_says_so_and_the_next_one_has_a_backup() {
    for is_there in [false, true] {
        let world = world(BACKUP);
        if is_there {
            // What a program leaves that has only opened it.
            fs::write(database(&world), "").unwrap();
        }
        let build = Build::default().write(&world);
        let said = world.release_path(&build).expect(0);
        let told = detail(&said, "backup");
        assert!(told.starts_with("skip: there is no data yet, so no backup"), "{told}");
        assert!(told.contains("shared/app.db"), "{told}");
        assert!(told.contains("the first one is taken when the next release begins"), "{told}");
        assert!(said.result()["warnings"].to_string().contains("no data yet"), "{}", said.stdout);
        assert_eq!(entries(&world.service_path("backups")), 0);
        let next = Build { version: 1, ..Build::default() }.write(&world);
        let said = world.release_path(&next).expect(0);
        assert!(detail(&said, "backup").starts_with("ok: "), "{}", said.stdout);
        // Where there was data, none is no backup.
        fs::remove_file(database(&world)).unwrap();
        fs::write(database(&world), "").unwrap();
        let said = world.cli(&["backup", "web"]).expect(15);
        assert!(
            said.stderr.contains("shared/app.db: the database has no tables"),
            "{}",
            said.stderr
        );
    }
}

#[test]
fn an_empty_folder_is_a_backup_and_one_that_is_not_there_is_named() {
    let world = world("[service.web.backup]\ndriver = \"files\"\npath = \"uploads\"");
    let said = world.release_path(&Build::default().write(&world)).expect(0);
    assert!(detail(&said, "backup").contains("shared/uploads: there is no directory"));
    let said = world.release_path(&Build::default().write(&world)).expect(15);
    assert!(said.why().contains("shared/uploads: there is no directory"), "{}", said.why());
    fs::create_dir(world.service_path("shared/uploads")).unwrap();
    let said = world.release_path(&Build::default().write(&world)).expect(0);
    assert!(detail(&said, "restore_rehearsal").contains("0 files"), "{}", said.stdout);
}

#[test]
fn a_command_says_that_there_is_no_data_or_has_failed() {
    let backup = |take: &str| {
        format!(
            "[service.web.backup]\ndriver = \"command\"\ntake = [\"/bin/sh\", \"-c\", {take:?}]\n\
             restore = [\"/bin/sh\", \"-c\", \"cp $HALLEY_BACKUP_DIR/dump $HALLEY_SHARED/app.db\"]"
        )
    };
    // Its data may be anywhere: what migrates needs more than an empty `shared/`.
    for (take, version, exit, expected) in [
        ("exit 66", 1, 0, "skip: there is no data yet"),
        ("echo no route; exit 1", 0, 0, "skip: there is no data yet"),
        ("echo no route; exit 1", 1, 15, "fail: no backup: backup.take: exit 1: no route"),
    ] {
        let world = world(&backup(take));
        let build = Build { version, ..Build::default() }.write(&world);
        if version > 0 {
            // Its migration makes its table.
            let text = fs::read_to_string(build.join("migrate.py")).unwrap();
            fs::write(build.join("migrate.py"), text.replace("shared =", "db.create()\nshared ="))
                .unwrap();
        }
        let said = world.release_path(&build).expect(exit);
        assert!(detail(&said, "backup").starts_with(expected), "{}", detail(&said, "backup"));
    }
}

#[test]
fn a_clock_that_was_put_back_makes_no_backup_the_oldest() {
    let world = world(&BACKUP.replace("keep = 3", "keep = 1"));
    save_rows(&world, Store::Sqlite, 1);
    // As if the clock had been ahead then.
    let id = backups(&world)[0]["id"].as_str().unwrap().to_owned();
    let ahead = format!("2099{}", &id[4..]);
    let dir = world.service_path("backups");
    fs::rename(dir.join(&id), dir.join(&ahead)).unwrap();
    let receipt = dir.join(&ahead).join("receipt.json");
    let text = fs::read_to_string(&receipt).unwrap();
    fs::write(&receipt, text.replace(&id, &ahead)).unwrap();
    get(world.address, "/add").unwrap();
    world.release_path(&Build { version: 1, ..Build::default() }.write(&world)).expect(0);
    let listed = backups(&world);
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(
        (&listed[0]["op"], &listed[0]["counts"]["rows"]),
        (&2.into(), &2.into()),
        "{listed}"
    );
}

#[test]
fn backups_of_refused_releases_are_pruned_like_others() {
    let take = "cp $HALLEY_SHARED/app.db $HALLEY_BACKUP_DIR/dump";
    let restore = "cp $HALLEY_BACKUP_DIR/dump $HALLEY_SHARED/app.db";
    // A damaged one of 2 rows: what is in the copy is looked at.
    let check = "test $(sqlite3 $HALLEY_SHARED/app.db 'SELECT count(*) FROM rows') -lt 2";
    let world = world(&format!(
        "[service.web.backup]\ndriver = \"command\"\nkeep = 2\n\
         take = [\"/bin/sh\", \"-c\", {take:?}]\nrestore = [\"/bin/sh\", \"-c\", {restore:?}]\n\
         check = [\"/bin/sh\", \"-c\", {check:?}]"
    ));
    save_rows(&world, Store::Sqlite, 1);
    let good = backups(&world)[0]["id"].clone();
    get(world.address, "/add").unwrap();
    for _ in 0..4 {
        world.release_path(&Build::default().write(&world)).expect(15);
    }
    let listed = backups(&world);
    // Two, and the newest that could be restored.
    assert_eq!(listed.as_array().map(Vec::len), Some(3), "{listed}");
    assert_eq!(listed[2]["id"], good, "{listed}");
}

#[test]
fn a_release_of_the_schema_that_is_there_migrates_no_copy_either() {
    let world = world(BACKUP);
    serve_rows(&world, Store::Sqlite, 1);
    let build = Build { version: 1, ..Build::default() };
    world.release_path(&build.write(&world)).expect(0);
    // Its migration would fail: the column is there.
    let said = world.release_path(&build.write(&world)).expect(0);
    assert!(detail(&said, "restore_rehearsal").contains("; it has schema 1 already"));
    assert_eq!(detail(&said, "migrate"), "skip: the data has schema 1 already");
}

#[test]
fn an_abort_at_any_moment_of_a_rehearsal_leaves_no_process_in_status() {
    let world = world(BACKUP);
    serve_rows(&world, Store::Sqlite, 1);
    let of = |world: &World, role: &str| {
        let status = world.status();
        let all = status["instances"].as_array().cloned().unwrap_or_default();
        all.iter().filter(|instance| role.is_empty() || instance["role"] == role).count()
    };
    // While its gate is shut, and while it takes its time to stop.
    for (needs, role) in [("id,nowhere", "rehearsal"), ("id,note", "draining")] {
        let build = Build { version: 1, needs, ..Build::default() }.write(&world);
        let text = fs::read_to_string(build.join("main.py")).unwrap();
        let slowly = "import time\nsignal.signal(signal.SIGTERM, lambda *a: time.sleep(1) or ";
        let text = text.replace("signal.signal(signal.SIGTERM, lambda *a: ", slowly);
        fs::write(build.join("main.py"), text).unwrap();
        let path = build.to_string_lossy().into_owned();
        world.cli(&["release", "web", &path, "--detach"]).expect(40);
        world.wait("it is rehearsed", |world| {
            world.status()["operation"]["phase"] == "restore_rehearsal" && of(world, role) > 0
        });
        world.cli(&["abort", "web"]).expect(23);
        world.wait("nothing is left of it", |world| of(world, "") == 1);
        world.wait("scratch is swept", is_swept);
    }
    let begun = halley_sup::os::proc::tree(world.keeper_pid()).len();
    assert!(begun <= 3, "keeper, supervisor, program: {begun}");
}

/// Another migration: it is told whether it is on a copy.
pub fn migrates_by(build: &Path, script: &str) {
    let text = format!(
        "import db, os, subprocess, sys, time\non_copy = 'HALLEY_REHEARSAL' in os.environ\n{script}"
    );
    fs::write(build.join("migrate.py"), text).unwrap();
}

pub const ADD_COLUMN: &str = "db.migrate(1, 'ALTER TABLE rows ADD COLUMN c1 TEXT')";

#[test]
fn a_failed_migration_that_changed_rows_freezes_and_its_backup_outlives_retries() {
    let world = world(&BACKUP.replace("keep = 3", "keep = 1"));
    serve_rows(&world, Store::Sqlite, 9);
    let purges = || {
        let build = Build { version: 1, ..Build::default() }.write(&world);
        let purge = format!(
            "if on_copy: {ADD_COLUMN}; sys.exit()\n\
             db.connect().execute('DELETE FROM rows WHERE id IN (SELECT id FROM rows LIMIT 2)')\n\
             sys.exit('half way')\n"
        );
        migrates_by(&build, &purge);
        build
    };
    let said = world.release_path(&purges()).expect(16);
    let told = said.why();
    let next = said.result()["next"].to_string();
    assert!(next.contains("halley-sup restore web --dry-run"), "{next}");
    assert!(!next.contains("halley-sup release"), "{next}");
    assert!(
        told.contains(
            "the schema is 0, as before; the data is not: rows: 2 fewer (9 before, 7 now)"
        ),
        "{told}"
    );
    let good = backups(&world)[0].clone();
    let id = good["id"].as_str().unwrap();
    assert!(told.contains(&format!("is kept: halley-sup restore web --backup {id}")), "{told}");
    assert!(good["pinned"].as_str().unwrap().contains("operation 2"), "{good}");
    let frozen = world.status()["frozen"].to_string();
    assert!(frozen.contains("the data changed: rows: 2 fewer"), "{frozen}");
    let next = purges().to_string_lossy().into_owned();
    world.cli(&["release", "web", &next]).expect(9);
    for n in 1..=3 {
        world.cli(&["thaw", "web"]).expect(0);
        let said = world.release_path(&purges()).expect(16);
        assert!(said.why().contains(&format!(
            "that of before the first failure is kept: halley-sup restore web --backup {id}"
        )));
        assert_eq!(get(world.address, "/count").unwrap(), (7 - 2 * n).to_string());
    }
    world.cli(&["thaw", "web"]).expect(0);
    world.cli(&["restore", "web", "--backup", id, "--yes"]).expect(0);
    assert_eq!(get(world.address, "/count").unwrap(), "9");
    // All is well again: from here on it is pruned like the others.
    world.release_path(&Build { version: 1, ..Build::default() }.write(&world)).expect(0);
    let listed = backups(&world).to_string();
    assert!(!listed.contains("pinned"), "{listed}");
}

#[test]
fn a_migration_that_takes_rows_away_says_so() {
    let world = world(BACKUP);
    serve_rows(&world, Store::Sqlite, 3);
    let build = Build { version: 1, ..Build::default() }.write(&world);
    migrates_by(
        &build,
        &format!("db.connect().execute('DELETE FROM rows WHERE id = 1')\n{ADD_COLUMN}"),
    );
    let said = world.release_path(&build).expect(0);
    let warnings = said.result()["warnings"].to_string();
    assert!(warnings.contains("there is less data: rows: 1 fewer (3 before, 2 now)"), "{warnings}");
    assert!(world.status()["frozen"].is_null());
}

/// Goes on in the background, in a session of its own and without a word in its environment.
const IN_BACKGROUND: &str = "subprocess.Popen(['/bin/sh', '-c', f'sleep {after}; {sys.executable} -c \\'import db; \
     db.migrate(1, \"ALTER TABLE rows ADD COLUMN c1 TEXT\")\\''], stdin=subprocess.DEVNULL, \
     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=leaves)\n";

#[test]
fn what_a_migration_leaves_in_the_background_is_waited_for() {
    for leaves in ["True", "False"] {
        let world = world(BACKUP);
        serve_rows(&world, Store::Sqlite, 1);
        let build = Build { version: 1, ..Build::default() }.write(&world);
        migrates_by(&build, &format!("after = 1\nleaves = {leaves}\n{IN_BACKGROUND}"));
        let said = world.release_path(&build).expect(0);
        assert!(detail(&said, "migrate").contains("schema 0 to 1"), "{}", detail(&said, "migrate"));
        assert_eq!(sqlite(&database(&world), "PRAGMA user_version"), "1");
    }
}

#[test]
fn what_goes_on_for_too_long_is_ended_and_commits_nothing() {
    let world = world(BACKUP);
    serve_rows(&world, Store::Sqlite, 1);
    for (on_copy, where_) in [(true, "on a copy of the data: "), (false, "")] {
        let build = Build { version: 1, deadline: "3s", ..Build::default() }.write(&world);
        // Without a mark it is known by its session.
        let script = format!(
            "if on_copy and not {}: {ADD_COLUMN}; sys.exit()\n\
             subprocess.Popen(['/usr/bin/env', '-i', '/bin/sleep', '100'], stdin=subprocess.DEVNULL, \
             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n",
            if on_copy { "True" } else { "False" }
        );
        migrates_by(&build, &script);
        let said = world.release_path(&build).expect(16);
        let told = said.why();
        assert!(told.starts_with(&format!("{where_}migrate")), "{told}");
        assert!(
            told.contains("sleep (pid ") && told.contains("in its background for longer than 3s"),
            "{told}"
        );
        let sleeping = Command::new("pgrep").args(["-f", "^/bin/sleep 100$"]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&sleeping.stdout), "");
    }
}

#[test]
fn a_migration_that_outlives_halley_is_waited_for_or_ended() {
    for (goes_on, serving, version) in [(true, 2, "1"), (false, 1, "0")] {
        let mut world = world(BACKUP);
        serve_rows(&world, Store::Sqlite, 1);
        let deadline = if goes_on { "60s" } else { "3s" };
        let build = Build { version: 1, quirks: &["live:wait"], deadline, ..Build::default() };
        let path = build.write(&world).to_string_lossy().into_owned();
        world.cli(&["release", "web", &path, "--detach"]).expect(40);
        let begun = world.service_path("shared/migrating");
        world.wait("the migration runs", |_| begun.is_file());
        world.power_cut_sparing(|line| line.contains("migrate.py"));
        world.wake();
        world.wait("it is known", |world| world.status()["operation"]["phase"] == "migrate");
        if goes_on {
            fs::write(world.service_path("shared/go"), "").unwrap();
        }
        world.wait("it is settled", |world| world.status()["operation"].is_null());
        // Whatever it could still do, it has done by then.
        fs::write(world.service_path("shared/go"), "").unwrap();
        let left = world.left_behind().into_iter().filter(|pid| {
            fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.contains("migrate.py"))
        });
        assert_eq!(left.count(), 0, "the migration goes on");
        assert_eq!(sqlite(&database(&world), "PRAGMA user_version"), version);
        assert_eq!(fs::read_to_string(begun).unwrap(), "begun\n");
        world.wait("it answers", |world| get(world.address, "/count").is_ok());
        assert_eq!(world.status()["serving"], serving, "{}", world.run_log());
        let report = fs::read_to_string(world.service_path("ops/0000002/report.md"));
        if !goes_on {
            let report = report.unwrap();
            assert!(report.contains("Halley was killed during the migration;"), "{report}");
            assert!(report.contains("ran longer than 3s"), "{report}");
        }
    }
}

/// Ends once, when connections go to it.
const DIES: &str = "import os, threading, time\nmark = os.path.join(os.environ['HALLEY_SHARED'], 'died')\n\
     def die():\n\
    \x20   current = os.path.join(os.environ['HALLEY_SHARED'], '..', 'current')\n\
    \x20   while os.path.basename(os.readlink(current)) != os.environ['HALLEY_RELEASE']: time.sleep(0.01)\n\
    \x20   open(mark, 'w').close()\n\
    \x20   os._exit(3)\n\
     if 'HALLEY_REHEARSAL' not in os.environ and not os.path.exists(mark):\n\
    \x20   threading.Thread(target=die, daemon=True).start()\n";

#[test]
fn what_has_no_way_back_and_fails_is_held_and_kept_up() {
    let narrow = "[schema]\nprovides = \"1\"\naccepts = [\"0\", \"1\"]";
    // By its own declaration, and as it was found when it was tried.
    let declared = (
        Build { version: 1, schema: narrow, ..Build::default() },
        Build { version: 2, ..Build::default() },
    );
    let found = (
        Build::default(),
        Build {
            version: 1,
            quirks: &["drop"],
            needs: "id,comment",
            schema: "[schema]\nprovides = \"1\"",
            ..Build::default()
        },
    );
    for (n, (old, new)) in [declared, found].into_iter().enumerate() {
        let world = world(BACKUP);
        let config = fs::read_to_string(world.path("halley.toml")).unwrap();
        world.reload(&config.replace("for = \"200ms\"", "for = \"6s\""));
        // Its migration makes the table that there is none of yet.
        let first = old.write(&world);
        let text = fs::read_to_string(first.join("migrate.py")).unwrap();
        fs::write(first.join("migrate.py"), text.replace("shared =", "db.create()\nshared ="))
            .unwrap();
        world.release_path(&first).expect(0);
        get(world.address, "/add").unwrap();
        let build = new.write(&world);
        let program = fs::read_to_string(build.join("main.py")).unwrap();
        fs::write(build.join("main.py"), format!("{DIES}{program}")).unwrap();
        let path = build.to_string_lossy().into_owned();
        let said =
            world.cli(&["release", "web", &path, "--json", "--no-way-back", "renamed"]).expect(22);
        let told = said.why();
        assert!(
            told.contains("exit 3") && told.contains("it is not rolled back by itself: "),
            "{told}"
        );
        for again in [false, true] {
            if again {
                world.kill_supervisor();
            }
            world.wait("it is kept up", |world| {
                let status = world.status();
                status["operation"]["phase"] == "hold"
                    && status["instances"].as_array().is_some_and(|all| {
                        all.iter().any(|it| {
                            it["role"] == "live" && it["release"] == 2 && it["pid"].is_i64()
                        })
                    })
            });
            let status = world.status();
            assert_eq!(
                (&status["state"], &status["serving"]),
                (&"degraded".into(), &2.into()),
                "{status}"
            );
            assert!(status["alarm"]["what"].to_string().contains("failed and is held"), "{status}");
            world.wait("it answers", |world| get(world.address, "/count").is_ok());
        }
        world.cli(&["promote", "web"]).expect(0);
        let status = world.status();
        assert_eq!(
            (&status["last_good"], &status["alarm"]),
            (&2.into(), &serde_json::Value::Null),
            "{status}"
        );
        if n == 0 {
            let said = world.cli(&["rollback", "web"]).expect(31);
            let passed = "passed over: the data has schema 2, release 1 accepts 0, 1";
            assert!(said.stderr.contains(passed), "{}", said.stderr);
        }
    }
}
