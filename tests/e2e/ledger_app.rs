//! A small web program in Python that keeps rows in SQLite, PostgreSQL or MariaDB, and clients that count what was
//! promised to them: every row that was acknowledged must be there.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::world::{World, config};

/// Serves on the socket it is given; needs the columns it knows.
const PROGRAM: &str = r#"
import db, signal, socket, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
NEEDS = sys.argv[1].split(",")
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            if self.path == "/add": text = str(db.add())
            elif self.path == "/count": text = str(db.count())
            else:
                missing = [n for n in NEEDS if n not in db.columns()]
                if missing: raise RuntimeError("no column " + ",".join(missing))
                text = "ok"
            code = 200
        except Exception as error:
            code, text = 500, repr(error)
        body = text.encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
class Server(ThreadingHTTPServer):
    daemon_threads = False
    def server_bind(self): self.server_name, self.server_port = "web", 0
    def server_activate(self): pass
db.create()
server = Server(("", 0), Handler, bind_and_activate=False)
server.socket.close()
server.socket = socket.socket(fileno=3)
signal.signal(signal.SIGTERM, lambda *a: threading.Thread(target=server.shutdown).start())
server.serve_forever(0.05)
server.server_close()
"#;

/// Adds a column a version; what it does besides is in its arguments.
const MIGRATE: &str = r#"
import db, os, sys, time
shared = os.environ["HALLEY_SHARED"]
on_copy = "HALLEY_REHEARSAL" in os.environ
for word in sys.argv[2:]:
    where, _, what = word.rpartition(":")
    if where and (where == "copy") != on_copy: continue
    if what == "fail": sys.exit("the migration said no")
    elif what == "half": db.migrate(999, "ALTER TABLE rows ADD COLUMN half TEXT"); sys.exit("in the middle")
    elif what == "break": db.migrate(998, "ALTER TABLE rows RENAME TO elsewhere"); sys.exit("broken")
    elif what == "drop": db.migrate(0, "ALTER TABLE rows RENAME COLUMN note TO comment")
    elif what == "hang": time.sleep(1000)
    elif what == "rows" and db.count() == 0: sys.exit("no rows here")
    elif what == "wait":
        open(os.path.join(shared, "migrating"), "a").write("begun\n")
        while not os.path.exists(os.path.join(shared, "go")): time.sleep(0.02)
version = int(sys.argv[1])
db.migrate(version, f"ALTER TABLE rows ADD COLUMN c{version} TEXT")
"#;

const VERSION: &str = "import db\nprint(db.version())\n";

/// Rows in SQLite.
const SQLITE: &str = r#"
import os, sqlite3
PATH = os.path.join(os.environ["HALLEY_SHARED"], "app.db")
def connect(): return sqlite3.connect(PATH, timeout=20, isolation_level=None)
def one(text):
    db = connect()
    try: return db.execute(text).fetchone()[0]
    finally: db.close()
def create(): connect().execute("CREATE TABLE IF NOT EXISTS rows (id INTEGER PRIMARY KEY, note TEXT)")
def add(): return one("INSERT INTO rows (note) VALUES ('x') RETURNING id")
def count(): return one("SELECT count(*) FROM rows")
def columns(): return {row[1] for row in connect().execute("PRAGMA table_info(rows)")}
def version(): return one("PRAGMA user_version")
def migrate(version, text):
    db = connect()
    db.execute("BEGIN IMMEDIATE")
    db.execute(text)
    db.execute(f"PRAGMA user_version = {version}")
    db.execute("COMMIT")
"#;

/// Rows in PostgreSQL.
const POSTGRES: &str = r#"
import os, urllib.parse
import pg8000.native
URL = urllib.parse.urlsplit(os.environ["DATABASE_URL"])
def run(*texts):
    db = pg8000.native.Connection(urllib.parse.unquote(URL.username), host=URL.hostname, port=URL.port,
        database=URL.path[1:], password=urllib.parse.unquote(URL.password))
    try:
        for text in texts: rows = db.run(text)
        return rows
    finally: db.close()
def create():
    run("SELECT pg_advisory_lock(7)",
        "CREATE TABLE IF NOT EXISTS rows (id BIGSERIAL PRIMARY KEY, note TEXT)",
        "CREATE TABLE IF NOT EXISTS schema_version (version INT)")
def add(): return run("INSERT INTO rows (note) VALUES ('x') RETURNING id")[0][0]
def count(): return run("SELECT count(*) FROM rows")[0][0]
def columns(): return {row[0] for row in run("SELECT column_name FROM information_schema.columns WHERE table_name = 'rows'")}
def version(): return run("SELECT coalesce(max(version), 0) FROM schema_version")[0][0]
def migrate(version, text):
    run("BEGIN", text, f"INSERT INTO schema_version VALUES ({version})", "COMMIT")
"#;

/// Rows in MariaDB.
const MARIADB: &str = r#"
import os, urllib.parse
import pymysql
URL = urllib.parse.urlsplit(os.environ["DATABASE_URL"])
def run(*texts):
    db = pymysql.connect(user=URL.username, host=URL.hostname, port=URL.port, autocommit=True,
        database=URL.path[1:], password=urllib.parse.unquote(URL.password))
    try:
        with db.cursor() as cursor:
            # A word of the language there.
            for text in texts: cursor.execute(text.replace(" rows", " `rows`"))
            return cursor.fetchall()
    finally: db.close()
def create():
    run("CREATE TABLE IF NOT EXISTS rows (id BIGINT PRIMARY KEY AUTO_INCREMENT, note TEXT)",
        "CREATE TABLE IF NOT EXISTS schema_version (version INT)")
def add(): return run("INSERT INTO rows (note) VALUES ('x') RETURNING id")[0][0]
def count(): return run("SELECT count(*) FROM rows")[0][0]
def columns(): return {row[0] for row in run("SHOW COLUMNS FROM rows")}
def version(): return run("SELECT coalesce(max(version), 0) FROM schema_version")[0][0]
def migrate(version, text): run(text, f"INSERT INTO schema_version VALUES ({version})")
"#;

/// Python takes its time on a busy machine.
pub fn world(more: &str) -> World {
    patient(more, "12s")
}

/// The same with another deadline of the gate.
pub fn patient(more: &str, deadline: &str) -> World {
    world_of(|_| more.to_owned(), deadline, "")
}

/// The same with lines of the service's own, once there is a directory for their files.
pub fn world_of(more: impl Fn(&World) -> String, deadline: &str, lines: &str) -> World {
    let mut world = World::asleep(crate::world::free_address());
    let more = more(&world);
    let text = config(world.address, &more)
        .replace("deadline = \"5s\"", &format!("deadline = {deadline:?}"))
        .replace("timeout = \"1s\"", "timeout = \"20s\"")
        .replace("drain = \"0s\"", "drain = \"20s\"")
        .replace("[service.web.health]", &format!("{lines}[service.web.health]"));
    world.configure(&text);
    world.wake();
    world
}

pub const BACKUP: &str = "[service.web.backup]\ndriver = \"sqlite\"\npath = \"app.db\"\n\
                          query = \"SELECT count(*) + 1 FROM rows\"\nkeep = 3";

/// A release of the program.
pub struct Build<'a> {
    /// Its schema's version; 0 has no migration.
    pub version: u32,
    /// What its migration does besides.
    pub quirks: &'a [&'a str],
    /// Columns that the program needs.
    pub needs: &'a str,
    /// Lines of `[schema]`; what it provides and accepts when empty.
    pub schema: &'a str,
    /// Whether a probe tells the schema's version.
    pub probed: bool,
    /// Where its rows are.
    pub store: Store,
    /// Of its migration.
    pub deadline: &'a str,
}

/// Where rows are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Store {
    Sqlite,
    Postgres,
    MariaDb,
}

impl Store {
    fn python(self) -> String {
        match self {
            Self::Sqlite => "/usr/bin/python3".to_owned(),
            Self::Postgres | Self::MariaDb => {
                concat!(env!("CARGO_MANIFEST_DIR"), "/target/test-venv/bin/python3").to_owned()
            }
        }
    }
}

impl Default for Build<'_> {
    fn default() -> Self {
        Self {
            version: 0,
            quirks: &[],
            needs: "id,note",
            schema: "",
            probed: true,
            store: Store::Sqlite,
            deadline: "60s",
        }
    }
}

impl Build<'_> {
    pub fn write(&self, world: &World) -> PathBuf {
        let python = self.store.python();
        let dir = world.build_of(&[&python, "main.py", self.needs]);
        let db = match self.store {
            Store::Sqlite => SQLITE,
            Store::Postgres => POSTGRES,
            Store::MariaDb => MARIADB,
        };
        fs::write(dir.join("db.py"), db).unwrap();
        fs::write(dir.join("main.py"), PROGRAM).unwrap();
        fs::write(dir.join("migrate.py"), MIGRATE).unwrap();
        fs::write(dir.join("version.py"), VERSION).unwrap();
        if self.version > 0 {
            let mut text = fs::read_to_string(dir.join("release.toml")).unwrap();
            let version = self.version.to_string();
            let mut words = vec![python.as_str(), "migrate.py", &version];
            words.extend(self.quirks);
            text.push_str(&format!(
                "[migrate]\ncommand = {words:?}\ndeadline = {:?}\n",
                self.deadline
            ));
            if self.probed {
                text.push_str(&format!("probe = [{python:?}, \"version.py\"]\n"));
            }
            match self.schema {
                "" => {
                    let (v, next) = (self.version, self.version + 1);
                    let before = v - 1;
                    text.push_str(&format!(
                        "[schema]\nprovides = \"{v}\"\naccepts = [\"{before}\", \"{v}\", \"{next}\"]\n"
                    ));
                }
                lines => text.push_str(&format!("{lines}\n")),
            }
            fs::write(dir.join("release.toml"), text).unwrap();
        }
        dir
    }
}

pub fn database(world: &World) -> PathBuf {
    world.service_path("shared/app.db")
}

pub fn add(world: &World, n: usize) {
    for _ in 0..n {
        get(world.address, "/add").unwrap();
    }
}

pub fn count(world: &World) -> String {
    get(world.address, "/count").unwrap()
}

/// Begins a restore, kills the supervisor when it is told of a phase, and waits until it answers again.
pub fn killed_in_restore(world: &World, backup: &str, phase: &str) {
    let mut command = world.command(&["restore", "web", "--backup", backup, "--yes", "--json"]);
    let mut client = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let wanted = format!("\"phase\":\"{phase}\"");
    let lines = std::io::BufReader::new(client.stdout.take().unwrap());
    let mut seen = std::io::BufRead::lines(lines).map_while(Result::ok);
    assert!(seen.any(|line| line.contains(&wanted)), "{phase}\n{}", world.run_log());
    world.kill_supervisor();
    drop(client.kill());
    drop(client.wait());
    world.wait("it is over", |world| !world.service_path("restore.json").exists());
    world.wait("it answers", |world| get(world.address, "/count").is_ok());
}

/// The backup that was taken last.
pub fn newest_backup(world: &World) -> String {
    let listed = world.cli(&["backup", "web", "--list", "--json"]).expect(0).stdout;
    let newest = serde_json::from_str::<serde_json::Value>(listed.lines().next().unwrap()).unwrap();
    newest["id"].as_str().unwrap().to_owned()
}

/// What a copy leaves must be nothing.
pub fn is_swept(world: &World) -> bool {
    entries(&world.service_path("scratch")) == 0
}

pub fn entries(dir: &Path) -> usize {
    fs::read_dir(dir).map_or(0, Iterator::count)
}

/// Asks for a path; the body of a 200.
pub fn get(address: SocketAddr, path: &str) -> Result<String, String> {
    let mut stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(Duration::from_secs(60))).map_err(|error| error.to_string())?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: web\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(|error| error.to_string())?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or("cut short")?;
    let good = head.split_ascii_whitespace().nth(1) == Some("200");
    if good { Ok(body.to_owned()) } else { Err(format!("{head}\n{body}")) }
}

/// Clients that add rows, a hundred a second at most.
pub struct Writers {
    stop: Arc<AtomicBool>,
    n_acked: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl Writers {
    pub fn start(address: SocketAddr) -> Self {
        Self::several(address, 3)
    }

    pub fn several(address: SocketAddr, n_clients: usize) -> Self {
        let (stop, n_acked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let client = |_| {
            let (stop, n_acked) = (Arc::clone(&stop), Arc::clone(&n_acked));
            std::thread::spawn(move || {
                let mut errors = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    match get(address, "/add") {
                        Ok(_) => drop(n_acked.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => errors.push(error),
                    }
                    std::thread::park_timeout(Duration::from_millis(10));
                }
                errors
            })
        };
        let threads = (0..n_clients).map(client).collect();
        Self { stop, n_acked, threads }
    }

    pub fn n_acked(&self) -> u64 {
        self.n_acked.load(Ordering::Relaxed)
    }

    /// Ends them: rows that were acknowledged, and what went wrong.
    pub fn stop(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let errors = self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        (self.n_acked.load(Ordering::Relaxed), errors)
    }
}
