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

/// Serves on the socket it is given; needs the columns it knows. It is started many times: what it
/// does without `http.server` is ten times as fast to begin.
const PROGRAM: &str = r#"
import db, signal, socket, sys, threading
NEEDS = sys.argv[1].split(",")
def answer(path):
    if path == "/add": return str(db.add())
    if path == "/count": return str(db.count())
    missing = [n for n in NEEDS if n not in db.columns()]
    if missing: raise RuntimeError("no column " + ",".join(missing))
    return "ok"
def serve(client):
    with client:
        head = b""
        while b"\r\n\r\n" not in head:
            more = client.recv(4096)
            if not more: return
            head += more
        try: code, body = 200, answer(head.split()[1].decode()).encode()
        except Exception as error: code, body = 500, repr(error).encode()
        client.sendall(b"HTTP/1.0 %d -\r\nContent-Length: %d\r\n\r\n%s" % (code, len(body), body))
db.create()
listener = socket.socket(fileno=3)
listener.settimeout(0.05)
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *a: stop.set())
while not stop.is_set():
    try: client, _ = listener.accept()
    except TimeoutError: continue
    threading.Thread(target=serve, args=[client]).start()
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

/// Rows in PostgreSQL, by the library that psql has: a driver in Python takes longer to load than all
/// that is done with it, and to make itself ready for TLS with each connection.
const POSTGRES: &str = r#"
import ctypes, os
os.environ.setdefault("PGSSLMODE", "disable")
PQ = ctypes.CDLL("libpq.so.5")
PQ.PQconnectdb.restype = PQ.PQexec.restype = ctypes.c_void_p
PQ.PQerrorMessage.restype = PQ.PQgetvalue.restype = ctypes.c_char_p
def check(is_good, db):
    if not is_good: raise RuntimeError(PQ.PQerrorMessage(db).decode())
def run(*texts):
    db = ctypes.c_void_p(PQ.PQconnectdb(os.environ["DATABASE_URL"].encode()))
    try:
        check(PQ.PQstatus(db) == 0, db)
        for text in texts:
            done = ctypes.c_void_p(PQ.PQexec(db, text.encode()))
            check(PQ.PQresultStatus(done) in (1, 2), db)
            rows = [[PQ.PQgetvalue(done, row, column).decode() for column in range(PQ.PQnfields(done))]
                for row in range(PQ.PQntuples(done))]
            PQ.PQclear(done)
        return rows
    finally: PQ.PQfinish(db)
def create():
    run("SET client_min_messages = warning", "SELECT pg_advisory_lock(7)",
        "CREATE TABLE IF NOT EXISTS rows (id BIGSERIAL PRIMARY KEY, note TEXT)",
        "CREATE TABLE IF NOT EXISTS schema_version (version INT)")
def add(): return run("INSERT INTO rows (note) VALUES ('x') RETURNING id")[0][0]
def count(): return int(run("SELECT count(*) FROM rows")[0][0])
def columns(): return {row[0] for row in run("SELECT column_name FROM information_schema.columns WHERE table_name = 'rows'")}
def version(): return run("SELECT coalesce(max(version), 0) FROM schema_version")[0][0]
def migrate(version, text):
    run("BEGIN", text, f"INSERT INTO schema_version VALUES ({version})", "COMMIT")
"#;

/// Rows in MariaDB, in the same way.
const MARIADB: &str = r#"
import ctypes, os, urllib.parse
URL = urllib.parse.urlsplit(os.environ["DATABASE_URL"])
LOGIN = [text.encode() for text in
    (URL.hostname, URL.username, urllib.parse.unquote(URL.password), URL.path[1:])]
MY = ctypes.CDLL("libmariadb.so.3")
MY.mysql_init.restype = MY.mysql_real_connect.restype = MY.mysql_store_result.restype = ctypes.c_void_p
MY.mysql_error.restype = ctypes.c_char_p
MY.mysql_fetch_row.restype = ctypes.POINTER(ctypes.c_char_p)
SOCKET, VERIFY_SERVER_CERT = None, 21
def check(is_good, db):
    if not is_good: raise RuntimeError(MY.mysql_error(db).decode())
def run(*texts):
    db = ctypes.c_void_p(MY.mysql_init(None))
    MY.mysql_options(db, VERIFY_SERVER_CERT, ctypes.byref(ctypes.c_char(0)))
    try:
        check(MY.mysql_real_connect(db, *LOGIN, URL.port, SOCKET, ctypes.c_ulong(0)), db)
        for text in texts:
            # A word of the language there.
            check(MY.mysql_query(db, text.replace(" rows", " `rows`").encode()) == 0, db)
            done, rows = ctypes.c_void_p(MY.mysql_store_result(db)), []
            if not done: continue
            while row := MY.mysql_fetch_row(done):
                rows.append([(row[n] or b"").decode() for n in range(MY.mysql_num_fields(done))])
            MY.mysql_free_result(done)
        return rows
    finally: MY.mysql_close(db)
def create():
    run("CREATE TABLE IF NOT EXISTS rows (id BIGINT PRIMARY KEY AUTO_INCREMENT, note TEXT)",
        "CREATE TABLE IF NOT EXISTS schema_version (version INT)")
def add(): return run("INSERT INTO rows (note) VALUES ('x') RETURNING id")[0][0]
def count(): return int(run("SELECT count(*) FROM rows")[0][0])
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
    world_of_under(&[], more, deadline, lines)
}

/// The same of a wrapper that becomes `halley-sup run`.
pub fn world_of_under(
    wrapper: &[&str],
    more: impl Fn(&World) -> String,
    deadline: &str,
    lines: &str,
) -> World {
    let mut world = World::asleep(crate::world::free_address());
    let more = more(&world);
    let text = config(world.address, &more)
        .replace("deadline = \"5s\"", &format!("deadline = {deadline:?}"))
        .replace("timeout = \"1s\"", "timeout = \"20s\"")
        .replace("drain = \"0s\"", "drain = \"20s\"")
        .replace("[service.web.health]", &format!("{lines}[service.web.health]"));
    world.configure(&text);
    world.wake_under(wrapper);
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

/// Without the search for installed packages, which takes as long as all the rest of a start.
const PYTHON: [&str; 2] = ["/usr/bin/python3", "-sSE"];

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
        let [python, bare] = PYTHON;
        let dir = world.build_of(&[python, bare, "main.py", self.needs]);
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
            let mut words = vec![python, bare, "migrate.py", &version];
            words.extend(self.quirks);
            text.push_str(&format!(
                "[migrate]\ncommand = {words:?}\ndeadline = {:?}\n",
                self.deadline
            ));
            if self.probed {
                text.push_str(&format!("probe = [{python:?}, {bare:?}, \"version.py\"]\n"));
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

/// A first release, and rows in it.
pub fn serve_rows(world: &World, store: Store, n: usize) {
    world.release_path(&Build { store, ..Build::default() }.write(world)).expect(0);
    add(world, n);
}

/// The same, and a backup of them: its id.
pub fn save_rows(world: &World, store: Store, n: usize) -> String {
    serve_rows(world, store, n);
    world.cli(&["backup", "web"]).expect(0);
    newest_backup(world)
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
