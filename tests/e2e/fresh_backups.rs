//! `backup.max_age`: a release uses a backup that is fresh enough, says so, and uses none that is of
//! other data.

use std::fs;

use serde_json::{Value, json};

use crate::ledger_app::{BACKUP, Build, Store, add, count, newest_backup, save_rows, world};
use crate::world::{Said, World};

type Change = fn(&mut Value);

const USED: &str = "within backup.max_age: no new one";

/// A service with a backup of one row, and one more row since.
fn world_with_a_backup() -> World {
    let world = world(&format!("{BACKUP}\nmax_age = \"1h\""));
    save_rows(&world, Store::Sqlite, 1);
    add(&world, 1);
    world
}

fn release(world: &World) -> Said {
    world.release_path(&Build::default().write(world))
}

fn receipt(world: &World, id: &str) -> std::path::PathBuf {
    world.service_path(&format!("backups/{id}/receipt.json"))
}

/// Changes the receipt of a backup.
fn edit(world: &World, id: &str, change: impl FnOnce(&mut Value)) {
    let path = receipt(world, id);
    let mut value: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    fs::write(&path, value.to_string()).unwrap();
}

#[test]
fn a_release_uses_a_fresh_backup_and_says_how_old_it_is() {
    let world = world_with_a_backup();
    let id = newest_backup(&world);
    let build = Build { version: 1, ..Build::default() }.write(&world);
    let path = build.to_string_lossy().into_owned();
    let plan = world.cli(&["release", "web", &path, "--dry-run"]).expect(0);
    assert!(plan.stdout.contains(USED) && plan.stdout.contains(&id), "{}", plan.stdout);
    let said = release(&world).expect(0);
    assert!(said.stdout.contains(USED) && said.stdout.contains(&id), "{}", said.stdout);
    assert!(said.stdout.contains("the new release runs on it"), "{}", said.stdout);
    assert_eq!(newest_backup(&world), id);
    assert!(!said.result()["warnings"].to_string().contains("should it be restored"));
    // A restore of it says what is lost, as always.
    let said = world.cli(&["restore", "web", "--dry-run", "--json"]).expect(0);
    assert!(said.stdout.contains("rows: 1 more now (2, 1 in the backup)"), "{}", said.stdout);
    // A migration on top of it: the rehearsal is on that backup, and the warning is said.
    let said = world.release_path(&build).expect(0);
    assert!(said.stdout.contains(USED) && said.stdout.contains("migrated in"), "{}", said.stdout);
    let warnings = said.result()["warnings"].to_string();
    assert!(warnings.contains("what was written since is lost"), "{warnings}");
    // It is of before the migration.
    let said = world.release_path(&build).expect(0);
    assert!(!said.stdout.contains(USED), "{}", said.stdout);
    assert_ne!(newest_backup(&world), id);
    let said = world.release_path(&build).expect(0);
    assert!(said.stdout.contains(USED), "{}", said.stdout);
    assert_eq!(count(&world), "2");
}

#[test]
fn what_is_old_or_of_other_data_is_not_used() {
    let world = world_with_a_backup();
    let cases: [(&str, Change); 6] = [
        ("the clock went backwards", |value| value["at"] = json!("2999-01-01T00:00:00Z")),
        ("it is old", |value| value["at"] = json!("2001-01-01T00:00:00Z")),
        ("of a later moment of this boot", |value| value["taken"]["tick_ms"] = json!(u64::MAX)),
        ("it was never restored", |value| value["rehearsed"] = Value::Null),
        ("another schema", |value| value["schema"] = json!("7")),
        ("of before that was recorded", |value| value["source"] = Value::Null),
    ];
    for (what, change) in cases {
        let id = newest_backup(&world);
        edit(&world, &id, change);
        // Only the newest: older ones of the cases before are none either.
        let said = release(&world).expect(0);
        assert!(!said.stdout.contains(USED), "{what}: {}", said.stdout);
        assert_ne!(newest_backup(&world), id, "{what}");
        let said = release(&world).expect(0);
        assert!(said.stdout.contains(USED), "{what}: {}", said.stdout);
    }
    // Another database.
    let config = fs::read_to_string(world.path("halley.toml")).unwrap();
    fs::copy(world.service_path("shared/app.db"), world.service_path("shared/b.db")).unwrap();
    world.reload(&config.replace("path = \"app.db\"", "path = \"b.db\""));
    let said = release(&world).expect(0);
    assert!(!said.stdout.contains(USED), "{}", said.stdout);
    world.reload(&config);
    // Without the key each release takes its own.
    world.reload(&config.replace("max_age = \"1h\"", ""));
    let said = release(&world).expect(0);
    assert!(!said.stdout.contains(USED), "{}", said.stdout);
}

#[test]
fn after_a_restore_no_backup_of_before_is_used() {
    for unsaved in [false, true] {
        let world = world_with_a_backup();
        let words = ["restore", "web", "--yes", "--unsaved"];
        world.cli(if unsaved { &words } else { &words[..3] }).expect(0);
        assert_eq!(count(&world), "1");
        let newest = newest_backup(&world);
        let said = release(&world).expect(0);
        assert!(!said.stdout.contains(USED), "{}", said.stdout);
        assert_ne!(newest_backup(&world), newest);
    }
}

#[test]
fn a_fresh_backup_that_is_damaged_stops_one_release_and_no_other() {
    let world = world_with_a_backup();
    let id = newest_backup(&world);
    let copy = world.service_path(&format!("backups/{id}/data/copy.db"));
    let mut bytes = fs::read(&copy).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&copy, bytes).unwrap();
    let said = release(&world).expect(15);
    assert!(said.why().contains("is damaged"), "{}", said.why());
    let said = release(&world).expect(0);
    assert!(!said.stdout.contains(USED), "{}", said.stdout);
}
