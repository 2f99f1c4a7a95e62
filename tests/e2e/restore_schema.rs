//! A backup of another schema than the release that serves accepts: it is migrated by that release, tried
//! on a copy first, or nothing is touched.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::ledger_app::{
    BACKUP, Build, Store, Writers, add, count, database, entries, get, is_swept, newest_backup,
    save_rows, serve_rows, world,
};
use crate::postgres;
use crate::world::World;

const ONLY_2: &str = "[schema]\nprovides = \"2\"\naccepts = [\"2\"]";

/// A release that runs on schema 2 alone. On live data its migration fails half done as long as there is
/// a file `refuse`, and waits half done for the end of a file `hold`.
fn strict(world: &World, store: Store) -> PathBuf {
    let build = Build { version: 2, needs: "id,c2", schema: ONLY_2, store, ..Build::default() };
    let dir = build.write(world);
    let text = fs::read_to_string(dir.join("migrate.py")).unwrap();
    let quirk = r#"
def flag(name): return not on_copy and os.path.exists(os.path.join(shared, "..", name))
if flag("refuse") or flag("hold"):
    db.migrate(999, "ALTER TABLE rows ADD COLUMN half TEXT")
    if flag("refuse"): sys.exit("the live migration said no")
    open(os.path.join(shared, "..", "half"), "w").close()
    while flag("hold"): time.sleep(0.02)
    db.migrate(998, "ALTER TABLE rows ADD COLUMN late TEXT")
version = int(sys.argv[1])
"#;
    fs::write(dir.join("migrate.py"), text.replace("\nversion = int(sys.argv[1])\n", quirk))
        .unwrap();
    dir
}

/// A service with one row of schema 0 in a backup, and three of schema 2 live.
fn world_of_two_schemas() -> (World, String) {
    let world = keeping_all();
    let old = two_schemas(&world, Store::Sqlite);
    (world, old)
}

fn keeping_all() -> World {
    world(&BACKUP.replace("keep = 3", "keep = 9"))
}

fn two_schemas(world: &World, store: Store) -> String {
    save_rows(world, store, 1);
    let old = newest_backup(world);
    world.release_path(&Build { version: 1, store, ..Build::default() }.write(world)).expect(0);
    world.release_path(&strict(world, store)).expect(0);
    add(world, 2);
    old
}

fn version(world: &World) -> String {
    let mut command = Command::new("sqlite3");
    let said = command.arg(database(world)).arg("PRAGMA user_version").output().unwrap();
    String::from_utf8_lossy(&said.stdout).trim().to_owned()
}

fn inode(world: &World) -> u64 {
    database(world).metadata().unwrap().ino()
}

/// A restore whose live migration is half done.
fn half_done(world: &World, old: &str) -> Child {
    fs::write(world.service_path("hold"), "").unwrap();
    let mut command = world.command(&["restore", "web", "--backup", old, "--yes"]);
    let client = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    world.wait("the migration is half done", |world| world.service_path("half").exists());
    fs::remove_file(world.service_path("half")).unwrap();
    client
}

/// What was there is there: nothing of the migration, and nobody who goes on with it.
#[track_caller]
fn check_as_before(world: &World, before: u64) {
    world.wait("it answers", |world| get(world.address, "/count").is_ok());
    assert_eq!(
        (inode(world), count(world), version(world)),
        (before, "3".to_owned(), "2".to_owned())
    );
    let is_migration = |pid: &i32| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline"));
        line.is_ok_and(|line| line.contains("migrate.py"))
    };
    assert_eq!(world.left_behind().iter().find(|pid| is_migration(pid)), None);
    world.wait("scratch is swept", is_swept);
    world.wait("nothing beside it", |world| entries(&world.service_path("shared")) == 1);
}

#[test]
fn an_older_backup_is_migrated_by_the_release_that_serves() {
    let (world, old) = world_of_two_schemas();
    let (pid, before) = (world.live_pid(), inode(&world));
    let said = world.cli(&["restore", "web", "--backup", &old, "--dry-run"]).expect(0);
    let told = "migration: schema 0 is migrated to 2 by release 3";
    assert!(said.stdout.contains(told), "{}", said.stdout);
    assert_eq!((world.live_pid(), inode(&world)), (pid, before), "nothing was touched");
    let writers = Writers::start(world.address);
    world.wait("rows come in", |_| writers.n_acked() > 2);
    let words = ["restore", "web", "--backup", &old, "--yes", "--any-loss", "--json"];
    let said = world.cli(&words).expect(0);
    let (_, errors) = writers.stop();
    assert_eq!(errors, [""; 0], "{}", world.run_log());
    let migrated = "\"phase\":\"migrate\",\"state\":\"ok\"";
    assert!(said.stdout.contains(migrated), "{}", said.stdout);
    assert_eq!(version(&world), "2");
    assert_eq!(get(world.address, "/healthz").unwrap(), "ok");
    // It is known for the next release, which has nothing to migrate.
    world.release_path(&strict(&world, Store::Sqlite)).expect(0);
    let listed = world.cli(&["backup", "web", "--list", "--json"]).expect(0).stdout;
    assert!(listed.lines().next().unwrap().contains("\"schema\":\"2\""), "{listed}");
}

#[test]
fn a_backup_that_no_migration_leads_from_is_refused_before_anything_is_stopped() {
    let world = keeping_all();
    serve_rows(&world, Store::Sqlite, 1);
    world.release_path(&Build { version: 1, ..Build::default() }.write(&world)).expect(0);
    world.cli(&["backup", "web"]).expect(0);
    let old = newest_backup(&world);
    world.release_path(&strict(&world, Store::Sqlite)).expect(0);
    world.cli(&["backup", "web"]).expect(0);
    let fits = newest_backup(&world);
    // The same without a migration.
    let plain = Build::default().write(&world);
    let text = fs::read_to_string(plain.join("release.toml")).unwrap();
    fs::write(plain.join("release.toml"), format!("{text}{ONLY_2}\n")).unwrap();
    world.release_path(&plain).expect(0);
    let (pid, before) = (world.live_pid(), inode(&world));
    for last in ["--dry-run", "--yes"] {
        let said = world.cli(&["restore", "web", "--backup", &old, last, "--json"]).expect(10);
        let why = said.why();
        let told = "the backup has schema 1, release 4 accepts 2, and it has no migration";
        assert!(why.contains(told), "{why}");
        let result = said.result();
        let next = if result["trouble"].is_null() { &result } else { &result["trouble"] };
        let next = next["next"].to_string();
        assert!(next.contains("restore web --backup "), "{next}");
        // It accepts 0, 1 and 2: it runs on the data as it is, and on that of the backup.
        assert!(next.contains("rollback web --to 2"), "{next}");
    }
    assert_eq!((world.live_pid(), inode(&world)), (pid, before), "nothing was stopped");
    world.cli(&["restore", "web", "--backup", &fits, "--yes"]).expect(0);
}

#[test]
fn a_migration_that_fails_on_the_copy_stops_nothing() {
    let (world, old) = world_of_two_schemas();
    let fails = Build {
        version: 2,
        needs: "id,c2",
        schema: ONLY_2,
        quirks: &["copy:fail"],
        ..Build::default()
    };
    world.release_path(&fails.write(&world)).expect(0);
    let (pid, before) = (world.live_pid(), inode(&world));
    let said = world.cli(&["restore", "web", "--backup", &old, "--yes", "--json"]).expect(10);
    let why = said.why();
    assert!(why.contains("the backup has schema 0, release 4 accepts 2"), "{why}");
    assert!(why.contains("the migration said no"), "{why}");
    assert_eq!((world.live_pid(), inode(&world)), (pid, before), "nothing was stopped");
    assert!(is_swept(&world));
}

#[test]
fn a_migration_that_fails_on_restored_data_brings_back_what_was_there() {
    let (world, old) = world_of_two_schemas();
    let before = inode(&world);
    fs::write(world.service_path("refuse"), "").unwrap();
    let said = world.cli(&["restore", "web", "--backup", &old, "--yes", "--json"]).expect(16);
    let why = said.why();
    assert!(why.contains("the live migration said no"), "{why}");
    assert!(why.contains("the previous data is back"), "{why}");
    check_as_before(&world, before);
    fs::remove_file(world.service_path("refuse")).unwrap();
    world.cli(&["restore", "web", "--backup", &old, "--yes"]).expect(0);
    assert_eq!((count(&world), version(&world)), ("1".to_owned(), "2".to_owned()));
}

#[test]
fn a_supervisor_that_is_killed_in_the_migration_leaves_the_data_as_it_was() {
    let (mut world, old) = world_of_two_schemas();
    let before = inode(&world);
    let mut client = half_done(&world, &old);
    world.kill_supervisor();
    drop(client.wait());
    world.wait("it is over", |world| !world.service_path("restore.json").exists());
    fs::remove_file(world.service_path("hold")).unwrap();
    check_as_before(&world, before);
    // With the keeper too the migration goes on without anybody.
    let mut client = half_done(&world, &old);
    world.power_cut_sparing(|line| line.contains("migrate.py"));
    drop(client.wait());
    world.wake();
    world.wait("it is over", |world| !world.service_path("restore.json").exists());
    fs::remove_file(world.service_path("hold")).unwrap();
    check_as_before(&world, before);
    world.cli(&["restore", "web", "--backup", &old, "--yes"]).expect(0);
    assert_eq!((count(&world), version(&world)), ("1".to_owned(), "2".to_owned()));
}

#[test]
fn an_older_backup_of_postgres_is_migrated_too() {
    let server = postgres::Server::start();
    let world = postgres::world(&server);
    let old = two_schemas(&world, Store::Postgres);
    fs::write(world.service_path("refuse"), "").unwrap();
    let words = ["restore", "web", "--backup", &old, "--yes", "--json"];
    let why = world.cli(&words).expect(16).why();
    assert!(why.contains("the previous data is back"), "{why}");
    world.wait("it answers", |world| get(world.address, "/count").is_ok());
    assert_eq!(count(&world), "3");
    fs::remove_file(world.service_path("refuse")).unwrap();
    let said = world.cli(&words).expect(0);
    assert!(said.stdout.contains("schema 0 is migrated to 2 by release 3"), "{}", said.stdout);
    assert_eq!(count(&world), "1");
    let now = server.sql_in("app", "SELECT max(version) FROM schema_version").unwrap();
    assert_eq!(now, "2");
}
