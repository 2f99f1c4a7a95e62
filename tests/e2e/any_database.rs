//! Data of every kind: databases with extensions, servers, and the documented recipes of the driver
//! `command` as they stand in the reference.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use halley_sup::docs;

use crate::databases;
use crate::ledger_app::{self, BACKUP, Build, database, get, is_swept};
use crate::world::{Said, World};

/// What a phase of a release said.
fn detail(said: &Said, phase: &str) -> String {
    let lines = said.stdout.lines().filter_map(|line| serde_json::from_str(line).ok());
    let mut of_phase =
        lines.filter(|line: &serde_json::Value| line["phase"] == phase && line["state"] != "start");
    of_phase.next_back().map_or_else(String::new, |line| line["detail"].to_string())
}

fn why(said: &Said) -> String {
    said.result()["trouble"]["why"].as_str().unwrap_or_default().to_owned()
}

/// The lines of the reference for this driver, for the service `web`.
fn recipe(header: &str) -> String {
    let page = docs::TOPICS.iter().find(|topic| topic.name == "data").unwrap().text;
    let at = page.find(&format!("[service.{header}.backup]")).unwrap();
    let lines = page[at..].split("```").next().unwrap();
    lines.replace(&format!("[service.{header}."), "[service.web.")
}

#[test]
fn a_table_of_an_extension_that_the_tool_lacks_is_not_counted() {
    let world = ledger_app::world(BACKUP);
    world.release_path(&Build::default().write(&world)).expect(0);
    get(world.address, "/add").unwrap();
    // As it is left by a program that has loaded the extension.
    let script = "PRAGMA writable_schema = 1; INSERT INTO sqlite_schema VALUES ('table', 'my places', \
                  'my places', 0, 'CREATE VIRTUAL TABLE \"my places\" USING vec0(at float[3])'); \
                  CREATE VIRTUAL TABLE docs USING fts5(body); INSERT INTO docs VALUES ('a');";
    let said = Command::new("sqlite3").arg(database(&world)).arg(script).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let said =
        world.release_path(&Build { version: 1, ..Build::default() }.write(&world)).expect(0);
    let rehearsed = detail(&said, "restore_rehearsal");
    let expected = "not counted: 'my places' (no such module: vec0)";
    assert!(rehearsed.contains(expected), "{rehearsed}");
    let said = world.cli(&["backup", "web", "--json"]).expect(0);
    assert!(said.stdout.contains(expected), "{}", said.stdout);
    let listed = world.cli(&["backup", "web", "--list", "--json"]).expect(0).result();
    assert_eq!((&listed["counts"]["rows"], &listed["counts"]["docs"]), (&1.into(), &1.into()));
    get(world.address, "/add").unwrap();
    world.cli(&["restore", "web", "--yes", "--json"]).expect(0);
    assert_eq!(get(world.address, "/count").unwrap(), "1");
    assert!(is_swept(&world));
}

/// Redis as the service, by the recipe of the reference.
#[test]
fn redis_is_backed_up_checked_and_restored_by_the_recipe() {
    let check = "exec = [\"redis-cli\", \"-p\", \"{probe_port}\", \"-e\", \"GET\", \"n\"]";
    let world = databases::world("", check);
    let port = world.address.port().to_string();
    let shared = world.service_path("shared");
    let dir = shared.to_string_lossy();
    let words = ["redis-server", "--port", &port, "--bind", "127.0.0.1", "--dir", &dir];
    let words = [&words[..], &["--unixsocket", "redis.sock"]].concat();
    world.release_path(&world.build_of(&words)).expect(0);
    let redis = |words: &[&str]| {
        let said = Command::new("redis-cli").args(["-p", &port]).args(words).output().unwrap();
        String::from_utf8_lossy(&said.stdout).trim().to_owned()
    };
    for n in 0..50 {
        redis(&["SET", &format!("key{n}"), "value"]);
    }
    let text = fs::read_to_string(world.path("halley.toml")).unwrap();
    let lines = recipe("cache");
    world.reload(&format!("{text}\n{lines}"));
    let said = world.release_path(&world.build_of(&words)).expect(0);
    assert!(detail(&said, "restore_rehearsal").contains("checked"), "{}", said.stdout);
    assert_eq!(redis(&["DBSIZE"]), "50");
    world.cli(&["backup", "web", "--json"]).expect(0);
    redis(&["DEL", "key1"]);
    redis(&["SET", "later", "value"]);
    world.cli(&["restore", "web", "--yes", "--json"]).expect(0);
    assert_eq!((redis(&["DBSIZE"]), redis(&["GET", "key1"])), ("50".into(), "value".into()));
    // What Redis could not read is no backup.
    let cut =
        lines.replace("\nelif", "\n    truncate -s 300 \"$HALLEY_BACKUP_DIR/dump.rdb\"\nelif");
    assert_ne!(cut, lines);
    world.reload(&format!("{text}\n{cut}"));
    let said = world.release_path(&world.build_of(&words)).expect(15);
    assert!(why(&said).contains("backup.check"), "{}", why(&said));
    assert_eq!(redis(&["DBSIZE"]), "50");
    assert!(is_swept(&world));
}

/// Every file below a directory: any restore over it makes others.
fn files(dir: &Path) -> Vec<(PathBuf, u64, i64, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let (path, meta) = (entry.path(), entry.metadata().unwrap());
        if meta.is_dir() {
            found.extend(files(&path));
        } else {
            let changed = meta.ctime() * 1_000_000_000 + meta.ctime_nsec();
            found.push((path.clone(), meta.ino(), changed, fs::read(path).unwrap()));
        }
    }
    found.sort();
    found
}

/// A restore to absolute paths, which are those of the live data.
#[test]
fn restic_with_absolute_paths_restores_to_the_copy_in_a_rehearsal() {
    let mut world = World::asleep(crate::world::free_address());
    let (repository, password) = (world.path("repository"), world.path("password"));
    fs::write(&password, "secret").unwrap();
    let env = [("RESTIC_REPOSITORY", &repository), ("RESTIC_PASSWORD_FILE", &password)];
    let env_lines = env.map(|(name, path)| format!("{name} = {path:?}\n")).concat();
    let lines = format!("[service.web.env]\n{env_lines}{}", recipe("files"));
    let shared = world.service_path("shared");
    let lines = lines.replace("/srv/halley/files/shared", &shared.to_string_lossy());
    world.configure(&crate::world::config(world.address, &lines));
    let made = Command::new("restic").args(["init", "-q"]).envs(env).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    world.wake();
    fs::create_dir_all(shared.join("deep/down")).unwrap();
    fs::write(shared.join("index.html"), "one").unwrap();
    fs::write(shared.join("deep/down/file"), "two").unwrap();
    let before = files(&shared);
    let said = world.release(&[]).expect(0);
    assert!(detail(&said, "restore_rehearsal").contains("checked"), "{}", said.stdout);
    // A migration that reads the copy, writes to it, and fails there.
    let build = world.build(&[]);
    let text = fs::read_to_string(build.join("release.toml")).unwrap();
    let migrate = "[migrate]\ncommand = [\"/bin/sh\", \"-ec\", 'cd \"$HALLEY_SHARED\"; rm index.html; \
                   echo \"found $(cat deep/down/file)\"; test -z \"$HALLEY_REHEARSAL\"']\n";
    fs::write(build.join("release.toml"), format!("{text}{migrate}")).unwrap();
    let said = world.release_path(&build).expect(16);
    assert!(why(&said).contains("found two"), "{}", why(&said));
    assert!(files(&shared) == before, "{:?}\n{before:?}", files(&shared));
    assert!(is_swept(&world));
    // Back to what was saved, in the place itself.
    world.cli(&["backup", "web", "--json"]).expect(0);
    fs::write(shared.join("index.html"), "changed").unwrap();
    fs::write(shared.join("new"), "").unwrap();
    world.cli(&["restore", "web", "--yes", "--json"]).expect(0);
    let bytes = |found: Vec<(PathBuf, u64, i64, Vec<u8>)>| -> Vec<(PathBuf, Vec<u8>)> {
        found.into_iter().map(|(path, .., bytes)| (path, bytes)).collect()
    };
    assert_eq!(bytes(files(&shared)), bytes(before));
}
