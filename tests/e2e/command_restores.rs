//! Restores by a command: over when all of it is, a success only when it leaves something.

use std::fs;
use std::process::Stdio;

use halley_sup::os::mark;

use crate::ledger_app::{Store, add, count, newest_backup, save_rows, world};
use crate::world::World;

/// A restore of live data by this command, which a rehearsal does not run.
fn restored_by(live: &str, more: &str) -> World {
    let restore = format!(
        "[ -z \"$HALLEY_REHEARSAL\" ] || exec cp $HALLEY_BACKUP_DIR/dump $HALLEY_SHARED/app.db; {live}"
    );
    let take = "cp $HALLEY_SHARED/app.db $HALLEY_BACKUP_DIR/dump";
    let world = world(&format!(
        "[service.web.backup]\ndriver = \"command\"\ntake = [\"/bin/sh\", \"-c\", {take:?}]\n\
         restore = [\"/bin/sh\", \"-c\", {restore:?}]\n{more}"
    ));
    save_rows(&world, Store::Sqlite, 1);
    add(&world, 2);
    world
}

#[test]
fn a_restore_by_command_is_over_when_what_it_left_in_the_background_is() {
    let world = restored_by(
        "{ while [ ! -e $HALLEY_SHARED/../go ]; do sleep 0.05; done; \
         cp $HALLEY_BACKUP_DIR/dump $HALLEY_SHARED/app.db; } > /dev/null 2>&1 & touch \
         $HALLEY_SHARED/../begun",
        "",
    );
    let mut command = world.command(&["restore", "web", "--yes"]);
    let mut client = command.stderr(Stdio::null()).spawn().unwrap();
    world.wait("it ended", |world| world.service_path("begun").exists());
    fs::write(world.service_path("go"), "").unwrap();
    assert_eq!(client.wait().unwrap().code(), Some(0));
    assert_eq!(count(&world), "1");
}

#[test]
fn a_restore_by_command_whose_background_does_not_end_is_no_success() {
    let once = "[ ! -e $HALLEY_SHARED/../once ] || exec cp $HALLEY_BACKUP_DIR/dump \
                $HALLEY_SHARED/app.db; touch $HALLEY_SHARED/../once; sleep 1000 > /dev/null 2>&1 &";
    let world = restored_by(once, "deadline = \"3s\"");
    let why = world.cli(&["restore", "web", "--yes", "--json"]).expect(15).why();
    assert!(why.contains("backup.restore: sleep (pid "), "{why}");
    assert!(why.contains("went on in its background for longer than 3s"), "{why}");
    assert_eq!(count(&world), "3");
}

#[test]
fn a_restore_by_command_that_leaves_nothing_is_no_success() {
    let once = "[ ! -e $HALLEY_SHARED/../once ] || exec cp $HALLEY_BACKUP_DIR/dump \
                $HALLEY_SHARED/app.db; touch $HALLEY_SHARED/../once; rm -f $HALLEY_SHARED/*";
    let world = restored_by(once, "");
    let why = world.cli(&["restore", "web", "--yes", "--json"]).expect(15).why();
    assert!(why.contains("backup.restore reported success, but did not bring app.db"), "{why}");
    assert_eq!(count(&world), "3");
}

#[test]
fn a_restore_by_command_that_fails_is_undone_without_the_command() {
    // It fails each time, and has emptied the directory before.
    let world = restored_by("rm -rf $HALLEY_SHARED/*; exit 3", "");
    fs::write(world.service_path("shared/key"), "secret").unwrap();
    let planned = world.cli(&["restore", "web", "--dry-run"]).expect(0);
    let elsewhere = "what backup.restore changes outside of shared/";
    let warned = format!("{elsewhere} does not come back if the restore fails");
    assert!(planned.stdout.contains(&warned), "{}", planned.stdout);
    let said = world.cli(&["restore", "web", "--yes", "--json"]).expect(15);
    let (why, saved) = (said.why(), newest_backup(&world));
    assert!(why.contains("the previous data is back; "), "{why}");
    assert!(why.contains(&format!("{elsewhere} is not taken back (backup of before it: {saved})")));
    let next = said.result()["next"][0].clone();
    assert_eq!(next, format!("halley-sup restore web --backup {saved} --yes"));
    assert_eq!(count(&world), "3");
    assert_eq!(fs::read_to_string(world.service_path("shared/key")).unwrap(), "secret");
    let beside = fs::read_dir(world.service_path("")).unwrap().flatten();
    let mut left = beside.map(|entry| entry.file_name().into_string().unwrap());
    assert_eq!(left.find(|name| name.starts_with(".shared")), None);
}

#[test]
fn a_restore_by_command_leaves_alone_what_its_rehearsal_did_not_bring() {
    let world = restored_by("cp $HALLEY_BACKUP_DIR/dump $HALLEY_SHARED/app.db", "");
    fs::write(world.service_path("shared/key"), "secret").unwrap();
    world.cli(&["restore", "web", "--yes"]).expect(0);
    assert_eq!(count(&world), "1");
    assert_eq!(fs::read_to_string(world.service_path("shared/key")).unwrap(), "secret");
}

#[test]
fn a_restore_by_command_must_bring_the_paths_that_it_is_to_fill() {
    // A file beside it was there all the time.
    let world = restored_by("touch $HALLEY_SHARED/../asked", "paths = [\"app.db\"]");
    fs::write(world.service_path("shared/key"), "secret").unwrap();
    let why = world.cli(&["restore", "web", "--yes", "--json"]).expect(15).why();
    assert!(why.contains("backup.restore reported success, but did not bring "), "{why}");
    assert!(why.contains("app.db"), "{why}");
    assert!(world.service_path("asked").exists(), "the rehearsal is not meant");
    assert_eq!(count(&world), "3");
}

/// Its client opened the database after everybody was looked for, and commits when it likes.
#[test]
fn one_that_has_what_was_set_aside_open_stops_the_restore() {
    let world = restored_by(
        "while [ ! -e $HALLEY_SHARED/../go ]; do sleep 0.05; done; \
         cp $HALLEY_BACKUP_DIR/dump $HALLEY_SHARED/app.db",
        "",
    );
    let mut command = world.command(&["restore", "web", "--yes", "--json"]);
    let client = command.stdout(Stdio::piped()).spawn().unwrap();
    let aside = world.service_path(".shared.before-restore/app.db");
    world.wait("it is set aside", |_| aside.exists());
    let held = fs::File::open(&aside).unwrap();
    fs::write(world.service_path("go"), "").unwrap();
    let output = client.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(10), "{said}");
    assert!(
        said.contains("the data is in use") && said.contains(".shared.before-restore"),
        "{said}"
    );
    drop(held);
    assert_eq!(count(&world), "3");
}

#[test]
fn what_an_earlier_restore_has_left_does_not_undo_a_later_one() {
    let world = restored_by("rm $HALLEY_SHARED/app.db; exit 3", "paths = [\"app.db\"]");
    // That there was no database when this backup was restored before.
    let id = newest_backup(&world);
    let path = world.service_path("shared/app.db").canonicalize().unwrap();
    let free = format!("free-{:016x}", mark::hash(path.as_os_str().as_encoded_bytes()));
    let left = world.service_path(&format!("scratch/{id}.staged"));
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join(free), "").unwrap();
    let why = world.cli(&["restore", "web", "--yes", "--json"]).expect(15).why();
    assert!(why.contains("the previous data is back; "), "{why}");
    assert_eq!(count(&world), "3");
}
