//! The first look at data that others made: where it is, what its tables are called.

use std::fs;

use crate::ledger_app::{BACKUP, Build, database, get, is_swept, world};
use crate::migrations::{backups, detail, migrates_by, sqlite, with_rows};

/// A mistyped `backup.path` is not "no data yet": the migration would change data without a backup.
#[test]
fn data_beside_a_wrong_path_is_found_before_the_first_migration() {
    for wrong in ["typo.db", "nowhere/app.db"] {
        let world = world(&BACKUP.replace("app.db", wrong));
        with_rows(&world, 1000);
        let before = fs::read(database(&world)).unwrap();
        let build = Build { version: 1, ..Build::default() };
        let said = world.release_path(&build.write(&world)).expect(15);
        assert!(said.why().contains("the migration changes app.db"), "{}", said.why());
        assert_eq!(fs::read(database(&world)).unwrap(), before);
        assert!(is_swept(&world));
    }
    // Where there is none, it is tried and runs.
    let world = world(BACKUP);
    let build = Build { version: 1, ..Build::default() }.write(&world);
    migrates_by(
        &build,
        "db.migrate(1, 'CREATE TABLE rows (id INTEGER PRIMARY KEY, note TEXT, c1 TEXT)')",
    );
    let said = world.release_path(&build).expect(0);
    let told = detail(&said, "restore_rehearsal");
    assert_eq!(told, "ok: the migration runs where there is no data");
    assert_eq!(get(world.address, "/count").unwrap(), "0");
    assert!(is_swept(&world));
}

/// A name may hold anything: it must never be read as a statement.
#[test]
fn no_name_of_a_table_is_executed() {
    let world = world(BACKUP);
    with_rows(&world, 5);
    let planted = world.path("planted");
    let create = format!(
        "CREATE TABLE \"x\n01; DELETE FROM rows; --\" (a); \
         CREATE TABLE \"y\n01; SELECT writefile('{}', 1); --\" (a); \
         CREATE TABLE \"new\nline\" (a); CREATE TABLE 'a\"b' (a); CREATE TABLE \"c'd | 7\" (a); \
         INSERT INTO \"new\nline\" VALUES (1), (2);",
        planted.display()
    );
    sqlite(&database(&world), &create);
    let build = Build { version: 1, ..Build::default() }.write(&world);
    let said = world.release_path(&build).expect(0);
    let counted = detail(&said, "restore_rehearsal");
    assert!(counted.starts_with("ok: 7 rows in 6 tables"), "{counted}");
    assert_eq!(backups(&world)[0]["counts"]["new\\nline"], 2);
    assert_eq!(get(world.address, "/count").unwrap(), "5");
    assert!(!planted.exists());
}

/// Only what was looked for and is not there is no data yet.
#[test]
fn a_database_that_cannot_be_backed_up_is_not_called_no_data() {
    let world = world(BACKUP);
    fs::write(database(&world), [7; 9000]).unwrap();
    let said = world.release_path(&Build::default().write(&world)).expect(15);
    assert!(said.why().contains("not a database"), "{}", said.why());
}
