//! A SQLite database with what only its program brings.

use std::fs;
use std::process::Command;

use crate::any_database::detail;
use crate::ledger_app::{self, BACKUP, Build, Store, database, is_swept, serve_rows};

/// As Python has them: the tool cannot check what they are in, and everything else is checked.
#[test]
fn what_only_the_program_knows_is_counted_and_named_as_not_checked() {
    let world = ledger_app::world(BACKUP);
    serve_rows(&world, Store::Sqlite, 1);
    let script = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1])\n\
                  db.create_collation('own', lambda a, b: (a > b) - (a < b))\n\
                  db.create_function('twice', 1, lambda n: 2 * n, deterministic=True)\n\
                  db.executescript('CREATE TABLE names (name TEXT COLLATE own PRIMARY KEY); \
                  CREATE TABLE sums (n INT); CREATE INDEX doubled ON sums (twice(n)); \
                  INSERT INTO names VALUES (1), (2); INSERT INTO sums VALUES (1), (2), (3)')\n";
    let live = database(&world);
    let made = Command::new("python3").args(["-c", script]).arg(&live).status().unwrap();
    assert!(made.success());
    let said =
        world.release_path(&Build { version: 1, ..Build::default() }.write(&world)).expect(0);
    let rehearsed = detail(&said, "restore_rehearsal");
    for expected in [
        "6 rows in 3 tables, not checked: 'names' (no such collation sequence: own)",
        "not checked: 'sums' (unknown function: twice())",
    ] {
        assert!(rehearsed.contains(expected), "{rehearsed}");
    }
    // All the rest is checked: the first page after the schema's is that of the rows.
    let mut bytes = fs::read(&live).unwrap();
    let page = usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
    bytes[page + 3..page + 5].copy_from_slice(&[0, 200]);
    fs::write(&live, bytes).unwrap();
    let said = world.cli(&["backup", "web", "--json"]).expect(15);
    assert!(said.why().contains("integrity_check: *** in database main"), "{}", said.why());
    assert!(is_swept(&world));
}
