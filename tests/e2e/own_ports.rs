//! A program that listens at a port of its own, beside Halley's: no client of the live release gets to
//! a copy of the data that is thrown away.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::ledger_app::{BACKUP, Build, database, world_of};
use crate::world::{World, free_address};

/// Takes rows at a port that old and new share.
const INGEST: &str = r#"
import socketserver
class Ingest(socketserver.StreamRequestHandler):
    def handle(self):
        note = self.rfile.readline().decode().strip()
        if not note: return
        db.connect().execute("INSERT INTO rows (note) VALUES (?)", (note,))
        self.wfile.write(b"OK\n")
class Shared(socketserver.ThreadingTCPServer):
    request_queue_size = 100
    daemon_threads = True
    def server_bind(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        super().server_bind()
ingest = Shared(("127.0.0.1", {PORT}), Ingest)
threading.Thread(target=ingest.serve_forever, daemon=True).start()
with socket.create_connection(("127.0.0.1", {PORT}), 20) as own: own.sendall(b"\n")
"#;

fn build(world: &World, port: u16) -> PathBuf {
    let dir = Build::default().write(world);
    let main = fs::read_to_string(dir.join("main.py")).unwrap();
    let ingest = INGEST.replace("{PORT}", &port.to_string());
    fs::write(
        dir.join("main.py"),
        main.replace("db.create()\n", &format!("db.create()\n{ingest}")),
    )
    .unwrap();
    dir
}

/// Whether a row was acknowledged.
fn add(port: u16, note: &str) -> bool {
    let asked = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        writeln!(stream, "{note}")?;
        let mut said = [0; 3];
        stream.read_exact(&mut said)?;
        std::io::Result::Ok(said == *b"OK\n")
    };
    asked().unwrap_or(false)
}

fn every_acknowledged_row_is_there(lines: &str) {
    let world = world_of(|_| BACKUP.to_owned(), "12s", lines);
    let port = free_address().port();
    world.release_path(&build(&world, port)).expect(0);
    let stop = Arc::new(AtomicBool::new(false));
    let client = |client: usize| {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            let notes = (0..).map(move |n| format!("{client}-{n}"));
            let asked = notes.take_while(|_| !stop.load(Ordering::Relaxed));
            asked.filter(|note| add(port, note)).collect::<Vec<_>>()
        })
    };
    let clients: Vec<_> = (0..2).map(client).collect();
    let said = world.release_path(&build(&world, port)).expect(0);
    assert!(said.stdout.contains("the new release runs on it"), "{}", said.stdout);
    assert!(!said.stdout.contains("was kept from"), "{}", said.stdout);
    stop.store(true, Ordering::Relaxed);
    let acked: Vec<String> =
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    let read = Command::new("sqlite3").arg(database(&world)).arg("SELECT note FROM rows").output();
    let have = String::from_utf8(read.unwrap().stdout).unwrap();
    let have: BTreeSet<&str> = have.lines().collect();
    let lost: Vec<&String> = acked.iter().filter(|note| !have.contains(note.as_str())).collect();
    assert!(acked.len() > 10, "{acked:?}");
    assert!(lost.is_empty(), "{} of {} acknowledged rows: {lost:?}", lost.len(), acked.len());
}

#[test]
fn no_acknowledged_row_goes_to_a_copy_by_a_shared_port() {
    every_acknowledged_row_is_there("");
}

#[test]
fn no_acknowledged_row_goes_to_a_copy_that_may_connect_anywhere() {
    every_acknowledged_row_is_there("rehearse_connect = \"any\"\n");
}

/// Looks whether its ports are free before it binds them, and has a socket of its own beside its data.
const CAREFUL: &str = r#"
import subprocess
if "HALLEY_REHEARSAL" in os.environ:
    def refused(do):
        try: do()
        except ConnectionRefusedError: return
        sys.exit("somebody is there")
    refused(lambda: socket.create_connection(("127.0.0.1", {PORT}), 20))
    refused(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", {PORT})))
ports = []
for kind in socket.SOCK_STREAM, socket.SOCK_DGRAM:
    ports.append(socket.socket(socket.AF_INET, kind))
    ports[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    ports[-1].bind(("127.0.0.1", {PORT}))
ports[0].listen()
os.chdir(os.environ["HALLEY_SHARED"])
if os.path.exists("control"): os.remove("control")
control = socket.socket(socket.AF_UNIX); control.bind("control"); control.listen()
for path in "control", os.path.abspath("control"):
    worker = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    if subprocess.call([sys.executable, "-c", worker, path]) != 0: sys.exit("no way to itself")
    control.accept()
"#;

#[test]
fn a_program_that_looks_whether_it_runs_already_finds_itself_alone_in_a_rehearsal() {
    // What is started on live data is not what this is about.
    let world = world_of(|_| BACKUP.to_owned(), "25s", "rehearse = \"light\"\n");
    let port = free_address().port();
    let build = |world: &World| {
        let dir = Build::default().write(world);
        let main = fs::read_to_string(dir.join("main.py")).unwrap();
        let careful =
            format!("db.create()\nimport os\n{}", CAREFUL.replace("{PORT}", &port.to_string()));
        fs::write(dir.join("main.py"), main.replace("db.create()\n", &careful)).unwrap();
        dir
    };
    // The first one finds no data to rehearse on.
    world.release_path(&build(&world)).expect(0);
    // With the next one, a release is kept warm that has the ports too.
    for _ in 0..2 {
        let said = world.release_path(&build(&world)).expect(0);
        assert!(said.stdout.contains("the new release runs on it, so does"), "{}", said.stdout);
        assert!(!said.stdout.contains("was kept from"), "{}", said.stdout);
    }
}

/// Has sockets beside its data, without a file, and outside; looks for them, and for those of others.
const SOCKETS: &str = r#"
import errno, os
os.chdir(os.environ["HALLEY_SHARED"])
def found(path):
    try: socket.socket(socket.AF_UNIX).connect(path)
    except OSError as error: return errno.errorcode[error.errno]
    return "reached"
own = "app.sock", "\0{NAME}", "{OUTSIDE}"
if "HALLEY_REHEARSAL" in os.environ:
    print("found", *map(found, own), *map(found, ["stale", "listed", "foreign"]), flush=True)
    own = own[:1]
held = []
for path in own:
    if "HALLEY_REHEARSAL" not in os.environ and os.path.exists(path): os.remove(path)
    held.append(socket.socket(socket.AF_UNIX)); held[-1].bind(path); held[-1].listen()
if "HALLEY_REHEARSAL" in os.environ: sys.exit("own " + found("app.sock"))
"#;

#[test]
fn sockets_of_the_live_release_are_not_there_and_those_of_others_are_as_the_fence_says() {
    let world = world_of(|_| BACKUP.to_owned(), "12s", "rehearse = \"light\"\n");
    let listed = world.service_path("shared/listed");
    let build = |world: &World| {
        let dir = Build::default().write(world);
        let main = fs::read_to_string(dir.join("main.py")).unwrap();
        let name = format!("halley-sockets-{}", std::process::id());
        let sockets = SOCKETS
            .replace("{NAME}", &name)
            .replace("{OUTSIDE}", world.path("app.sock").to_str().unwrap());
        fs::write(
            dir.join("main.py"),
            main.replace("db.create()\n", &format!("db.create()\n{sockets}")),
        )
        .unwrap();
        dir
    };
    world.release_path(&build(&world)).expect(0);
    let text = fs::read_to_string(world.path("halley.toml")).unwrap();
    let gone = world.service_path("shared/unnamed");
    let line = format!("rehearse_connect = [{listed:?}, {gone:?}]\n[service.web.health]");
    world.reload(&text.replacen("[service.web.health]", &line, 1));
    let [listed, foreign, stale] = ["listed", "foreign", "stale"]
        .map(|name| UnixListener::bind(world.service_path("shared").join(name)).unwrap());
    drop(stale);
    // One that is open still, and has no name any more.
    let unnamed = UnixListener::bind(world.service_path("shared/unnamed")).unwrap();
    fs::remove_file(world.service_path("shared/unnamed")).unwrap();
    let said = world.release_path(&build(&world)).expect(15);
    let why = said.why();
    let found = "found ENOENT ECONNREFUSED ECONNREFUSED ECONNREFUSED reached EACCES";
    assert!(why.contains(found), "{why}");
    assert!(why.contains("own reached"), "{why}");
    let kept = why.lines().filter(|line| line.contains("was kept from")).collect::<Vec<_>>();
    assert!(kept.len() == 1 && kept[0].ends_with("shared/foreign"), "{why}");
    drop((listed, foreign, unnamed));
}
