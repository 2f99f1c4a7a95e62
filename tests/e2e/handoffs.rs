//! What a handoff promises beside the flip: who calls is known, binds are answered whoever is away,
//! and a program that binds otherwise is told so.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};

use halley_sup::demo::load::{Load, Shape};
use halley_sup::os::diag::{self, ESTABLISHED, LISTEN};
use halley_sup::os::proc;
use serde_json::Value;

use crate::modes::{world, world_with};
use crate::world::{World, free_address, kill};

fn tcp(handoff: &'static str) -> impl Fn(&World) -> String {
    move |world| format!("listen = [\"tcp://{}\"]\nhandoff = \"{handoff}\"", world.address)
}

fn get(address: SocketAddr, path: &str) -> (String, SocketAddr) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let ours = stream.local_addr().unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    (text, ours)
}

/// Sockets of the service's address in a state.
fn sockets(world: &World, state: u8) -> Vec<diag::Row> {
    let local_port = Some(world.address.port());
    diag::rows(diag::Wanted { states: &[state], local_port, ..diag::Wanted::default() })
}

fn why(said: &Value) -> String {
    said["trouble"]["why"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn the_program_sees_who_calls() {
    for handoff in ["inherit", "intercept"] {
        let world = world(tcp(handoff), "");
        let bind = format!("bind={}", world.address);
        let behaviour: &[&str] = if handoff == "intercept" { &[&bind] } else { &[] };
        world.release(behaviour).expect(0);
        let (text, ours) = get(world.address, "/peer");
        assert!(text.trim_end().ends_with(&format!("from {ours}")), "{handoff}: {text}");
    }
}

/// A program that binds the wildcard of one family gets the dual-stack slot, both families reach
/// it, and a second listener of the service is its own.
#[test]
fn both_families_reach_an_intercepted_program() {
    for (listen, bind) in [("[::]", "[::]"), ("[::]", "0.0.0.0"), ("[::1]", "[::1]")] {
        let port = free_address().port();
        let lines = move |_: &World| {
            format!("listen = [\"tcp://{listen}:{port}\"]\nhandoff = \"intercept\"")
        };
        let world = world(lines, "");
        let bind = format!("bind={bind}:{port}");
        world.release(&[&bind]).expect(0);
        let targets: &[&str] = if listen == "[::]" { &["127.0.0.1", "[::1]"] } else { &["[::1]"] };
        let loads: Vec<Load> = targets
            .iter()
            .map(|ip| {
                let address: SocketAddr = format!("{ip}:{port}").parse().unwrap();
                Load::start(address, Shape::Short, 2)
            })
            .collect();
        world.release(&[&bind]).expect(0);
        for load in loads {
            assert!(load.wait_for(5));
            let ledger = load.stop();
            assert_eq!(ledger.n_lost(), 0, "{listen} {bind}: {}", ledger.losses());
        }
    }
}

/// A forwarded program sees the forwarder, and the caller in a header if it asks for one: gunicorn
/// reads it.
#[test]
fn a_forwarded_program_is_told_who_calls() {
    let more = "[service.web.forward]\nproxy_protocol = true";
    let others =
        [("deadline = \"5s\"", "deadline = \"20s\""), ("http = \"/healthz\"", "tcp = true")];
    let world = world_with(tcp("port"), more, &others);
    let dir = world.build_of(&["python3", "app.py"]);
    // The header's signature, the addresses, then the request.
    let app = "import os, socket, struct\ns = socket.create_server(('127.0.0.1', int(os.environ['PORT'])))\nwhile True:\n    c, _ = s.accept()\n    f = c.makefile('rb')\n    h = f.read(16)\n    if len(h) < 16:\n        continue\n    b = f.read(struct.unpack('!H', h[14:16])[0])\n    if not f.readline():\n        f.close(); c.close()\n        continue\n    ip = '.'.join(map(str, b[0:4])); port = struct.unpack('!H', b[8:10])[0]\n    body = ('release 1 from %s:%d\\n' % (ip, port)).encode()\n    c.sendall(b'HTTP/1.0 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n' % len(body) + body)\n    f.close(); c.close()\n";
    fs::write(dir.join("app.py"), app).unwrap();
    world.release_path(&dir).expect(0);
    let (text, ours) = get(world.address, "/");
    assert!(text.trim_end().ends_with(&format!("from {ours}")), "{text}");
}

/// The bind is the keeper's to answer.
#[test]
fn a_bind_is_answered_while_no_supervisor_runs() {
    let world = world_with(tcp("intercept"), "", &[("deadline = \"5s\"", "deadline = \"20s\"")]);
    let bind = format!("bind={}", world.address);
    let build = world.build(&[&bind, "late-ms=600"]);
    let mut command = world.command(&["release", "web", &build.to_string_lossy(), "--json"]);
    let mut client = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    world.wait("it starts", |world| world.status()["operation"]["phase"] == "gate");
    let program = world.status()["instances"][0]["pid"].as_i64().unwrap();
    // Stopped, not killed: nobody takes its place, and the program binds meanwhile.
    let supervisor = world.supervisor_pid().unwrap();
    kill(supervisor, libc::SIGSTOP);
    world.wait("the program has a listening socket", |world| {
        let own = proc::socket_inodes(i32::try_from(program).unwrap());
        sockets(world, LISTEN).iter().any(|row| own.contains(&row.inode))
    });
    kill(supervisor, libc::SIGKILL);
    assert!(client.wait().unwrap().success());
    assert_eq!(world.answering(), Some(1));
}

#[test]
fn a_program_under_intercept_that_binds_otherwise_is_told_so() {
    let world = world(tcp("intercept"), "");
    let (bind, other) = (format!("bind={}", world.address), free_address());
    // Late and twice is fine.
    world.release(&[&bind, "late-ms=300", "twice"]).expect(0);
    let load = world.load(Shape::Short);
    let said = world.release(&[&format!("bind={other}")]).expect(20).result();
    assert!(why(&said).contains(&format!("it listens on {other}")), "{said}");
    assert!(why(&said).contains(&format!("it has not bound tcp://{}", world.address)), "{said}");
    let said = world.release(&["works"]).expect(20).result();
    assert!(why(&said).contains("it has not bound tcp://"), "{said}");
    assert_eq!(said["serving"], 1);
    world.release(&[&bind, "twice"]).expect(0);
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
}

#[test]
fn a_program_told_its_port_that_takes_another_is_told_so() {
    let world = world(tcp("port"), "");
    world.release(&[]).expect(0);
    let other = free_address();
    let said = world.release(&[&format!("bind={other}")]).expect(20).result();
    assert!(why(&said).contains(&format!("it listens on {other}, but PORT=")), "{said}");
    assert_eq!(said["serving"], 1);
    assert_eq!(world.answering(), Some(1));
}

/// A forwarder that is killed is started again; its queue was never lost. A program that is away
/// for a moment is waited for.
#[test]
fn a_killed_forwarder_and_a_killed_program_are_waited_for() {
    let world = world(tcp("port"), "");
    world.release(&[]).expect(0);
    let pid_of = |world: &World, verb: &str| {
        world.left_behind().into_iter().find(|pid| {
            fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.split('\0').nth(1) == Some(verb))
        })
    };
    let forwarder = |world: &World| {
        halley_sup::os::proc::tree(world.keeper_pid()).into_iter().find(|pid| {
            fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.split('\0').nth(1) == Some("forward"))
        })
    };
    for _ in 0..3 {
        let before = forwarder(&world).unwrap();
        kill(before, libc::SIGKILL);
        assert_eq!(world.answering(), Some(1), "the queue waits for the next one");
        world.wait("another forwarder", |world| forwarder(world).is_some_and(|pid| pid != before));
        let before = pid_of(&world, "demo-service").unwrap();
        kill(before, libc::SIGKILL);
        // One that is dying still has a queue, and what is in it is lost with it.
        let is_gone = |pid: i32| !Path::new(&format!("/proc/{pid}")).exists();
        world.wait("it is gone", |_| is_gone(before));
        assert_eq!(world.answering(), Some(1), "it waits for the program");
    }
}

#[test]
fn a_limit_of_clients_lets_the_others_wait() {
    let more = "[service.web.forward]\nmax_clients = 2";
    let world = world(tcp("port"), more);
    world.release(&[]).expect(0);
    let idle: Vec<TcpStream> = (0..2).map(|_| TcpStream::connect(world.address).unwrap()).collect();
    let load = Load::start(world.address, Shape::Short, 1);
    // A connection belongs to no process as long as it waits in the queue.
    world.wait("two are taken and one waits in the queue", |world| {
        let rows = sockets(world, ESTABLISHED);
        let n_waiting = rows.iter().filter(|row| row.inode == 0).count();
        (rows.len(), n_waiting) == (3, 1)
    });
    assert_eq!(load.n_done(), 0, "it waits in the queue");
    drop(idle);
    assert!(load.wait_for(5));
    assert_eq!(load.stop().n_lost(), 0);
}

pub fn public(world: &World) -> PathBuf {
    world.path("public/web.sock")
}

#[test]
fn a_unix_socket_has_its_mode_and_owner_and_its_path_stays() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let lines = |world: &World| {
        format!(
            "listen = [\"unix:{}\"]\nsocket_mode = \"0640\"\nsocket_owner = \"nobody:daemon\"\nhandoff = \"intercept\"",
            public(world).display()
        )
    };
    // A socket that a crash has left over is in nobody's way.
    let mut world = world(lines, "");
    fs::create_dir_all(public(&world).parent().unwrap()).unwrap();
    drop(std::os::unix::net::UnixListener::bind(public(&world)).unwrap());
    let bind = format!("bind=unix:{}", public(&world).display());
    world.release(&[&bind]).expect(0);
    let seen = fs::symlink_metadata(public(&world)).unwrap();
    assert_eq!(seen.permissions().mode() & 0o777, 0o640);
    let nobody = halley_sup::os::proc::user("nobody").unwrap();
    let daemon = halley_sup::os::proc::group("daemon").unwrap();
    assert_eq!((seen.uid(), seen.gid()), (nobody.uid, daemon));
    // Removed by somebody, it is back by the next look.
    let load = Load::start(public(&world), Shape::Short, 2);
    assert!(load.wait_for(10));
    world.release(&[&bind]).expect(0);
    assert_eq!(load.stop().n_lost(), 0);
    world.power_cut();
    world.wake();
    world.wait("it is back", |world| world.status()["state"] == "running");
    let load = Load::start(public(&world), Shape::Short, 1);
    assert!(load.wait_for(3));
    assert_eq!(load.stop().n_lost(), 0);
    world.cli(&["stop", "web"]).expect(0);
    assert!(!public(&world).exists(), "nobody listens, and nothing says so");
}

#[test]
fn a_path_that_somebody_has_is_refused() {
    let lines = |world: &World| format!("listen = [\"unix:{}\"]", public(world).display());
    let world = world(lines, "");
    fs::create_dir_all(public(&world).parent().unwrap()).unwrap();
    let stranger = std::os::unix::net::UnixListener::bind(public(&world)).unwrap();
    let said = world.release(&[]).expect(10).result();
    assert!(why(&said).contains("another process listens there"), "{said}");
    drop(stranger);
    fs::remove_file(public(&world)).unwrap();
    fs::write(public(&world), "precious").unwrap();
    let said = world.release(&[]).expect(10).result();
    assert!(why(&said).contains("a file that is no socket is there"), "{said}");
    assert_eq!(fs::read_to_string(public(&world)).unwrap(), "precious");
    fs::remove_file(public(&world)).unwrap();
    world.release(&[]).expect(0);
}

#[test]
fn the_doctor_has_looked_at_it() {
    let world = world(tcp("inherit"), "");
    let said = world.cli(&["doctor"]);
    assert!(said.stdout.contains("intercept works"), "{}", said.stdout);
}
