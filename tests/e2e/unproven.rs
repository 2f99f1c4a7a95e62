//! Data that a release has migrated, and older releases that do not run on it.

use std::fs;
use std::path::Path;

use crate::ledger_app::{BACKUP, Build, get, world_of};

/// The release before fails as well, and the one before that does not run on the migrated data.
#[test]
fn a_rollback_passes_over_what_does_not_accept_the_data_by_then() {
    let world = world_of(|_| BACKUP.to_owned(), "25s", "strategy = \"hold\"\n");
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
