//! Data in PostgreSQL: a server of the test's own, with a password that nobody may see.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::ledger_app::{
    Build, Store, Writers, entries, get, is_swept, killed_in_restore, save_rows, serve_rows,
    world_of,
};
use crate::mount::Mount;
pub use crate::postgres_server::{ENCODED, PASSWORD, Server, certify};
use crate::world::World;

pub fn world(server: &Server) -> World {
    world_on(server, "app")
}

fn world_on(server: &Server, database: &str) -> World {
    let more = |world: &World| {
        let url = format!("postgres://web:{ENCODED}@127.0.0.1:{}/{database}", server.port);
        fs::write(world.path("web.env"), format!("DATABASE_URL={url}\n")).unwrap();
        "[service.web.backup]\ndriver = \"postgres\"\nurl_env = \"DATABASE_URL\"\n\
         query = \"SELECT count(*) + 1 FROM rows\""
            .to_owned()
    };
    world_of(more, "12s", "env_file = \"web.env\"\n")
}

pub fn build(version: u32) -> Build<'static> {
    Build { version, store: Store::Postgres, ..Build::default() }
}

/// Looks at the arguments of every process as long as it lives.
pub struct Peeper {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<Vec<String>>>,
}

impl Peeper {
    pub fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut seen = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                for pid in halley_sup::os::proc::all() {
                    let line = fs::read_to_string(format!("/proc/{pid}/cmdline"));
                    let line = line.unwrap_or_default();
                    if line.contains(PASSWORD) || line.contains(ENCODED) {
                        seen.push(line.replace('\0', " "));
                    }
                }
                std::thread::park_timeout(std::time::Duration::from_millis(50));
            }
            seen
        });
        Self { stop, thread: Some(thread) }
    }

    /// What was seen; a URL or a script with the port of another server is another test's.
    pub fn stop(mut self, port: u16) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        // The one who sets the password is not Halley.
        let seen = self.thread.take().unwrap().join().unwrap();
        let is_named = |line: &String| line.contains("://") || line.contains("python3 -c");
        let is_ours = |line: &String| !is_named(line) || line.contains(&port.to_string());
        seen.into_iter().filter(|line| !line.contains("CREATE ROLE") && is_ours(line)).collect()
    }
}

#[test]
fn ten_releases_with_migrations_lose_no_request_no_row_and_no_secret() {
    let server = Server::start();
    let world = world(&server);
    let peeper = Peeper::start();
    world.release_path(&build(0).write(&world)).expect(0);
    let writers = Writers::several(world.address, 1);
    for version in 1..=10 {
        let before = writers.n_acked();
        world.release_path(&build(version).write(&world)).expect(0);
        world.wait("rows come in", |_| writers.n_acked() > before + 5);
    }
    let (n_acked, errors) = writers.stop();
    assert_eq!(errors, [""; 0], "{}", world.run_log());
    assert_eq!(get(world.address, "/count").unwrap(), n_acked.to_string());
    assert_eq!(server.databases(), "app postgres template0 template1");
    assert!(is_swept(&world));
    assert_eq!(peeper.stop(server.port), [""; 0]);
    let root = world.path("root");
    let told = Command::new("grep").args(["-rlE", "s3cr(@|%40)t"]).arg(&root).output().unwrap();
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    // The settings snapshot holds the environment, for its owner alone.
    for path in told.lines().map(Path::new) {
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions());
        assert!(path.ends_with("settings.json") && mode & 0o077 == 0, "{}", path.display());
    }
}

#[test]
fn what_fails_on_the_copy_leaves_the_live_database_as_it_is() {
    let server = Server::start();
    let mut world = world(&server);
    // By the wrappers of Debian, as on every machine.
    assert!(world.sleep());
    let path = std::env::var("PATH").unwrap();
    world.wake_under(&["/usr/bin/env", &format!("PATH={path}")]);
    serve_rows(&world, Store::Postgres, 1);
    let before = server.dump();
    let failing = Build { quirks: &["fail"], ..build(1) };
    let said = world.release_path(&failing.write(&world)).expect(16);
    assert!(said.stdout.contains("the migration said no"), "{}", said.stdout);
    assert_eq!(server.dump(), before);
    assert_eq!(server.databases(), "app postgres template0 template1");
    // A backup by hand, more rows, and back.
    world.cli(&["backup", "web", "--json"]).expect(0);
    get(world.address, "/add").unwrap();
    let said = world.cli(&["restore", "web", "--yes", "--json"]).expect(0);
    assert!(said.stdout.contains("public.rows: 1 more now"), "{}", said.stdout);
    assert_eq!(get(world.address, "/count").unwrap(), "1");
    assert_eq!(server.databases(), "app app_before_restore postgres template0 template1");
    get(world.address, "/add").unwrap();
    assert_eq!(get(world.address, "/count").unwrap(), "2");
}

#[test]
fn a_power_cut_in_a_rehearsal_leaves_no_scratch_database() {
    let server = Server::start();
    let mut world = world(&server);
    serve_rows(&world, Store::Postgres, 1);
    let slow = Build { quirks: &["copy:wait"], ..build(1) };
    let path: PathBuf = slow.write(&world);
    let path = path.to_string_lossy().into_owned();
    // HALLEY_SHARED is in scratch then, and so is the sign that it waits.
    let client = world.command(&["release", "web", &path, "--detach"]).spawn();
    world.wait("a scratch database", |_| server.databases().contains("halley_scratch"));
    let relay = world.service_path("run/relay");
    world.wait("it is guarded", |_| relay.is_dir());
    world.power_cut();
    drop(client.unwrap().wait());
    world.wake();
    world.wait("nothing of the guard is left", |_| !relay.exists());
    world.wait("it answers", |world| get(world.address, "/count").is_ok());
    world.wait("scratch is swept", is_swept);
    world.wait("no scratch database", |_| !server.databases().contains("halley_scratch"));
    assert_eq!(get(world.address, "/count").unwrap(), "1");
    assert!(entries(&world.service_path("backups")) <= 1);
}

#[test]
fn a_statement_of_a_migration_that_was_killed_commits_nothing_later() {
    let server = Server::start();
    let world = world(&server);
    serve_rows(&world, Store::Postgres, 1);
    let before = server.dump();
    let slow = Build { deadline: "3s", ..build(1) }.write(&world);
    let script = "import db, os\n\
                  wait = 0 if 'HALLEY_REHEARSAL' in os.environ else 8\n\
                  db.run(f'DO $$ BEGIN PERFORM pg_sleep({wait}); ALTER TABLE rows ADD COLUMN c1 TEXT; \
                  INSERT INTO schema_version VALUES (1); END $$')\n";
    fs::write(slow.join("migrate.py"), script).unwrap();
    let said = world.release_path(&slow).expect(16);
    assert!(said.stdout.contains("killed: it ran longer than 3s"), "{}", said.stdout);
    assert!(said.stdout.contains("the schema is 0, as before, and the counts"), "{}", said.stdout);
    let working =
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DO $$%' AND state = 'active'";
    world.wait("the server is at rest", |_| server.sql(working).unwrap() == "0");
    assert_eq!(server.dump(), before);
}

/// A transaction that holds a lock of the live table, until it is dropped.
struct Lock<'a> {
    server: &'a Server,
    child: Child,
}

impl<'a> Lock<'a> {
    const HELD: &'static str = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'lock' \
                                AND wait_event = 'PgSleep'";

    fn hold(server: &'a Server, world: &World) -> Self {
        let child = Command::new(Server::program("psql"))
            .args(["-X", "-h", "127.0.0.1", "-U", "postgres", "-d", "app"])
            .args(["-p", &server.port.to_string()])
            .args(["-c", "BEGIN; LOCK TABLE rows IN SHARE MODE; SELECT pg_sleep(600)"])
            .env("PGPASSWORD", "super")
            .env("PGAPPNAME", "lock")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let lock = Self { server, child };
        world.wait("the lock is held", |_| server.sql(Self::HELD).unwrap() == "1");
        lock
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = \
                   'lock'";
        drop(self.server.sql(end));
        drop(self.child.wait());
    }
}

/// By a socket's path there is no port, and the tool has a name of its own.
#[test]
fn a_statement_that_waits_for_a_lock_commits_nothing_later() {
    let server = Server::start_everywhere();
    let world = world(&server);
    serve_rows(&world, Store::Postgres, 1);
    let before = server.dump();
    let slow = Build { deadline: "3s", ..build(1) }.write(&world);
    let script = format!(
        "import db, os, subprocess, sys\n\
         database = os.environ['DATABASE_URL'].rsplit('/', 1)[1]\n\
         at = f'host={} port={} user=web dbname={{database}} application_name=alembic'\n\
         sql = 'BEGIN; DELETE FROM rows; ALTER TABLE rows ADD COLUMN c1 TEXT; INSERT INTO \
         schema_version VALUES (1); COMMIT'\n\
         sys.exit(subprocess.run(['psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-c', sql, at], \
         env={{**os.environ, 'PGPASSWORD': '{PASSWORD}'}}).returncode)\n",
        server.home(),
        server.port
    );
    fs::write(slow.join("migrate.py"), script).unwrap();
    let lock = Lock::hold(&server, &world);
    let said = world.release_path(&slow).expect(16);
    assert!(said.stdout.contains("killed: it ran longer than 3s"), "{}", said.stdout);
    assert!(said.stdout.contains("the schema is 0, as before, and the counts"), "{}", said.stdout);
    drop(lock);
    let working = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'alembic'";
    world.wait("the server is at rest", |_| server.sql(working).unwrap() == "0");
    assert_eq!(server.dump(), before);
}

/// A service whose release does not run on a backup that it has.
pub fn world_that_cannot_go_back(server: &Server) -> (World, String) {
    let world = world(server);
    let old = save_rows(&world, Store::Postgres, 1);
    let lax = "[schema]\nprovides = \"1\"\naccepts = [\"0\", \"1\"]";
    let next = Build { needs: "id,c1", schema: lax, ..build(1) };
    world.release_path(&next.write(&world)).expect(0);
    get(world.address, "/add").unwrap();
    (world, old)
}

#[test]
fn what_a_restore_has_left_goes_only_when_a_later_one_is_proven() {
    let server = Server::start();
    let (world, old) = world_that_cannot_go_back(&server);
    world.cli(&["backup", "web"]).expect(0);
    world.cli(&["restore", "web", "--yes"]).expect(0);
    let kept = "app app_before_restore postgres template0 template1";
    assert_eq!(server.databases(), kept);
    let (app, before) = (server.oid("app"), server.oid("app_before_restore"));
    world.cli(&["restore", "web", "--backup", &old, "--yes"]).expect(20);
    world.wait("it answers", |world| get(world.address, "/count").is_ok());
    world.wait("nothing else is left", |_| server.databases() == kept);
    assert_eq!((server.oid("app"), server.oid("app_before_restore")), (app.clone(), before));
    world.cli(&["restore", "web", "--yes"]).expect(0);
    assert_eq!(server.databases(), kept);
    assert_eq!(server.oid("app_before_restore"), app);
}

#[test]
fn the_very_database_comes_back_also_when_it_was_not_saved() {
    let server = Server::start();
    let (world, old) = world_that_cannot_go_back(&server);
    let before = server.oid("app");
    let backups = world.service_path("backups");
    for more in [&["--yes"][..], &["--yes", "--unsaved"]] {
        let words = [&["restore", "web", "--backup", &old, "--json"], more].concat();
        // No backup has it then.
        let _mount = (more.len() > 1).then(|| Mount::read_only(&backups));
        let said = world.cli(&words).expect(20);
        assert_eq!(said.stdout.contains("ignored (--unsaved)"), more.len() > 1, "{}", said.stdout);
        let why = said.result()["why"].to_string();
        assert!(why.contains("the previous data is back"), "{why}");
        world.wait("it answers", |world| get(world.address, "/count").is_ok());
        assert_eq!(get(world.address, "/count").unwrap(), "2");
        assert_eq!(server.oid("app"), before);
        assert_eq!(server.databases(), "app postgres template0 template1");
    }
    get(world.address, "/add").unwrap();
}

#[test]
fn a_supervisor_that_is_killed_in_any_step_loses_no_database() {
    let server = Server::start();
    let world = world(&server);
    let old = save_rows(&world, Store::Postgres, 1);
    get(world.address, "/add").unwrap();
    // As an earlier restore leaves it.
    server.sql("CREATE DATABASE app_before_restore OWNER web").unwrap();
    server.sql("COMMENT ON DATABASE app_before_restore IS 'halley-sup: kept'").unwrap();
    let kept = server.oid("app_before_restore");
    for phase in ["restore_rehearsal", "prepare", "stop_old", "backup", "restore"] {
        let before = server.oid("app");
        killed_in_restore(&world, &old, phase);
        assert_eq!(get(world.address, "/count").unwrap(), "2", "{phase}");
        assert_eq!(server.oid("app"), before, "{phase}");
        world.wait("scratch is swept", is_swept);
        let left = "app app_before_restore postgres template0 template1";
        world.wait("no database beside it", |_| server.databases() == left);
        assert_eq!(server.oid("app_before_restore"), kept, "{phase}");
    }
}

#[test]
fn no_name_is_cut_into_that_of_another_database() {
    let server = Server::start();
    let long = "x".repeat(60);
    let neighbour = format!("{long}_be");
    server.sql(&format!("CREATE DATABASE {long} OWNER web")).unwrap();
    server.sql(&format!("CREATE DATABASE {neighbour} OWNER web")).unwrap();
    let before = server.oid(&neighbour);
    let world = world_on(&server, &long);
    save_rows(&world, Store::Postgres, 1);
    for _ in 0..2 {
        get(world.address, "/add").unwrap();
        world.cli(&["restore", "web", "--yes", "--json"]).expect(0);
        assert_eq!(get(world.address, "/count").unwrap(), "1");
        assert_eq!(server.oid(&neighbour), before);
    }
    let kept = server.databases();
    assert!(kept.contains("_before_restore "), "{kept}");
}

#[test]
fn a_database_that_no_restore_has_left_is_not_dropped() {
    let server = Server::start();
    let world = world(&server);
    save_rows(&world, Store::Postgres, 1);
    server.sql("CREATE DATABASE app_before_restore OWNER web").unwrap();
    let before = server.oid("app_before_restore");
    for word in ["--yes", "--dry-run"] {
        let why = world.cli(&["restore", "web", word, "--json"]).expect(15).why();
        assert!(why.contains("app_before_restore that no restore has left"), "{why}");
    }
    assert_eq!(server.oid("app_before_restore"), before);
}
