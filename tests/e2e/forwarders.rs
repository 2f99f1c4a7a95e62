//! What stands in front of the live database under another address: whoever speaks to PostgreSQL through
//! it in a rehearsal gets the copy.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use halley_sup::os::proc;

use crate::any_database::MariaDb;
use crate::fenced::{WRITE, first, migrating, postgres_world};
use crate::fenced_mariadb::scripted;
use crate::ledger_app::{Store, is_swept, serve_rows};
use crate::postgres::{ENCODED, PASSWORD, Server};
use crate::world::{free_address, kill};

/// Passes every connection on, as socat, HAProxy and `ssh -L` do.
const FORWARD: &str = r#"
import socket, sys, threading
hear = socket.create_server(("127.0.0.1", int(sys.argv[2])))
print(hear.getsockname()[1], flush=True)
def carry(a, b):
    try:
        while data := a.recv(65536): b.sendall(data)
    except OSError: pass
    for end in a, b:
        try: end.shutdown(socket.SHUT_RDWR)
        except OSError: pass
while True:
    a, b = hear.accept()[0], socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    for pair in (a, b), (b, a): threading.Thread(target=carry, args=pair, daemon=True).start()
"#;

pub struct Forwarder {
    child: Child,
    pub port: u16,
}

impl Forwarder {
    pub fn to(port: u16) -> Self {
        Self::at(0, port)
    }

    fn at(own: u16, port: u16) -> Self {
        let mut child = Command::new("/usr/bin/python3")
            .args(["-c", FORWARD, &port.to_string(), &own.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, port: line.trim().parse().unwrap() }
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        kill(i32::try_from(self.child.id()).unwrap(), libc::SIGKILL);
        drop(self.child.wait());
    }
}

pub fn login(port: u16) -> String {
    format!(
        "export PGPASSWORD='{PASSWORD}' PGUSER=web PGHOST=127.0.0.1 PGPORT={port} PGDATABASE=app"
    )
}

#[test]
fn a_forwarder_to_the_live_database_leads_to_the_copy() {
    let server = Server::start_everywhere();
    let forwarder = Forwarder::to(server.port);
    let listed = format!("rehearse_connect = [\"127.0.0.1:{}\"]\n", forwarder.port);
    for allowed in [listed.as_str(), "rehearse_connect = \"any\"\n"] {
        let world = postgres_world(&server, "", allowed);
        serve_rows(&world, Store::Postgres, 1);
        let before = server.dump();
        for mode in ["disable", "prefer"] {
            let script = format!("{} PGSSLMODE={mode}\n{WRITE}\nexit 3\n", login(forwarder.port));
            let said = world.release_path(&migrating(&world, &script, &[])).expect(16);
            let why = said.why();
            assert!(why.contains("wrote to halley_scratch_"), "{allowed}{mode}: {why}");
            assert_eq!(server.dump(), before, "{allowed}{mode}");
        }
        assert!(is_swept(&world));
    }
}

/// Starts a forwarder when a migration on a copy waits for it.
fn coming(own: u16, to: u16) -> std::thread::JoinHandle<Forwarder> {
    let waits = move |pid: i32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&words).contains(&waiting(own))
    };
    std::thread::spawn(move || {
        let begun = std::time::Instant::now();
        while !proc::all().into_iter().any(waits) {
            assert!(begun.elapsed().as_secs() < 60, "no migration waits");
            std::thread::park_timeout(std::time::Duration::from_millis(50));
        }
        Forwarder::at(own, to)
    })
}

fn waiting(port: u16) -> String {
    format!("import socket; socket.create_connection(('127.0.0.1', {port}))")
}

#[test]
fn a_forwarder_that_comes_in_the_middle_of_a_rehearsal_leads_to_the_copy() {
    let (server, port) = (Server::start_everywhere(), free_address().port());
    let wait = format!("until python3 -c \"{}\" 2>/dev/null; do sleep 0.1; done", waiting(port));
    let listed = format!("rehearse_connect = [\"127.0.0.1:{port}\"]\n");
    for allowed in [listed.as_str(), "rehearse_connect = \"any\"\n"] {
        let world = postgres_world(&server, "", allowed);
        serve_rows(&world, Store::Postgres, 1);
        let before = server.dump();
        let script = format!("{wait}\n{}\n{WRITE}\nexit 3\n", login(port));
        let forwarder = coming(port, server.port);
        let why = world.release_path(&migrating(&world, &script, &[])).expect(16).why();
        drop(forwarder.join().unwrap());
        assert!(why.contains("wrote to halley_scratch_"), "{allowed}: {why}");
        assert_eq!(server.dump(), before, "{allowed}");
    }
}

#[test]
fn a_forwarder_to_mariadb_that_comes_in_the_middle_of_a_rehearsal_is_no_way_in() {
    let (server, port) = (MariaDb::start(), free_address().port());
    let wait = format!("until python3 -c \"{}\" 2>/dev/null; do sleep 0.1; done", waiting(port));
    let world = server.world_with("rehearse_connect = \"any\"\n");
    serve_rows(&world, Store::MariaDb, 1);
    let before = server.dump();
    let script = format!(
        "{wait}\nMYSQL_PWD='{PASSWORD}' mariadb --no-defaults --protocol=tcp --host=127.0.0.1 \
         --port={port} --user=web app -e \"DELETE FROM \\`rows\\`\" 2>&1\nexit 3"
    );
    let forwarder = coming(port, server.port);
    let why = world.release_path(&scripted(&world, &script)).expect(16).why();
    drop(forwarder.join().unwrap());
    assert!(why.contains("a login as \"web\""), "{why}");
    assert_eq!(server.dump(), before);
}

#[test]
fn the_live_database_by_tls_through_a_forwarder_refuses_the_release() {
    let server = Server::start_everywhere();
    let forwarder = Forwarder::to(server.port);
    let allowed = format!("rehearse_connect = [\"127.0.0.1:{}\"]\n", forwarder.port);
    let world = postgres_world(&server, "?sslmode=require", &allowed);
    serve_rows(&world, Store::Postgres, 1);
    let before = server.dump();
    let url = format!("postgres://web:{ENCODED}@127.0.0.1:{}/app?sslmode=require", forwarder.port);
    let script = format!("psql -X -c 'CREATE TABLE damaged ()' -d '{url}' || true\n");
    let said = world.release_path(&migrating(&world, &script, &[])).expect(15);
    let why = said.why();
    assert!(why.contains("opened database \"app\" over TLS instead of the copy"), "{why}");
    assert_eq!(server.dump(), before);
}

/// A pooler that has the live database under another name alone.
fn pooler(server: &Server, dir: &Path) -> Forwarder {
    let port = free_address().port();
    let [users, settings] = ["users", "ini"].map(|name| dir.join(name));
    fs::write(&users, format!("\"web\" \"{PASSWORD}\"\n")).unwrap();
    let text = format!(
        "[databases]\nother = host=127.0.0.1 port={} dbname=app\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
         listen_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\n",
        server.port,
        users.display()
    );
    fs::write(&settings, text).unwrap();
    fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap();
    let child = Command::new("setpriv")
        .args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "/usr/sbin/pgbouncer"])
        .arg(settings)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Forwarder { child, port }
}

#[test]
fn a_pooler_that_has_the_live_database_under_another_name_is_seen() {
    let server = Server::start_everywhere();
    let dir = tempfile::tempdir().unwrap();
    let pooler = pooler(&server, dir.path());
    let by_pooler = login(pooler.port).replace("PGDATABASE=app", "PGDATABASE=other");
    let listed = format!("rehearse_connect = [\"127.0.0.1:{}\"]\n", pooler.port);
    for allowed in [listed.as_str(), "rehearse_connect = \"any\"\n"] {
        let world = postgres_world(&server, "", allowed);
        serve_rows(&world, Store::Postgres, 1);
        let before = server.dump();
        let script = format!("{by_pooler}\n{WRITE} || true\n");
        let why = world.release_path(&migrating(&world, &script, &[])).expect(15).why();
        let seen =
            "opened database \"app\" of the live server, through an address in rehearse_connect";
        assert!(why.contains(seen), "{allowed}{why}");
        assert_eq!(server.dump(), before, "{allowed}");
        assert!(is_swept(&world));
    }
    // It does lead there.
    let before = server.dump();
    let script = format!("{by_pooler}\n{WRITE}");
    assert!(Command::new("/bin/sh").args(["-ec", &script]).status().unwrap().success());
    assert_ne!(server.dump(), before);
}

const CLIENT: &str =
    "mariadb --no-defaults --batch --skip-column-names --protocol=tcp --host=127.0.0.1";

/// Empties the table of the MariaDB server that is reached at this port.
pub fn emptying(port: u16) -> String {
    format!(
        "MYSQL_PWD='{PASSWORD}' {CLIENT} --port={port} --user=web app -e \"DELETE FROM \\`rows\\`\""
    )
}

#[test]
fn a_forwarder_to_the_live_mariadb_server_lets_the_user_of_copies_in_alone() {
    let server = MariaDb::start();
    let forwarder = Forwarder::to(server.port);
    let port = forwarder.port;
    let write = emptying(port);
    let listed = format!("rehearse_connect = [\"127.0.0.1:{port}\"]\n");
    for allowed in [listed.as_str(), "rehearse_connect = \"any\"\n"] {
        let world = server.world_with(allowed);
        serve_rows(&world, Store::MariaDb, 1);
        let before = server.dump();
        let script = format!(
            "{write} 2>&1 || true\nMYSQL_PWD=$DB_PASSWORD {CLIENT} --port={port} --user=$DB_USER $DB_NAME \
             -e \"SELECT CONCAT('wrote to ', DATABASE())\""
        );
        let why = world.release_path(&scripted(&world, &script)).expect(16).why();
        assert!(why.contains("a login as \"web\""), "{allowed}{why}");
        assert!(why.contains("wrote to halley_scratch_"), "{allowed}{why}");
        assert_eq!(server.dump(), before, "{allowed}");
        assert!(is_swept(&world));
    }
    // It does lead there.
    assert!(Command::new("/bin/sh").args(["-ec", &write]).status().unwrap().success());
    assert_eq!(server.sql("SELECT COUNT(*) FROM app.`rows`").unwrap().trim(), "0");
}

/// Whatever else is allowed is reached as it is: another server with a database of the same name, and one
/// that speaks first.
#[test]
fn another_server_that_is_allowed_is_no_way_to_the_live_database() {
    let (server, other) = (Server::start_everywhere(), Server::start_everywhere());
    let greeting = Greeting::start();
    let allowed = format!(
        "rehearse_connect = [\"127.0.0.1:{}\", \"127.0.0.1:{}\"]\n",
        other.port, greeting.port
    );
    let world = postgres_world(&server, "", &allowed);
    let which =
        "psql -X -A -t -c \"SELECT 'of ' || current_setting('port') || ' ' || current_database()\"";
    let greeted = format!(
        "/usr/bin/python3 -c \"import socket; print(socket.create_connection(('127.0.0.1', {})).recv(9))\"",
        greeting.port
    );
    world.release_path(&first().write(&world)).expect(0);
    for mode in ["disable", "require"] {
        let script =
            format!("{} PGSSLMODE={mode}\n{which}\n{greeted}\nexit 3\n", login(other.port));
        let said = world.release_path(&migrating(&world, &script, &[])).expect(16);
        let why = said.why();
        assert!(why.contains(&format!("of {} app", other.port)), "{mode}: {why}");
        assert!(why.contains("hello"), "{mode}: {why}");
    }
}

/// A server that speaks first, to whoever comes.
struct Greeting {
    port: u16,
}

impl Greeting {
    fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                drop(std::io::Write::write_all(&mut stream, b"hello"));
            }
        });
        Self { port }
    }
}
