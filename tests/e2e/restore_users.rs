//! Others that use the data which a restore replaces: they are named, and services of the stack are
//! stopped and come back.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::any_database::MariaDb;
use crate::ledger_app::{
    BACKUP, Build, Store, add, count, database, get, newest_backup, save_rows, world,
};
use crate::postgres;
use crate::world::{Said, World, kill};

const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/test-venv/bin/python3");

/// A process of nobody's service, which ends with the test.
struct Stranger(Child);

impl Stranger {
    /// One that does this in Python, says so, and stays.
    fn doing(script: &str, arguments: &[&str]) -> Self {
        let mut stranger = Self::waiting(script, arguments);
        stranger.is_ready();
        stranger
    }

    /// One that is not ready yet.
    fn waiting(script: &str, arguments: &[&str]) -> Self {
        let script = format!(
            "import os, sys, sqlite3, time\n{script}\nprint('ready', flush=True)\nsys.stdin.read()"
        );
        let mut command = Command::new(PYTHON);
        command.args(["-c", &script]).args(arguments);
        Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
    }

    fn is_ready(&mut self) {
        let mut line = [0; 5];
        self.0.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        kill(self.pid(), libc::SIGKILL);
        drop(self.0.wait());
    }
}

const OPENS: &str = "db = sqlite3.connect(sys.argv[1]); db.execute('SELECT count(*) FROM rows')";
/// It opens the database when the restore is written down: the service is being stopped.
const OPENS_LATE: &str = "while not os.path.exists(sys.argv[2]): time.sleep(0.001)\n\
                          db = sqlite3.connect(sys.argv[1]); db.execute('PRAGMA user_version')";

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn inode(path: &Path) -> u64 {
    path.metadata().unwrap().ino()
}

/// One row in the backup, three live.
fn rows(world: &World) -> String {
    rows_in(world, Store::Sqlite)
}

fn rows_in(world: &World, store: Store) -> String {
    save_rows(world, store, 1);
    add(world, 2);
    newest_backup(world)
}

fn next(said: &Said) -> String {
    let result = said.result();
    let trouble = if result["trouble"].is_null() { &result } else { &result["trouble"] };
    trouble["next"].to_string()
}

#[test]
fn a_process_that_has_the_database_is_named_and_nothing_is_stopped() {
    let world = world(BACKUP);
    let old = rows(&world);
    let (pid, before) = (world.live_pid(), inode(&database(&world)));
    let stranger = Stranger::doing(OPENS, &[&text(&database(&world))]);
    for last in ["--dry-run", "--yes"] {
        let words = ["restore", "web", "--backup", &old, last, "--stop-users", "--json"];
        let said = world.cli(&words).expect(10);
        let why = said.why();
        let who = format!("python3 (pid {}, user root) has ", stranger.pid());
        assert!(why.contains(&who) && why.contains("/app.db"), "{why}");
        assert!(next(&said).contains(&format!("kill {}", stranger.pid())), "{}", next(&said));
    }
    assert_eq!((world.live_pid(), inode(&database(&world))), (pid, before));
    drop(stranger);
    world.cli(&["restore", "web", "--backup", &old, "--yes"]).expect(0);
    assert_eq!(count(&world), "1");
}

#[test]
fn whoever_comes_while_connections_wait_is_seen_too() {
    let world = world(BACKUP);
    let old = rows(&world);
    let before = inode(&database(&world));
    let record = world.service_path("restore.json");
    let stranger = Stranger::waiting(OPENS_LATE, &[&text(&database(&world)), &text(&record)]);
    let said = world.cli(&["restore", "web", "--backup", &old, "--yes", "--json"]).expect(10);
    let why = said.why();
    assert!(why.contains(&format!("python3 (pid {}, ", stranger.pid())), "{why}");
    assert!(why.contains("the data is as it was"), "{why}");
    world.wait("it answers", |world| get(world.address, "/count").is_ok());
    assert_eq!((count(&world), inode(&database(&world))), ("3".to_owned(), before));
}

#[test]
fn whatever_has_a_directory_of_files_is_named() {
    let world = world("[service.web.backup]\ndriver = \"files\"\npath = \"uploads\"");
    world.release_path(&Build::default().write(&world)).expect(0);
    let uploads = world.service_path("shared/uploads");
    fs::create_dir(&uploads).unwrap();
    fs::write(uploads.join("a"), "one").unwrap();
    world.cli(&["backup", "web"]).expect(0);
    for script in ["f = open(os.path.join(sys.argv[1], 'a'))", "os.chdir(sys.argv[1])"] {
        let stranger = Stranger::doing(script, &[&text(&uploads)]);
        let why = world.cli(&["restore", "web", "--yes", "--json"]).expect(10).why();
        assert!(why.contains(&format!("python3 (pid {}, ", stranger.pid())), "{why}");
    }
    world.cli(&["restore", "web", "--yes"]).expect(0);
}

/// A worker that keeps the database of `web` open and adds rows to it.
const WORKER: &str = "import sqlite3, sys, time\n\
                      db = sqlite3.connect(sys.argv[1], timeout=20, isolation_level=None)\n\
                      while True:\n    \
                      db.execute(\"INSERT INTO rows (note) VALUES ('worker')\")\n    \
                      time.sleep(0.05)\n";

/// `web` with a worker of the same stack on its database.
fn world_with_a_worker() -> (World, String) {
    let worker = "[service.worker]\n[service.worker.health]\ninterval = \"30ms\"\nrise = 1\n\
                  min_healthy = \"60ms\"\ndeadline = \"10s\"\n[service.worker.bake]\n\
                  for = \"200ms\"\n[service.worker.stop]\ntimeout = \"5s\"";
    let world = world(&format!("{BACKUP}\n{worker}"));
    let old = rows(&world);
    let build = world.build_of(&[PYTHON, "worker.py", &text(&database(&world))]);
    fs::write(build.join("worker.py"), WORKER).unwrap();
    world.cli(&["release", "worker", &text(&build)]).expect(0);
    (world, old)
}

fn worker_pid(world: &World) -> i32 {
    let status = world.status_of("worker");
    let pid = status["instances"][0]["pid"].as_i64().unwrap_or_default();
    i32::try_from(pid).unwrap()
}

/// The worker runs, and what it writes is in the database that is there.
#[track_caller]
fn check_works(world: &World) {
    world.wait("the worker runs", |world| worker_pid(world) > 0);
    world.wait("it answers", |world| get(world.address, "/count").is_ok());
    let before: u64 = count(world).parse().unwrap();
    world.wait("rows come in", |world| count(world).parse::<u64>().unwrap() > before);
}

#[test]
fn a_service_that_uses_the_data_is_stopped_when_that_is_wanted_and_comes_back() {
    let (world, old) = world_with_a_worker();
    let (pid, before) = (worker_pid(&world), inode(&database(&world)));
    let words = ["restore", "web", "--backup", &old, "--yes", "--any-loss", "--json"];
    let said = world.cli(&words).expect(10);
    let why = said.why();
    assert!(why.contains(&format!("service worker: python3 (pid {pid}, ")), "{why}");
    assert!(next(&said).contains("--stop-users"), "{}", next(&said));
    assert_eq!((worker_pid(&world), inode(&database(&world))), (pid, before));
    let told = world.cli(&["restore", "web", "--dry-run", "--stop-users"]).expect(0);
    assert!(told.stdout.contains("uses the data: service worker"), "{}", told.stdout);
    assert_eq!(worker_pid(&world), pid);
    let stopping = [&words[..], &["--stop-users"]].concat();
    let said = world.cli(&stopping).expect(0);
    assert!(said.stdout.contains("worker is stopped too"), "{}", said.stdout);
    assert_ne!(inode(&database(&world)), before);
    check_works(&world);
    assert_ne!(worker_pid(&world), pid);
    // Where the restore comes to nothing too.
    let record = text(&world.service_path("restore.json"));
    let stranger = Stranger::waiting(OPENS_LATE, &[&text(&database(&world)), &record]);
    let before = inode(&database(&world));
    let why = world.cli(&stopping).expect(10).why();
    assert!(why.contains(&format!("python3 (pid {}, ", stranger.pid())), "{why}");
    assert_eq!(inode(&database(&world)), before);
    check_works(&world);
}

#[test]
fn a_worker_that_was_stopped_comes_back_after_a_crash_and_not_before_the_data_is_back() {
    let (world, old) = world_with_a_worker();
    let before = inode(&database(&world));
    let words =
        ["restore", "web", "--backup", &old, "--yes", "--any-loss", "--stop-users", "--json"];
    let mut command = world.command(&words);
    let mut client = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = std::io::BufReader::new(client.stdout.take().unwrap());
    let mut lines = std::io::BufRead::lines(lines).map_while(Result::ok);
    assert!(lines.any(|line| line.contains("\"phase\":\"restore\"")), "{}", world.run_log());
    // It cannot be removed for now: the restore is not undone.
    let record = world.service_path("restore.json");
    let mount = |words: &[&str]| {
        assert!(Command::new(words[0]).args(&words[1..]).arg(&record).status().unwrap().success());
    };
    mount(&["mount", "--bind", &text(&record)]);
    world.kill_supervisor();
    drop(client.wait());
    world.wait("it is said", |world| {
        let why = world.status()["why"].to_string();
        why.contains("the record of the restore cannot be removed")
    });
    world.wait("it waits", |world| {
        world.status_of("worker")["why"].to_string().contains("the restore of web")
    });
    assert_eq!((world.live_pid(), worker_pid(&world)), (0, 0));
    mount(&["umount"]);
    check_works(&world);
    assert_eq!(inode(&database(&world)), before);
    assert!(!record.exists());
    let again = format!("halley-sup restore web --backup {old} --stop-users");
    assert_eq!(world.status()["alarm"]["next"][0], again);
}

#[test]
fn a_client_of_the_server_is_named_by_its_process() {
    let server = postgres::Server::start();
    let world = postgres::world(&server);
    let old = rows_in(&world, Store::Postgres);
    let pid = world.live_pid();
    let script = "import pg8000.native\n\
                  db = pg8000.native.Connection(sys.argv[2], host='127.0.0.1', \
                  port=int(sys.argv[1]), database='app', password=sys.argv[3])\ndb.run('SELECT 1')";
    let words = ["restore", "web", "--backup", &old, "--yes", "--json"];
    // Of another role the server shows only that it is there.
    for (role, password) in [("web", postgres::PASSWORD), ("postgres", "super")] {
        let stranger = Stranger::doing(script, &[&server.port.to_string(), role, password]);
        let said = world.cli(&words).expect(10);
        let why = said.why();
        let told = format!("python3 (pid {}, user root) has a session of {role}", stranger.pid());
        assert!(why.contains(&told), "{why}");
        assert!(next(&said).contains(&format!("--backup {old} --end-sessions")), "{}", next(&said));
        assert_eq!(world.live_pid(), pid, "nothing was stopped");
    }
    world.cli(&words).expect(0);
    assert_eq!(count(&world), "1");
}

/// Says what its session came to, and has another one at once, as poolers and exporters do; with a
/// second argument it writes in that.
const COMES_BACK: &str = "import pg8000.native\ndef connect():\n    return pg8000.native.Connection('web', \
    host='127.0.0.1', port=int(sys.argv[1]), database='app', password=sys.argv[2])\n\
    def stay(db):\n    \
    while True:\n        \
    try: db.run('SELECT 1'); time.sleep(0.01)\n        \
    except Exception: break\n\
    db = connect()\nprint('ready', flush=True)\nstay(db)\nopen(sys.argv[3], 'w').close()\n\
    while True:\n    \
    try:\n        \
    db = connect()\n        \
    if len(sys.argv) > 4: db.run('INSERT INTO rows (note) VALUES (1)')\n        \
    stay(db)\n    \
    except Exception: time.sleep(0.01)";

#[test]
fn sessions_of_others_are_ended_when_that_is_wanted_and_what_they_write_is_not_lost() {
    let server = postgres::Server::start();
    let world = postgres::world(&server);
    let old = rows_in(&world, Store::Postgres);
    let words = ["restore", "web", "--backup", &old, "--yes", "--end-sessions", "--json"];
    let ended = text(&world.path("ended"));
    let port = server.port.to_string();
    let arguments = [&port, postgres::PASSWORD, &ended, "writes"];
    let writer = Stranger::doing(COMES_BACK, &arguments);
    let why = world.cli(&words).expect(10).why();
    assert!(why.contains("more would be lost than was announced"), "{why}");
    assert!(Path::new(&ended).exists(), "its session was ended");
    world.wait("it answers", |world| get(world.address, "/count").is_ok());
    assert!(count(&world).parse::<u32>().unwrap() > 3, "what it wrote is there");
    drop(writer);
    world.wait("its session is over", |_| {
        let query = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'app' AND wait_event = 'ClientRead'";
        server.sql(query).unwrap() == "0"
    });
    fs::remove_file(&ended).unwrap();
    let reader = Stranger::doing(COMES_BACK, &arguments[..3]);
    let told = world.cli(&[&words[..4], &["--dry-run", "--end-sessions"]].concat()).expect(0);
    assert!(told.stdout.contains("in the database app") && told.stdout.contains("; it is ended"));
    assert!(!Path::new(&ended).exists(), "nothing was ended for a dry run");
    let said = world.cli(&words).expect(0);
    assert!(said.stdout.contains("\"restored\""), "{}", said.stdout);
    assert_eq!(count(&world), "1");
    drop(reader);
}

#[test]
fn the_very_database_comes_back_also_while_others_come_back_at_once() {
    let server = postgres::Server::start();
    let (world, old) = postgres::world_that_cannot_go_back(&server);
    let before = server.oid("app");
    let (port, ended) = (server.port.to_string(), text(&world.path("ended")));
    let reader = Stranger::doing(COMES_BACK, &[&port, postgres::PASSWORD, &ended]);
    let words = ["restore", "web", "--backup", &old, "--yes", "--end-sessions", "--json"];
    let why = world.cli(&words).expect(20).why();
    assert!(why.contains("the previous data is back"), "{why}");
    assert!(Path::new(&ended).exists(), "its session was ended");
    world.wait("it answers", |world| get(world.address, "/count").is_ok());
    assert_eq!((count(&world), server.oid("app")), ("2".to_owned(), before));
    world.wait("nothing beside it", |_| server.databases() == "app postgres template0 template1");
    drop(reader);
}

#[test]
fn a_client_of_mariadb_is_named_by_its_process() {
    let server = MariaDb::start();
    let world = server.world();
    let old = rows_in(&world, Store::MariaDb);
    let pid = world.live_pid();
    let script = "import pymysql\n\
                  db = pymysql.connect(user='web', host='127.0.0.1', port=int(sys.argv[1]), \
                  database='app', password=sys.argv[2])\ndb.cursor().execute('SELECT 1')";
    let words = ["restore", "web", "--backup", &old, "--yes", "--json"];
    let stranger = Stranger::doing(script, &[&server.port.to_string(), postgres::PASSWORD]);
    let why = world.cli(&words).expect(10).why();
    let told = format!("python3 (pid {}, user root) has a session of web", stranger.pid());
    assert!(why.contains(&told), "{why}");
    assert_eq!(world.live_pid(), pid, "nothing was stopped");
    world.cli(&[&words[..], &["--end-sessions"]].concat()).expect(0);
    assert_eq!(count(&world), "1");
    let alive =
        "SELECT COUNT(*) FROM information_schema.processlist WHERE HOST LIKE '%:%' AND DB = 'app'";
    world.wait("its session is over", |_| server.sql(alive).unwrap() == "0");
    drop(stranger);
}

#[test]
fn a_client_that_came_by_a_sockets_path_shows_when_the_service_is_stopped() {
    let server = postgres::Server::start_everywhere();
    let world = postgres::world(&server);
    let old = rows_in(&world, Store::Postgres);
    let mut command = Command::new("psql");
    command.args(["-X", "-h", &server.home(), "-p", &server.port.to_string(), "-U", "postgres"]);
    command.args(["-d", "app"]).env("PGPASSWORD", "super");
    let client = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let _client = Stranger(client);
    let query = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'app' AND client_port = -1";
    world.wait("it is connected", |_| server.sql(query).unwrap() == "1");
    let said = world.cli(&["restore", "web", "--dry-run", "--json"]).expect(0);
    assert!(said.stdout.contains("shows when it is stopped"), "{}", said.stdout);
    let words = ["restore", "web", "--backup", &old, "--yes", "--json"];
    let why = world.cli(&words).expect(10).why();
    assert!(why.contains("a session of postgres in the database app"), "{why}");
    world.wait("it answers", |world| get(world.address, "/count").is_ok());
    assert_eq!(count(&world), "3");
}
