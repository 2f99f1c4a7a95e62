//! What is tried out on a copy of the data reaches nothing that is live, whatever address it uses.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::ledger_app::{BACKUP, Build, Store, is_swept, serve_rows, world, world_of_under};
use crate::postgres::{ENCODED, PASSWORD, Server};
use crate::world::{NOBODY, World, free_address, kill};

pub fn postgres_world(server: &Server, query: &str, more: &str) -> World {
    postgres_world_under(&[], server, query, more)
}

pub fn postgres_world_under(wrapper: &[&str], server: &Server, query: &str, more: &str) -> World {
    let backup = |world: &World| {
        let url = format!("postgres://web:{ENCODED}@127.0.0.1:{}/app{query}", server.port);
        fs::write(world.path("web.env"), format!("DATABASE_URL={url}\n")).unwrap();
        "[service.web.backup]\ndriver = \"postgres\"\nurl_env = \"DATABASE_URL\"".to_owned()
    };
    world_of_under(wrapper, backup, "12s", &format!("env_file = \"web.env\"\n{more}"))
}

pub fn first() -> Build<'static> {
    Build { store: Store::Postgres, ..Build::default() }
}

/// A release whose migration is a script; the script's own files are written by `files`.
pub fn migrating(world: &World, script: &str, files: &[(&str, String)]) -> PathBuf {
    let dir = first().write(world);
    let text = fs::read_to_string(dir.join("release.toml")).unwrap();
    let migrate = "[migrate]\ncommand = [\"/bin/sh\", \"-e\", \"migrate.sh\"]\n";
    fs::write(dir.join("release.toml"), format!("{text}{migrate}")).unwrap();
    fs::write(dir.join("migrate.sh"), script).unwrap();
    for (name, text) in files {
        fs::write(dir.join(name), text).unwrap();
    }
    dir
}

/// Writes through psql, tells where, and is no good in a rehearsal.
pub const WRITE: &str = "psql -X -A -t -q -v ON_ERROR_STOP=1 -c \"INSERT INTO rows (note) VALUES ('no')\" \
                     -c \"SELECT 'wrote to ' || current_database()\"";

/// Every name of the live database, each with a script that writes by it.
pub fn names_of(server: &Server) -> Vec<(&'static str, String)> {
    let (port, home) = (server.port, server.home());
    let login = format!("export PGPASSWORD='{PASSWORD}' PGUSER=web PGPORT={port}");
    let jdbc = "url=$(sed -n 's/.*jdbc://p' application.properties)";
    vec![
        ("parts", format!("{login} PGHOST=127.0.0.1 PGDATABASE=app\n{WRITE}")),
        ("name", format!("{login} DB_HOST=localhost DB_NAME=app\n{WRITE} -h $DB_HOST -d $DB_NAME")),
        ("IPv6", format!("{login}\n{WRITE} -h ::1 -d app")),
        ("other loopback", format!("{login}\n{WRITE} -h 127.0.0.9 -d app")),
        ("socket", format!("{login}\n{WRITE} -h {home} -d app")),
        ("service", format!("export PGSERVICEFILE=./pg_service.conf PGSERVICE=live\n{WRITE}")),
        ("jdbc", format!("{login}\n{jdbc}\n{WRITE} -d $url")),
        ("file", format!("{WRITE} -d $(cat database.url)")),
        ("own URL", format!("{WRITE} -d postgres://web:{ENCODED}@localhost:{port}/app")),
        ("TLS if it can be", format!("{login} PGSSLMODE=prefer\n{WRITE} -h 127.0.0.1 -d app")),
    ]
}

/// A release that does it, and is no good in a rehearsal.
pub fn writing(world: &World, server: &Server, script: &str) -> PathBuf {
    let port = server.port;
    let service =
        format!("[live]\nhost=localhost\nport={port}\nuser=web\npassword={PASSWORD}\ndbname=app\n");
    let jdbc = format!("spring.datasource.url=jdbc:postgresql://localhost:{port}/app\n");
    let url = format!("postgresql://web:{ENCODED}@localhost:{port}/app\n");
    let files =
        [("pg_service.conf", service), ("application.properties", jdbc), ("database.url", url)];
    migrating(world, &format!("{script}\nexit 3\n"), &files)
}

#[test]
fn whatever_names_the_live_database_gets_the_copy() {
    let server = Server::start_everywhere();
    let world = postgres_world(&server, "", "");
    serve_rows(&world, Store::Postgres, 1);
    let before = server.dump();
    for (name, script) in names_of(&server) {
        let said = world.release_path(&writing(&world, &server, &script)).expect(16);
        let why = said.why();
        assert!(why.contains("wrote to halley_scratch_"), "{name}: {why}");
        assert_eq!(server.dump(), before, "{name}");
        assert!(is_swept(&world), "{name}");
    }
    assert_eq!(server.databases(), "app postgres template0 template1");
}

#[test]
fn another_database_is_refused_in_plain_words() {
    let server = Server::start_everywhere();
    let world = postgres_world(&server, "", "");
    world.release_path(&first().write(&world)).expect(0);
    let before = server.dump();
    let script = format!(
        "export PGPASSWORD='{PASSWORD}' PGUSER=web PGPORT={}\npsql -h 127.0.0.1 -d postgres -c 'SELECT 1'\n",
        server.port
    );
    let said = world.release_path(&migrating(&world, &script, &[])).expect(16);
    let why = said.why();
    assert!(why.contains("this is a rehearsal on a copy of the data"), "{why}");
    assert!(why.contains("Take the URL of the copy from DATABASE_URL"), "{why}");
    assert!(why.contains("asked PostgreSQL for database \"postgres\""), "{why}");
    assert!(why.contains("psql (pid "), "{why}");
    assert_eq!(server.dump(), before);
}

/// The program migrates when it starts, with an address of its own.
pub fn migrating_at_its_start(world: &World, server: &Server) -> PathBuf {
    let dir = first().write(world);
    let db = fs::read_to_string(dir.join("db.py")).unwrap();
    let live = format!("\"postgres://web:{ENCODED}@localhost:{}/app\"", server.port);
    let db = db.replace("os.environ[\"DATABASE_URL\"]", &live);
    fs::write(dir.join("db.py"), db).unwrap();
    let main = fs::read_to_string(dir.join("main.py")).unwrap();
    let start = "db.create()\ndb.run(\"DELETE FROM rows\")\n\
                 sys.exit(\"migrated \" + db.run(\"SELECT current_database()\")[0][0])\n";
    fs::write(dir.join("main.py"), main.replace("db.create()\n", start)).unwrap();
    dir
}

#[test]
fn a_program_that_migrates_at_its_start_migrates_the_copy() {
    let server = Server::start_everywhere();
    let world = postgres_world(&server, "", "");
    serve_rows(&world, Store::Postgres, 1);
    let before = server.dump();
    let said = world.release_path(&migrating_at_its_start(&world, &server)).expect(15);
    assert!(said.why().contains("migrated halley_scratch_"), "{}", said.stdout);
    assert_eq!(server.dump(), before);
}

/// Nobody can look into TLS: the server says which database was opened, before the first statement.
#[test]
fn the_live_database_by_tls_is_seen_and_refuses_the_release() {
    let server = Server::start_everywhere();
    let world = postgres_world(&server, "?sslmode=require", "");
    serve_rows(&world, Store::Postgres, 1);
    let before = server.dump();
    // By its URL it works on the copy, end to end encrypted.
    let good = migrating(&world, &format!("{WRITE} -d $DATABASE_URL\nexit 3\n"), &[]);
    let said = world.release_path(&good).expect(16);
    assert!(said.why().contains("wrote to halley_scratch_"), "{}", said.why());
    let url = format!("postgres://web:{ENCODED}@localhost:{}/app?sslmode=require", server.port);
    let bad = migrating(&world, &format!("{WRITE} -d '{url}' || true\n"), &[]);
    let said = world.release_path(&bad).expect(15);
    let why = said.why();
    assert!(why.contains("psql (pid "), "{why}");
    assert!(why.contains("opened database \"app\" over TLS instead of the copy"), "{why}");
    assert!(why.contains("it must take its URL from DATABASE_URL"), "{why}");
    assert_eq!(server.dump(), before);
    assert_eq!(server.databases(), "app postgres template0 template1");
}

/// A Redis server that ends with the test.
pub struct Redis {
    child: Child,
    pub port: u16,
}

impl Redis {
    pub fn start() -> Self {
        let port = free_address().port();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let redis = Self { child, port };
        let begun = std::time::Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed().as_secs() < 60, "the server never came up");
            std::thread::park_timeout(std::time::Duration::from_millis(50));
        }
        redis
    }

    pub fn ask(&self, command: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text.lines().next().unwrap_or_default().to_owned()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        kill(i32::try_from(self.child.id()).unwrap(), libc::SIGKILL);
        drop(self.child.wait());
    }
}

/// Takes a job when it starts.
pub fn worker(world: &World, host: &str, port: u16) -> PathBuf {
    let dir = Build::default().write(world);
    let main = fs::read_to_string(dir.join("main.py")).unwrap();
    let start = format!(
        "db.create()\nqueue = socket.create_connection((\"{host}\", {port}))\n\
         queue.sendall(b\"LPOP jobs\\r\\n\")\nqueue.recv(100)\n"
    );
    fs::write(dir.join("main.py"), main.replace("db.create()\n", &start)).unwrap();
    dir
}

#[test]
fn a_job_of_the_live_queue_is_not_taken_by_a_rehearsal() {
    let redis = Redis::start();
    let world = world(BACKUP);
    world.release_path(&Build::default().write(&world)).expect(0);
    redis.ask("RPUSH jobs one two");
    let said = world.release_path(&worker(&world, "127.0.0.1", redis.port)).expect(15);
    let why = said.why();
    let (port, line) = (redis.port, format!("rehearse_connect = [\"127.0.0.1:{}\"]", redis.port));
    assert!(why.contains("python3"), "{why}");
    assert!(why.contains(&format!("was kept from 127.0.0.1:{port}")), "{why}");
    assert!(why.contains(&line), "{why}");
    assert_eq!(redis.ask("LLEN jobs"), ":2");
    // The line as it was told.
    let text = fs::read_to_string(world.path("halley.toml")).unwrap();
    let allowed =
        text.replacen("[service.web.health]", &format!("{line}\n[service.web.health]"), 1);
    world.reload(&allowed);
    let said = world.release_path(&worker(&world, "127.0.0.1", redis.port)).expect(0);
    assert!(!said.stdout.contains("was kept from"), "{}", said.stdout);
    // The rehearsal's own, and the release's.
    assert_eq!(redis.ask("LLEN jobs"), ":0");
    // What the serving release is connected to is known beforehand.
    world.reload(&text);
    let said = world.release_path(&worker(&world, "127.0.0.1", redis.port)).expect(15);
    let expected = format!("the serving release is connected to 127.0.0.1:{port}");
    assert!(said.stdout.contains(&expected), "{}", said.stdout);
}

/// Workers that talk to their parent over a port that the kernel chose, as Node and Java programs do.
#[test]
fn a_program_that_talks_to_itself_does_so_in_a_rehearsal() {
    let world = world(BACKUP);
    let dir = Build::default().write(&world);
    let main = fs::read_to_string(dir.join("main.py")).unwrap();
    let start = "db.create()\nimport os, subprocess\n\
                 hub = socket.create_server((\"127.0.0.1\", 0))\n\
                 port = str(hub.getsockname()[1])\n\
                 worker = \"import socket, sys; socket.create_connection(('127.0.0.1', \" \\\n\
                 \"int(sys.argv[1]))).sendall(b'hello')\"\n\
                 child = subprocess.Popen([sys.executable, \"-c\", worker, port])\n\
                 if child.wait() != 0: sys.exit(\"the worker did not get through\")\n\
                 if hub.accept()[0].recv(10) != b\"hello\": sys.exit(\"it said nothing\")\n";
    fs::write(dir.join("main.py"), main.replace("db.create()\n", start)).unwrap();
    // The first one finds no data to rehearse on.
    world.release_path(&dir).expect(0);
    let said = world.release_path(&dir).expect(0);
    assert!(said.stdout.contains("the new release runs on it"), "{}", said.stdout);
    assert!(!said.stdout.contains("was kept from"), "{}", said.stdout);
}

#[test]
fn the_fence_of_a_keeper_that_is_not_root_holds() {
    let redis = Redis::start();
    let world = world_of_under(&NOBODY, |_| BACKUP.to_owned(), "25s", "");
    world.release_path(&Build::default().write(&world)).expect(0);
    redis.ask("RPUSH jobs one two");
    let said = world.release_path(&worker(&world, "127.0.0.1", redis.port)).expect(15);
    let kept = format!("was kept from 127.0.0.1:{}", redis.port);
    assert!(said.why().contains(&kept), "{}", said.why());
    assert_eq!(redis.ask("LLEN jobs"), ":2");
}

/// Names of the live server that only the resolver knows: `/etc/hosts`, in a mount namespace.
pub fn named_world(wrapper: &[&str], server: &Server, lines: &str) -> World {
    let script = "mount --bind $HALLEY_TEST_WORLD/hosts /etc/hosts && exec \"$@\"";
    let named = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "sh"];
    let backup = |world: &World| {
        let url = format!("postgres://web:{ENCODED}@db.halley.test:{}/app", server.port);
        fs::write(world.path("web.env"), format!("DATABASE_URL={url}\n")).unwrap();
        let hosts = "127.0.0.1 localhost\n127.0.0.1 db.halley.test\n127.0.0.7 other.halley.test\n\
                     127.0.0.1 queue.halley.test\n";
        fs::write(world.path("hosts"), hosts).unwrap();
        "[service.web.backup]\ndriver = \"postgres\"\nurl_env = \"DATABASE_URL\"".to_owned()
    };
    let lines = format!("env_file = \"web.env\"\n{lines}");
    let world = world_of_under(&[&named, wrapper].concat(), backup, "25s", &lines);
    world.release_path(&first().write(&world)).expect(0);
    world
}

pub const NAMES: [&str; 2] = ["db.halley.test", "other.halley.test"];

/// A script that writes to the live database by a host's name.
pub fn to_host(server: &Server, name: &str) -> String {
    let port = server.port;
    let login = format!("export PGPASSWORD='{PASSWORD}' PGUSER=web PGPORT={port} PGDATABASE=app");
    format!("{login}\n{WRITE} -h {name}\nexit 3\n")
}

#[test]
fn a_name_of_the_live_database_leads_to_the_copy_and_a_name_can_be_allowed() {
    let (server, redis) = (Server::start_everywhere(), Redis::start());
    let queue = redis.port;
    let allowed = format!("rehearse_connect = [\"queue.halley.test:{queue}\"]\n");
    let world = named_world(&[], &server, &allowed);
    let text = fs::read_to_string(world.path("halley.toml")).unwrap();
    let before = server.dump();
    for name in NAMES {
        let said = world.release_path(&migrating(&world, &to_host(&server, name), &[])).expect(16);
        assert!(said.why().contains("wrote to halley_scratch_"), "{name}: {}", said.why());
        assert_eq!(server.dump(), before, "{name}");
    }
    // By its name the queue is allowed, and the database beside it is none.
    let ask = "import socket, sys\n\
               socket.create_connection((sys.argv[1], int(sys.argv[2])), 20).sendall(b\"LPOP jobs\\r\\n\")\n";
    let script = format!("python3 ask.py queue.halley.test {queue}\necho through\nexit 3\n");
    let files = [("ask.py", ask.to_owned())];
    let said = world.release_path(&migrating(&world, &script, &files)).expect(16);
    assert!(!said.why().contains("was kept from"), "{}", said.why());
    world.reload(&text.replace(&allowed, ""));
    let said = world.release_path(&migrating(&world, &script, &files)).expect(16);
    assert!(said.why().contains(&format!("was kept from 127.0.0.1:{queue}")), "{}", said.why());
}

/// What a driver's own commands restore to by the network is the live server.
#[test]
fn a_restore_to_a_live_server_is_kept_from_it_in_a_rehearsal() {
    let redis = Redis::start();
    let port = redis.port;
    let backup = |flush: &str| {
        format!(
            "[service.web.backup]\ndriver = \"command\"\n\
             take = [\"sh\", \"-ec\", \"echo x > $HALLEY_BACKUP_DIR/dump\"]\n\
             restore = [\"sh\", \"-ec\", \"{flush}; cp $HALLEY_BACKUP_DIR/dump $HALLEY_SHARED/\"]\n\
             check = [\"sh\", \"-ec\", \"{flush}; cat $HALLEY_SHARED/dump\"]"
        )
    };
    let wiped = format!("redis-cli -p {port} flushall || true");
    let world = world(&backup(&wiped));
    redis.ask("SET a 1");
    let said = world.release_path(&Build::default().write(&world)).expect(0);
    let line = format!("rehearse_connect = [\"127.0.0.1:{port}\"]");
    assert_eq!(redis.ask("EXISTS a"), ":1");
    for command in ["backup.restore", "backup.check"] {
        let kept = format!("{command}: redis-cli (pid ");
        assert!(said.stdout.contains(&kept), "{}", said.stdout);
    }
    assert!(said.stdout.contains(&format!("was kept from 127.0.0.1:{port}")), "{}", said.stdout);
    let told = said.stdout.replace('\\', "");
    assert!(told.contains(&line), "{told}");
    // One that fails without it.
    let text = fs::read_to_string(world.path("halley.toml")).unwrap();
    world.reload(&text.replace(&wiped, &format!("redis-cli -e -p {port} flushall")));
    let said = world.release_path(&Build::default().write(&world)).expect(15);
    assert!(said.why().contains("backup.restore"), "{}", said.why());
    assert!(said.why().contains(&line), "{}", said.why());
    assert_eq!(redis.ask("EXISTS a"), ":1");
    assert!(is_swept(&world));
    // The line as it was told: a server for rehearsals, say.
    let allowed = format!("{line}\n[service.web.health]");
    world.reload(&text.replacen("[service.web.health]", &allowed, 1));
    world.release_path(&Build::default().write(&world)).expect(0);
    assert_eq!(redis.ask("EXISTS a"), ":0");
}

/// A pooler cannot be told from any other server by its address.
#[test]
fn a_release_says_that_anywhere_is_also_a_pooler_of_the_live_database() {
    let server = Server::start_everywhere();
    let world = postgres_world(&server, "", "rehearse_connect = \"any\"\n");
    world.release_path(&first().write(&world)).expect(0);
    let said = world.release_path(&first().write(&world)).expect(0);
    assert!(said.stdout.contains("a pooler or a forwarder in front of it"), "{}", said.stdout);
}
