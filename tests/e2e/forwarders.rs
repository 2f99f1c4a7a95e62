//! What stands in front of the live database under another address: whoever speaks to PostgreSQL through
//! it in a rehearsal gets the copy.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::fenced::{WRITE, first, migrating, postgres_world};
use crate::ledger_app::{get, is_swept};
use crate::postgres::{ENCODED, PASSWORD, Server};
use crate::world::kill;

/// Passes every connection on, as socat, HAProxy and `ssh -L` do.
const FORWARD: &str = r#"
import socket, sys, threading
hear = socket.create_server(("127.0.0.1", 0))
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

struct Forwarder {
    child: Child,
    port: u16,
}

impl Forwarder {
    fn to(port: u16) -> Self {
        let mut child = Command::new("/usr/bin/python3")
            .args(["-c", FORWARD, &port.to_string()])
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

fn login(port: u16) -> String {
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
        world.release_path(&first().write(&world)).expect(0);
        get(world.address, "/add").unwrap();
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

#[test]
fn the_live_database_by_tls_through_a_forwarder_refuses_the_release() {
    let server = Server::start_everywhere();
    let forwarder = Forwarder::to(server.port);
    let allowed = format!("rehearse_connect = [\"127.0.0.1:{}\"]\n", forwarder.port);
    let world = postgres_world(&server, "?sslmode=require", &allowed);
    world.release_path(&first().write(&world)).expect(0);
    get(world.address, "/add").unwrap();
    let before = server.dump();
    let url = format!("postgres://web:{ENCODED}@127.0.0.1:{}/app?sslmode=require", forwarder.port);
    let script = format!("psql -X -c 'CREATE TABLE damaged ()' -d '{url}' || true\n");
    let said = world.release_path(&migrating(&world, &script, &[])).expect(15);
    let why = said.why();
    assert!(why.contains("opened database \"app\" over TLS instead of the copy"), "{why}");
    assert_eq!(server.dump(), before);
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
