//! Backups by hand, and restores: what would be lost is said, callers wait, what does not run is
//! taken back, also after a crash.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::ledger_app::{
    BACKUP, Build, Store, Writers, add, count, database, entries, get, is_swept, newest_backup,
    patient, save_rows, serve_rows, world,
};
use crate::migrations::{ADD_COLUMN, backups, migrates_by};
use crate::world::World;

#[test]
fn a_restore_says_what_is_lost_holds_callers_and_keeps_the_present() {
    let world = world(BACKUP);
    world.release_path(&Build::default().write(&world)).expect(0);
    assert_eq!(world.cli(&["restore", "web"]).code, 31);
    add(&world, 3);
    let writers = Writers::start(world.address);
    world.cli(&["backup", "web"]).expect(0);
    let (n_acked, errors) = writers.stop();
    assert_eq!(errors, [""; 0]);
    let listed = world.cli(&["backup", "web", "--list", "--json"]).expect(0).result();
    let held = listed["counts"]["rows"].as_u64().unwrap();
    assert!(held >= 3 && held <= n_acked + 3, "{listed}");
    add(&world, 4);
    let present = count(&world);
    let before = fs::read(database(&world)).unwrap();
    // Only told.
    let said = world.cli(&["restore", "web", "--dry-run", "--json"]).expect(0);
    let newer = n_acked + 7 - held;
    let lost = format!("rows: {newer} more now ({present}, {held} in the backup)");
    assert!(said.stdout.contains(&lost), "{lost}\n{}", said.stdout);
    let said = world.cli(&["restore", "web", "--json"]).expect(2);
    assert!(said.why().contains("it needs --yes; this would be lost: rows:"), "{}", said.why());
    assert_eq!(fs::read(database(&world)).unwrap(), before);
    // Callers meanwhile.
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, address) = (Arc::clone(&stop), world.address);
    let reader = std::thread::spawn(move || {
        let mut errors = Vec::new();
        while !stopped.load(Ordering::Relaxed) {
            errors.extend(get(address, "/count").err());
        }
        errors
    });
    world.cli(&["restore", "web", "--yes", "--json"]).expect(0);
    stop.store(true, Ordering::Relaxed);
    assert_eq!(reader.join().unwrap(), [""; 0], "{}", world.run_log());
    assert_eq!(count(&world), held.to_string());
    // Said twice, it brings back the same, and not what it has thrown away.
    let thrown_away = newest_backup(&world);
    add(&world, 1);
    let said = world.cli(&["restore", "web", "--yes", "--json"]).expect(0);
    assert!(said.stdout.contains("it is the newest but for 1 backup of what"), "{}", said.stdout);
    assert_eq!(count(&world), held.to_string());
    // That is the way back from the restore, for who names it.
    world.cli(&["restore", "web", "--backup", &thrown_away, "--yes", "--json"]).expect(0);
    assert_eq!(count(&world), present);
    assert!(is_swept(&world));
    let history = world.cli(&["history", "--json"]).stdout;
    assert_eq!(history.matches("\"kind\":\"restore\"").count(), 3, "{history}");
}

/// What a user types on a terminal (`script` makes one).
fn on_terminal(world: &World, words: &str, typed: &str) -> String {
    let config = world.path("halley.toml");
    let command = format!("{} {words} --config {}", crate::world::BINARY, config.display());
    let mut child = std::process::Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), typed.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn on_a_terminal_somebody_is_asked() {
    let world = world(BACKUP);
    save_rows(&world, Store::Sqlite, 1);
    add(&world, 2);
    let said = on_terminal(&world, "restore web", "no\n");
    assert!(said.contains("rows: 2 more now (3, 1 in the backup)"), "{said}");
    assert!(said.contains("Type yes:") && said.contains("nothing was changed"), "{said}");
    assert_eq!(count(&world), "3");
    on_terminal(&world, "restore web", "yes\n");
    assert_eq!(count(&world), "1");
}

#[test]
fn a_damaged_backup_restores_nothing() {
    let world = world(BACKUP);
    save_rows(&world, Store::Sqlite, 1);
    let id = world.cli(&["backup", "web", "--list", "--json"]).result()["id"].clone();
    let copy = world.service_path(&format!("backups/{}/data/copy.db", id.as_str().unwrap()));
    let mut bytes = fs::read(&copy).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&copy, bytes).unwrap();
    let before = fs::read(database(&world)).unwrap();
    let said = world.cli(&["restore", "web", "--yes", "--json"]).expect(15);
    assert!(said.why().contains("is damaged"), "{}", said.why());
    assert_eq!(fs::read(database(&world)).unwrap(), before);
    assert_eq!(world.cli(&["restore", "web", "--backup", "none", "--yes"]).code, 31);
}

#[test]
fn what_does_not_run_on_a_restored_state_gets_its_own_back() {
    let world = patient(BACKUP, "8s");
    save_rows(&world, Store::Sqlite, 2);
    let old = world.cli(&["backup", "web", "--list", "--json"]).result()["id"].clone();
    let build = Build { version: 1, needs: "id,c1", ..Build::default() };
    world.release_path(&build.write(&world)).expect(0);
    add(&world, 3);
    let said = world.cli(&["restore", "web", "--backup", old.as_str().unwrap(), "--yes", "--json"]);
    let said = said.expect(20);
    assert!(said.why().contains("the previous data is back"), "{}", said.why());
    world.wait("it runs", |world| world.status()["state"] == "running");
    assert_eq!(count(&world), "5");
    assert_eq!(world.status()["serving"], 2);
    assert!(!world.service_path("restore.json").exists());
}

#[test]
fn a_crash_in_a_restore_brings_back_what_was_there() {
    // Its restore of live data waits until it is told to go on.
    let restore = "if [ -z \"$HALLEY_REHEARSAL\" ] && [ -e $HALLEY_SHARED/../hold ]; then \
                   echo x > $HALLEY_SHARED/app.db; touch $HALLEY_SHARED/../half; sleep 1000; fi; \
                   cp $HALLEY_BACKUP_DIR/dump $HALLEY_SHARED/app.db";
    let take = "cp $HALLEY_SHARED/app.db $HALLEY_BACKUP_DIR/dump";
    let config = format!(
        "[service.web.backup]\ndriver = \"command\"\ntake = [\"/bin/sh\", \"-c\", {take:?}]\n\
         restore = [\"/bin/sh\", \"-c\", {restore:?}]"
    );
    for cut in [false, true] {
        let mut world = world(&config);
        save_rows(&world, Store::Sqlite, 1);
        add(&world, 2);
        fs::write(world.service_path("hold"), "").unwrap();
        let mut command = world.command(&["restore", "web", "--yes"]);
        let client = command.stderr(std::process::Stdio::null()).spawn();
        world.wait("half of it", |world| world.service_path("half").exists());
        fs::remove_file(world.service_path("hold")).unwrap();
        if cut {
            world.power_cut();
            world.wake();
        } else {
            world.kill_supervisor();
        }
        let mut client = client.unwrap();
        world.wait("it is over", |world| !world.service_path("restore.json").exists());
        world.wait("it answers", |world| get(world.address, "/count").is_ok());
        assert_eq!(count(&world), "3", "cut {cut}");
        drop(client.kill());
        drop(client.wait());
        assert!(is_swept(&world));
    }
}

#[test]
fn files_are_backed_up_and_come_back() {
    let config = "[service.web.backup]\ndriver = \"files\"\npath = \"uploads\"";
    let world = world(config);
    world.release_path(&Build::default().write(&world)).expect(0);
    let uploads = world.service_path("shared/uploads");
    assert_eq!(world.cli(&["backup", "web"]).code, 15);
    fs::create_dir_all(uploads.join("deep")).unwrap();
    fs::write(uploads.join("deep/a"), "one").unwrap();
    world.cli(&["backup", "web"]).expect(0);
    fs::write(uploads.join("deep/a"), "two").unwrap();
    fs::write(uploads.join("b"), "new").unwrap();
    let said = world.cli(&["restore", "web", "--dry-run", "--json"]).expect(0);
    assert!(said.stdout.contains("files: 1 more now (2, 1 in the backup)"), "{}", said.stdout);
    world.cli(&["restore", "web", "--yes"]).expect(0);
    assert_eq!(fs::read_to_string(uploads.join("deep/a")).unwrap(), "one");
    assert!(!uploads.join("b").exists());
    assert_eq!(entries(&world.service_path("shared")), 2, "uploads and the database");
}

#[test]
fn all_of_shared_is_backed_up_and_comes_back() {
    let world = world("[service.web.backup]\ndriver = \"files\"\npath = \".\"");
    serve_rows(&world, Store::Sqlite, 2);
    // In a release as well: the copy is whole, and both releases run on it.
    world.release_path(&Build::default().write(&world)).expect(0);
    world.cli(&["backup", "web"]).expect(0);
    add(&world, 3);
    world.cli(&["restore", "web", "--yes"]).expect(0);
    assert_eq!(count(&world), "2");
    assert!(is_swept(&world));
}

#[test]
fn without_a_driver_there_is_nothing_to_back_up() {
    let world = World::new();
    world.release(&[]).expect(0);
    for verb in ["backup", "restore"] {
        let said = world.cli(&[verb, "web"]).expect(2);
        assert!(said.stderr.contains("[service.web.backup] is not configured"), "{}", said.stderr);
    }
}

#[test]
fn a_crash_in_a_backup_leaves_no_copy_and_no_command() {
    let take = "cp $HALLEY_SHARED/app.db $HALLEY_BACKUP_DIR/dump";
    let restore = "if [ -e $HALLEY_BACKUP_DIR/../../../hold ]; then \
                   touch $HALLEY_SHARED/half; exec sleep 1000; fi; \
                   cp $HALLEY_BACKUP_DIR/dump $HALLEY_SHARED/app.db";
    let config = format!(
        "[service.web.backup]\ndriver = \"command\"\ntake = [\"/bin/sh\", \"-c\", {take:?}]\n\
         restore = [\"/bin/sh\", \"-c\", {restore:?}]"
    );
    let world = world(&config);
    serve_rows(&world, Store::Sqlite, 1);
    fs::write(world.service_path("hold"), "").unwrap();
    let mut command = world.command(&["backup", "web"]);
    let mut client = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    let scratch = world.service_path("scratch");
    world.wait("half of it", |_| {
        let copies = fs::read_dir(&scratch).unwrap();
        copies.flatten().any(|copy| copy.path().join("half").is_file())
    });
    // While it lasts nobody else is at the data.
    world.release(&[]).expect(9);
    fs::remove_file(world.service_path("hold")).unwrap();
    world.kill_supervisor();
    world.wait("scratch is swept", is_swept);
    drop(client.kill());
    drop(client.wait());
    world.cli(&["backup", "web"]).expect(0);
    assert_eq!(count(&world), "1");
}

/// Whoever tries again until it works has not brought back what was lost on the way.
#[test]
fn the_only_backup_with_lost_rows_outlives_the_migration_that_succeeds() {
    let world = world(&BACKUP.replace("keep = 3", "keep = 1"));
    serve_rows(&world, Store::Sqlite, 5);
    let bad = Build { version: 1, ..Build::default() }.write(&world);
    let purge = format!(
        "if on_copy: {ADD_COLUMN}; sys.exit()\n\
         db.connect().execute('DELETE FROM rows WHERE id < 3')\nsys.exit('half way')\n"
    );
    migrates_by(&bad, &purge);
    world.release_path(&bad).expect(16);
    let id = backups(&world)[0]["id"].as_str().unwrap().to_owned();
    world.cli(&["thaw", "web"]).expect(0);
    let said =
        world.release_path(&Build { version: 1, ..Build::default() }.write(&world)).expect(0);
    let warnings = said.result()["warnings"].to_string();
    for part in ["rows: 2 fewer (5 before, 3 now)", "not brought that back", &id] {
        assert!(warnings.contains(part), "{part}: {warnings}");
    }
    // Backups by hand push out one another.
    for _ in 0..2 {
        world.cli(&["backup", "web"]).expect(0);
    }
    let listed = backups(&world);
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
    let kept = listed.as_array().unwrap().iter().find(|it| it["id"] == *id).unwrap();
    assert!(kept["pinned"].as_str().unwrap().contains("rows: 2 fewer"), "{kept}");
    // A release after it has nothing to warn of; none is named by a restore without a name.
    let plan = world.cli(&["restore", "web", "--dry-run", "--json"]).expect(0);
    assert!(!plan.stdout.contains(&format!("\"id\":\"{id}\"")), "{}", plan.stdout);
}
