//! Restores by a command: over when all of it is, a success only when it leaves something.

use std::fs;
use std::process::Stdio;

use crate::ledger_app::{Build, add, count, newest_backup, world};
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
    world.release_path(&Build::default().write(&world)).expect(0);
    add(&world, 1);
    world.cli(&["backup", "web"]).expect(0);
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
    assert!(why.contains("backup.restore reported success, but wrote nothing"), "{why}");
    assert_eq!(count(&world), "3");
}

#[test]
fn a_restore_takes_the_place_of_one_that_can_not_be_undone() {
    let world = restored_by(
        "[ ! -e $HALLEY_SHARED/../broken ] || { rm -f $HALLEY_SHARED/*; exit 3; }; \
         cp $HALLEY_BACKUP_DIR/dump $HALLEY_SHARED/app.db",
        "",
    );
    let old = newest_backup(&world);
    fs::write(world.service_path("broken"), "").unwrap();
    world.cli(&["restore", "web", "--yes", "--json"]).expect(15);
    let saved = newest_backup(&world);
    // This one fails as well: what comes back is still that of before the first.
    let said = world.cli(&["restore", "web", "--backup", &old, "--yes", "--json"]).expect(15);
    assert_eq!(newest_backup(&world), saved);
    assert!(said.why().contains(&format!("is in backup {saved}")), "{}", said.why());
    world.cli(&["stop", "web"]).expect(0);
    fs::remove_file(world.service_path("broken")).unwrap();
    world.cli(&["start", "web"]).expect(0);
    assert_eq!(count(&world), "3");
}
