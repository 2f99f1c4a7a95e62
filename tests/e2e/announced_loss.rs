//! What a restore announces as lost. Clients that come for a moment (a timer, a shell, an upload) after
//! it has counted: what they were promised is not thrown away unsaid.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::any_database::{MariaDb, mariadb_build};
use crate::ledger_app::{
    BACKUP, Build, Store, add, count, database, get, is_swept, newest_backup, save_rows, world,
};
use crate::mount::Mount;
use crate::postgres;
use crate::world::World;

/// A restore of this backup, with what is done as soon as it has counted; its last line.
fn restored(world: &World, old: &str, more: &[&str], meanwhile: &dyn Fn()) -> (i32, String) {
    let words = [&["restore", "web", "--backup", old, "--yes", "--json"], more].concat();
    let mut command = world.command(&words);
    let mut client = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut said = String::new();
    let mut is_done = false;
    for line in BufReader::new(client.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if !is_done && line.contains("\"phase\":\"count\"") {
            meanwhile();
            is_done = true;
        }
        said.push_str(&line);
        said.push('\n');
    }
    assert!(is_done, "{said}");
    (client.wait().unwrap().code().unwrap(), said)
}

/// Two rows and a backup of the first: `meanwhile` commits a third.
fn is_kept(world: &World, build: &Build<'_>, meanwhile: &dyn Fn()) {
    world.release_path(&build.write(world)).expect(0);
    add(world, 1);
    world.cli(&["backup", "web"]).expect(0);
    let old = newest_backup(world);
    add(world, 1);
    let (code, said) = restored(world, &old, &[], meanwhile);
    assert_eq!(code, 10, "{said}");
    assert!(said.contains("more would be lost than was announced: "), "{said}");
    assert!(said.contains("rows: 2 more now (3, 1 in the backup)"), "{said}");
    assert!(said.contains("the previous data is back"), "{said}");
    world.wait("it answers", |world| get(world.address, "/count").is_ok());
    assert_eq!(count(world), "3", "the row is there");
    world.wait("scratch is swept", is_swept);
    let (code, said) = restored(world, &old, &["--any-loss"], meanwhile);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("rows: 3 more now (4, 1 in the backup)"), "{said}");
    assert_eq!(count(world), "1");
}

#[test]
fn a_row_that_came_into_sqlite_meanwhile_is_not_lost_unsaid() {
    let world = world(BACKUP);
    let insert = || {
        let mut command = Command::new("sqlite3");
        command
            .arg(database(&world))
            .arg("PRAGMA busy_timeout = 20000; INSERT INTO rows (note) VALUES (1)");
        assert!(command.status().unwrap().success());
    };
    is_kept(&world, &Build::default(), &insert);
}

#[test]
fn a_row_that_came_into_postgres_meanwhile_is_not_lost_unsaid() {
    let server = postgres::Server::start();
    let world = postgres::world(&server);
    let insert = || drop(server.sql_in("app", "INSERT INTO rows (note) VALUES (1)").unwrap());
    is_kept(&world, &postgres::build(0), &insert);
    let lets_in = "SELECT bool_and(datallowconn) FROM pg_database WHERE datname LIKE 'app%'";
    assert_eq!(server.sql(lets_in).unwrap(), "t");
}

#[test]
fn a_row_that_came_into_mariadb_meanwhile_is_not_lost_unsaid() {
    let server = MariaDb::start();
    let world = server.world();
    let insert = || drop(server.sql("INSERT INTO app.`rows` (note) VALUES (1)").unwrap());
    is_kept(&world, &mariadb_build(0), &insert);
}

#[test]
fn a_file_that_was_uploaded_meanwhile_is_not_lost_unsaid() {
    let world = World::with("[service.web.backup]\ndriver = \"files\"\npath = \"tree\"");
    world.wait("shared", |world| world.service_path("shared").is_dir());
    let tree = world.service_path("shared/tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("old"), "old").unwrap();
    world.release(&[]).expect(0);
    world.cli(&["backup", "web"]).expect(0);
    let old = newest_backup(&world);
    // A number of files says nothing: one is gone, another one comes.
    fs::remove_file(tree.join("old")).unwrap();
    let upload = || fs::write(tree.join("upload"), "new").unwrap();
    let (code, said) = restored(&world, &old, &[], &upload);
    assert_eq!(code, 10, "{said}");
    assert!(said.contains("more would be lost than was announced: "), "{said}");
    assert_eq!(fs::read_to_string(tree.join("upload")).unwrap(), "new");
    let (code, said) = restored(&world, &old, &[], &|| {});
    assert_eq!(code, 0, "{said}");
    assert!(!tree.join("upload").exists() && tree.join("old").exists());
}

#[test]
fn what_a_count_does_not_see_is_not_called_no_loss() {
    let world = world(BACKUP);
    save_rows(&world, Store::Sqlite, 1);
    // Each row is another one now.
    let mut command = Command::new("sqlite3");
    command.arg(database(&world)).arg("UPDATE rows SET note = 'order'");
    assert!(command.status().unwrap().success());
    let said = world.cli(&["restore", "web", "--dry-run"]).expect(0).stdout;
    let seen = "no table has more rows now; rows that were changed or replaced since are not seen";
    assert!(said.contains(&format!("this would be lost:\n  {seen}")), "{said}");
    let why = world.cli(&["restore", "web", "--json"]).expect(2).why();
    assert!(why.contains(&format!("this would be lost: {seen}")), "{why}");
    add(&world, 1);
    let said = world.cli(&["restore", "web", "--dry-run"]).expect(0).stdout;
    let unseen = "rows that were changed or replaced since are not seen";
    assert!(said.contains(&format!("(2, 1 in the backup)\n  {unseen}")), "{said}");
}

#[test]
fn with_a_command_it_is_said_that_the_loss_is_not_known() {
    let world = world(
        "[service.web.backup]\ndriver = \"command\"\n\
         take = [\"/bin/sh\", \"-c\", \"cp $HALLEY_SHARED/app.db $HALLEY_BACKUP_DIR\"]\n\
         restore = [\"/bin/sh\", \"-c\", \"cp $HALLEY_BACKUP_DIR/app.db $HALLEY_SHARED\"]",
    );
    world.release_path(&Build::default().write(&world)).expect(0);
    world.cli(&["backup", "web"]).expect(0);
    add(&world, 1);
    let said = world.cli(&["restore", "web", "--dry-run"]).expect(0).stdout;
    assert!(said.contains("this would be lost:\n  not known with the driver command"), "{said}");
}

/// The operator's `rm`, at night: the program has the only copy, until it ends.
#[test]
fn a_database_that_is_deleted_and_still_open_is_not_taken_from_its_program() {
    let world = World::with("[service.web.backup]\ndriver = \"sqlite\"\npath = \"app.db\"");
    world.wait("shared", |world| world.service_path("shared").is_dir());
    let live = database(&world);
    let sqlite = |path: &std::path::Path, script: &str| {
        let said = Command::new("sqlite3").arg(path).arg(script).output().unwrap();
        String::from_utf8_lossy(&said.stdout).into_owned()
    };
    sqlite(&live, "CREATE TABLE rows (note TEXT); INSERT INTO rows VALUES (1)");
    world.release(&[]).expect(0);
    world.cli(&["backup", "web"]).expect(0);
    sqlite(&live, "INSERT INTO rows VALUES (2)");
    let script = "exec 9<\"$1\"; rm \"$1\"; echo ready; read -r _";
    let mut holder = Command::new("sh");
    holder.args(["-c", script, "sh"]).arg(&live).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut holder = holder.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let pid = world.live_pid();
    for word in ["--yes", "--dry-run"] {
        let said = world.cli(&["restore", "web", word, "--json"]).expect(10);
        let told = format!("it is deleted, and still open: sh (pid {}, user ", holder.id());
        assert!(said.why().contains(&told), "{}", said.why());
        assert_eq!(world.live_pid(), pid, "nothing was stopped");
        assert!(!live.exists(), "no empty one is made");
        let next = said.result()["next"][0].as_str().unwrap().to_owned();
        assert!(Command::new("sh").args(["-c", &next]).status().unwrap().success(), "{next}");
    }
    let saved = world.service_path("shared/app.db.saved");
    assert_eq!(sqlite(&saved, "SELECT count(*) FROM rows"), "2\n");
    world.cli(&["restore", "web", "--yes", "--unsaved", "--json"]).expect(0);
    assert_eq!(sqlite(&live, "SELECT count(*) FROM rows"), "1\n");
    holder.kill().unwrap();
    holder.wait().unwrap();
}

#[test]
fn what_cannot_be_renamed_is_refused_before_anything_is_stopped_and_by_a_dry_run() {
    let world = World::with("[service.web.backup]\ndriver = \"sqlite\"\npath = \"app.db\"");
    world.wait("shared", |world| world.service_path("shared").is_dir());
    let live = database(&world);
    let run = |program: &str, words: &[&str]| {
        let status = Command::new(program).args(words).status().unwrap();
        assert!(status.success(), "{program} {words:?}");
    };
    let name = live.to_string_lossy();
    run("sqlite3", &[&name, "CREATE TABLE rows (note TEXT); INSERT INTO rows VALUES (1)"]);
    world.release(&[]).expect(0);
    world.cli(&["backup", "web"]).expect(0);
    let pid = world.live_pid();
    let refused = |told: &str| {
        for word in ["--yes", "--dry-run"] {
            let why = world.cli(&["restore", "web", word, "--json"]).expect(15).why();
            assert!(why.contains(told), "{why}");
            assert_eq!(world.live_pid(), pid, "nothing was stopped");
        }
    };
    let mount = Mount::of(&["--bind", &name], &live);
    refused("mount");
    drop(mount);
    let journal = format!("{name}-wal");
    fs::write(&journal, "").unwrap();
    run("chattr", &["+i", &journal]);
    let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        refused("app.db-wal: it is immutable or append-only");
    }));
    run("chattr", &["-i", &journal]);
    if let Err(panic) = told {
        std::panic::resume_unwind(panic);
    }
    world.cli(&["restore", "web", "--yes", "--json"]).expect(0);
}

#[test]
fn a_prepared_transaction_is_named_before_anything_is_stopped() {
    let server = postgres::Server::start();
    let world = postgres::world(&server);
    world.release_path(&postgres::build(0).write(&world)).expect(0);
    add(&world, 1);
    world.cli(&["backup", "web"]).expect(0);
    let held = "BEGIN; CREATE TABLE held (id INT); PREPARE TRANSACTION 'held'";
    server.sql_in("app", held).unwrap();
    let pid = world.live_pid();
    for word in ["--yes", "--dry-run"] {
        let why = world.cli(&["restore", "web", word, "--json"]).expect(15).why();
        assert!(why.contains("has prepared transactions") && why.contains("'held'"), "{why}");
    }
    assert_eq!(world.live_pid(), pid, "nothing was stopped");
    server.sql_in("app", "ROLLBACK PREPARED 'held'").unwrap();
    world.cli(&["restore", "web", "--yes", "--json"]).expect(0);
}
