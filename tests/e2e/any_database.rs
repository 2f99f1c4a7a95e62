//! Data of every kind: databases with extensions, servers, and the documented recipes of the driver
//! `command` as they stand in the reference.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use halley_sup::docs;

use crate::databases;
use crate::ledger_app::{
    self, BACKUP, Build, Store, Writers, database, get, is_swept, killed_in_restore, save_rows,
    serve_rows,
};
use crate::mount::Mount;
use crate::postgres::{ENCODED, PASSWORD, Peeper, certify};
use crate::template;
use crate::world::{Said, World, free_address, kill};

/// What a phase of a release said.
pub fn detail(said: &Said, phase: &str) -> String {
    let lines = said.stdout.lines().filter_map(|line| serde_json::from_str(line).ok());
    let mut of_phase =
        lines.filter(|line: &serde_json::Value| line["phase"] == phase && line["state"] != "start");
    of_phase.next_back().map_or_else(String::new, |line| line["detail"].to_string())
}

/// The lines of the reference for this driver, for the service `web`.
fn recipe(header: &str) -> String {
    let page = docs::TOPICS.iter().find(|topic| topic.name == "data").unwrap().text();
    let at = page.find(&format!("[service.{header}.backup]")).unwrap();
    let lines = page[at..].split("```").next().unwrap();
    lines.replace(&format!("[service.{header}."), "[service.web.")
}

#[test]
fn a_table_of_an_extension_that_the_tool_lacks_is_not_counted() {
    let world = ledger_app::world(BACKUP);
    serve_rows(&world, Store::Sqlite, 1);
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
    assert!(said.why().contains("backup.check"), "{}", said.why());
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
    assert!(said.why().contains("found two"), "{}", said.why());
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

const LOG_SIZE: &str = "--innodb-log-file-size=8M";
const INSTALL: [&str; 6] = [
    "--no-defaults",
    "--user=nobody",
    "--skip-test-db",
    "--auth-root-authentication-method=normal",
    "--skip-name-resolve",
    LOG_SIZE,
];

/// A MariaDB server that ends with the test.
pub struct MariaDb {
    child: Child,
    pub port: u16,
    dir: tempfile::TempDir,
}

impl MariaDb {
    pub fn start() -> Self {
        Self::start_with(tempfile::tempdir().unwrap(), &[])
    }

    /// One that speaks TLS, which costs a client more than all that it asks.
    pub fn start_with_tls() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [key, cert] = ["key", "cert"].map(|name| dir.path().join(name).display().to_string());
        certify(&key, &cert);
        Self::give(Path::new(&key));
        Self::start_with(dir, &[format!("--ssl-key={key}"), format!("--ssl-cert={cert}")])
    }

    fn start_with(dir: tempfile::TempDir, more: &[String]) -> Self {
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(dir.path(), open).unwrap();
        let servers = ["/usr/sbin/mariadbd", "/usr/libexec/mariadbd", "/usr/bin/mariadbd"];
        let server = servers.into_iter().map(Path::new).find(|path| path.exists()).unwrap();
        let data = dir.path().join("data");
        template::copy(server, &INSTALL, Self::install, &data);
        let tmp = dir.path().join("tmp");
        fs::create_dir(&tmp).unwrap();
        Self::give(&tmp);
        let path = |name: &str| dir.path().join(name).display().to_string();
        let port = free_address().port();
        let child = Command::new(server)
            .args(["--no-defaults", "--user=nobody", "--bind-address=*", LOG_SIZE])
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--socket={}", path("data/live.sock")))
            .args(["--innodb-flush-log-at-trx-commit=0", "--event-scheduler=ON"])
            .args([format!("--port={port}"), format!("--pid-file={}", path("data/pid"))])
            .args(more)
            .env("TMPDIR", &tmp)
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let mariadb = Self { child, port, dir };
        let begun = std::time::Instant::now();
        while mariadb.sql("SELECT 1").is_err() {
            assert!(begun.elapsed().as_secs() < 60, "the server never came up");
            std::thread::park_timeout(std::time::Duration::from_millis(50));
        }
        let users = format!(
            "CREATE DATABASE app; CREATE USER web IDENTIFIED BY '{PASSWORD}'; \
             CREATE USER copies IDENTIFIED BY 'c0pies'; GRANT ALL ON app.* TO web; \
             GRANT ALL ON `app\\_%`.* TO web; GRANT ALL ON `halley\\_scratch\\_%`.* TO copies;"
        );
        mariadb.sql(&users).unwrap();
        mariadb
    }

    fn install(data: &Path) {
        // A server that starts removes the temporary tables that others have in its directory for them.
        let tmp = data.with_extension("tmp");
        fs::create_dir(&tmp).unwrap();
        Self::give(&tmp);
        let made = Command::new("mariadb-install-db")
            .args(INSTALL)
            .arg(format!("--datadir={}", data.display()))
            .env("TMPDIR", &tmp)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    /// Gives a file to the server's user.
    fn give(path: &Path) {
        let nobody = halley_sup::os::proc::user("nobody").unwrap();
        std::os::unix::fs::chown(path, Some(nobody.uid), Some(nobody.gid)).unwrap();
    }

    /// What statements print, as root.
    pub fn sql(&self, script: &str) -> Result<String, String> {
        let mut child = Command::new("mariadb")
            .args(["--no-defaults", "--batch", "--raw", "--skip-column-names", "--user=root"])
            .arg(format!("--socket={}", self.socket()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Where there is no server yet, the client is gone before: its exit code says so.
        drop(std::io::Write::write_all(&mut child.stdin.take().unwrap(), script.as_bytes()));
        let said = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if said.status.success() { Ok(text(&said.stdout)) } else { Err(text(&said.stderr)) }
    }

    pub fn socket(&self) -> String {
        self.dir.path().join("data/live.sock").display().to_string()
    }

    /// Its certificate, where it speaks TLS.
    pub fn cert(&self) -> String {
        self.dir.path().join("cert").display().to_string()
    }

    pub fn databases(&self) -> String {
        let said = self.sql("SHOW DATABASES").unwrap();
        let own = ["information_schema", "performance_schema", "mysql", "sys"];
        said.lines().filter(|name| !own.contains(name)).collect::<Vec<_>>().join(" ")
    }

    /// Everything in the live database, as text.
    pub fn dump(&self) -> String {
        let said = Command::new("mariadb-dump")
            .args(["--no-defaults", "--user=root", "--routines", "--events", "--skip-dump-date"])
            .args([format!("--socket={}", self.socket()), "app".to_owned()])
            .output()
            .unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        String::from_utf8_lossy(&said.stdout).into_owned()
    }

    pub fn world(&self) -> World {
        self.world_with("")
    }

    /// The same with more lines of the service.
    pub fn world_with(&self, lines: &str) -> World {
        self.world_under(&[], lines)
    }

    /// The same of a wrapper that becomes `halley-sup run`.
    pub fn world_under(&self, wrapper: &[&str], lines: &str) -> World {
        let more = |world: &World| {
            let at = format!("127.0.0.1:{}", self.port);
            let env = format!(
                "DATABASE_URL=mysql://web:{ENCODED}@{at}/app\nCOPIES_URL=mysql://copies:c0pies@{at}\n\
                 DB_USER=web\nDB_PASSWORD={PASSWORD}\nDB_NAME=app\nDB_PORT={}\n",
                self.port
            );
            fs::write(world.path("web.env"), env).unwrap();
            "[service.web.backup]\ndriver = \"mariadb\"\nurl_env = \"DATABASE_URL\"\n\
             rehearse_url_env = \"COPIES_URL\"\nquery = \"SELECT COUNT(*) + 1 FROM `rows`\""
                .to_owned()
        };
        let lines = format!("env_file = \"web.env\"\n{lines}");
        ledger_app::world_of_under(wrapper, more, "12s", &lines)
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        kill(i32::try_from(self.child.id()).unwrap(), libc::SIGKILL);
        drop(self.child.wait());
    }
}

pub fn mariadb_build(version: u32) -> Build<'static> {
    Build { version, store: Store::MariaDb, ..Build::default() }
}

/// What is no table, what refers to another table, and what is hard to write as text.
const MORE: &str = "USE app; CREATE TABLE parts (id INT PRIMARY KEY, row_id BIGINT, bytes BLOB, \
                    FOREIGN KEY (row_id) REFERENCES `rows` (id));
CREATE DEFINER=web@'%' VIEW named AS SELECT r.id, p.bytes FROM `rows` r JOIN parts p ON p.row_id = r.id;
CREATE SEQUENCE numbers; CREATE TABLE log (what TEXT);
DELIMITER //
CREATE DEFINER=web@'%' TRIGGER logged AFTER INSERT ON parts FOR EACH ROW INSERT INTO log VALUES ('DEFINER=`a`@`b`')//
CREATE DEFINER=web@'%' PROCEDURE three() BEGIN SELECT 3; END//
CREATE DEFINER=web@'%' EVENT hourly ON SCHEDULE EVERY 1 HOUR DO DELETE FROM log WHERE 0//
DELIMITER ;
INSERT INTO `rows` (id, note) VALUES (1, 'it''s\n\\\\`'); INSERT INTO parts VALUES (1, 1, X'00FF0A0D27225C1A');
";

#[test]
fn a_mariadb_database_is_migrated_on_a_copy_and_restored_with_all_that_is_no_table() {
    let server = MariaDb::start();
    let world = server.world();
    let peeper = Peeper::start();
    world.release_path(&mariadb_build(0).write(&world)).expect(0);
    server.sql(MORE).unwrap();
    let writers = Writers::several(world.address, 1);
    for version in 1..=2 {
        let before = writers.n_acked();
        let said = world.release_path(&mariadb_build(version).write(&world)).expect(0);
        assert!(detail(&said, "restore_rehearsal").contains("rows in 4 tables"), "{}", said.stdout);
        world.wait("rows come in", |_| writers.n_acked() > before + 5);
    }
    let (n_acked, errors) = writers.stop();
    assert_eq!(errors, [""; 0], "{}", world.run_log());
    assert_eq!(get(world.address, "/count").unwrap(), (n_acked + 1).to_string());
    assert_eq!(server.databases(), "app");
    assert!(is_swept(&world));
    // What fails on the copy leaves the live database as it is.
    let before = server.dump();
    let failing = Build { quirks: &["fail"], ..mariadb_build(3) };
    let said = world.release_path(&failing.write(&world)).expect(16);
    assert!(said.why().contains("the migration said no"), "{}", said.why());
    assert_eq!(server.dump(), before);
    // Back, with everything.
    world.cli(&["backup", "web", "--json"]).expect(0);
    get(world.address, "/add").unwrap();
    server
        .sql("USE app; DROP VIEW named; DROP TRIGGER logged; CREATE VIEW later AS SELECT 1")
        .unwrap();
    let said = world.cli(&["restore", "web", "--yes", "--json"]).expect(0);
    assert!(said.stdout.contains("rows: 1 more now"), "{}", said.stdout);
    assert_eq!(plain(&server.dump()), plain(&before));
    assert_eq!(server.databases(), "app app_before_restore");
    let n_before = server.sql("SELECT COUNT(*) FROM app_before_restore.`rows`").unwrap();
    assert_eq!(n_before, (n_acked + 2).to_string());
    let refused = server.sql("INSERT INTO app.parts VALUES (9, -1, '')").unwrap_err();
    assert!(refused.contains("foreign key"), "{refused}");
    get(world.address, "/add").unwrap();
    assert_eq!(peeper.stop(server.port), [""; 0]);
}

/// Lines of a dump that stay when the same data comes back.
fn plain(dump: &str) -> Vec<String> {
    // The next number may be one that was given away meanwhile.
    let lines = dump.lines().filter(|line| !line.contains("AUTO_INCREMENT="));
    lines.map(str::to_owned).collect()
}

#[test]
fn a_mariadb_database_comes_back_with_everything_from_a_restore_that_fails_or_is_cut_off() {
    let server = MariaDb::start();
    let world = server.world();
    let old = save_rows(&world, Store::MariaDb, 1);
    let lax = "[schema]\nprovides = \"1\"\naccepts = [\"0\", \"1\"]";
    let next = Build { needs: "id,c1", schema: lax, ..mariadb_build(1) };
    world.release_path(&next.write(&world)).expect(0);
    server
        .sql(
            MORE.replace("VALUES (1, 'it", "VALUES (7, 'it")
                .replace("(1, 1, X", "(1, 7, X")
                .as_str(),
        )
        .unwrap();
    let before = server.dump();
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
        assert_eq!(plain(&server.dump()), plain(&before));
        assert_eq!(server.databases(), "app");
    }
    for phase in ["stop_old", "restore"] {
        killed_in_restore(&world, &old, phase);
        world.wait("scratch is swept", is_swept);
        assert_eq!(plain(&server.dump()), plain(&before), "{phase}");
        world.wait("no database beside it", |_| server.databases() == "app");
    }
}
