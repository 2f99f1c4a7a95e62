//! Slots that a program, or a stranger of the same user, does with as it likes.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, bind, listen, socket, sockopt};

use crate::world::{World, config, free_address, kill};

/// Answers with its release, and leaves a child behind that has left its session and its environment,
/// keeps the socket and answers, too.
const FORKS: &str = r#"import os, socket, sys
GHOST = """
import socket
listener = socket.socket(fileno=3)
while True:
    try:
        caller, _ = listener.accept()
        caller.recv(4096)
        caller.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\nConnection: close\\r\\n\\r\\nghost")
        caller.close()
    except OSError: pass
"""
def ghost():
    os.setsid()
    if os.fork(): os._exit(0)
    null = os.open('/dev/null', os.O_RDWR)
    for fd in 0, 1, 2: os.dup2(null, fd)
    os.execve(sys.executable, ['ghost', '-c', GHOST], {})
if os.fork() == 0: ghost()
listener = socket.socket(fileno=3)
while True:
    try:
        caller, _ = listener.accept()
        caller.recv(4096)
        caller.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nown')
        caller.close()
    except OSError: pass
"#;

/// Answers, and when it is told to, takes its socket out of the group and listens again.
const SHUTS: &str = r#"import os, socket
shared = os.environ["HALLEY_SHARED"]
listener = socket.socket(fileno=3)
listener.settimeout(0.02)
while True:
    if os.path.exists(shared + "/shut") and not os.path.exists(shared + "/done"):
        listener.shutdown(socket.SHUT_RDWR)
        listener.listen(64)
        open(shared + "/done", "w").close()
    try:
        caller, _ = listener.accept()
        caller.settimeout(5)
        caller.recv(4096)
        caller.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nown')
        caller.close()
    except OSError: pass
"#;

/// What is answered, asked so many times.
fn answers(address: SocketAddr, n: usize) -> BTreeSet<String> {
    let ask = |_| {
        let mut stream = std::net::TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text.split("\r\n\r\n").nth(1)?.chars().take(9).collect())
    };
    (0..n).filter_map(ask).collect()
}

fn ghosts() -> Vec<i32> {
    let is_one = |pid: &i32| {
        fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"ghost\0"))
    };
    halley_sup::os::proc::all().into_iter().filter(is_one).collect()
}

/// A world whose releases need no more than an answer.
fn answered() -> World {
    let mut world = World::asleep(free_address());
    let text = config(world.address, "").replace("\"/healthz\"", "\"/\"");
    world.configure(&text.replace("rest_interval = \"off\"", "rest_interval = \"50ms\""));
    world.wake();
    world
}

#[test]
fn a_child_that_keeps_the_socket_of_a_release_that_was_replaced_gets_no_connection() {
    let before = ghosts();
    let mut world = answered();
    let build: PathBuf = world.build_of(&["/usr/bin/python3", "forks.py"]);
    fs::write(build.join("forks.py"), FORKS).unwrap();
    world.release_path(&build).expect(0);
    assert!(answers(world.address, 40).contains("ghost"));
    // Rehearsals and releases take slots that somebody else may still have.
    for n in 2..7 {
        world.release(&[]).expect(0);
        let seen = answers(world.address, 40);
        assert_eq!(seen, BTreeSet::from([format!("release {n}")]));
    }
    world.cli(&["rollback", "web", "--json"]).expect(0);
    assert_eq!(answers(world.address, 40), BTreeSet::from(["release 5".to_owned()]));
    world.sleep();
    let left: Vec<i32> = ghosts().into_iter().filter(|pid| !before.contains(pid)).collect();
    left.into_iter().for_each(|pid| kill(pid, libc::SIGKILL));
}

/// As any program of the same user may.
fn joins(address: SocketAddr) -> OwnedFd {
    let stranger = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    sockopt::set_socket_reuseport(&stranger, true).unwrap();
    bind(&stranger, &address).unwrap();
    listen(&stranger, 16).unwrap();
    stranger
}

#[test]
fn a_stranger_that_joins_the_port_gets_no_connection_and_is_named() {
    let world = answered();
    world.release(&[]).expect(0);
    world.release(&[]).expect(0);
    let stranger = TcpListener::from(joins(world.address));
    stranger.set_nonblocking(true).unwrap();
    let own = format!("(pid {})", std::process::id());
    world.wait("it is named", |world| world.status()["why"].to_string().contains(&own));
    assert_eq!(world.status()["state"], "degraded");
    assert_eq!(answers(world.address, 100), BTreeSet::from(["release 2".to_owned()]));
    // A new slot lies behind the stranger's socket; one that is there is used again.
    let said = world.release(&[]);
    let why = said.why();
    assert!(said.code == 0 || why.contains(&own) && why.contains("listens there as well"), "{why}");
    world.cli(&["rollback", "web", "--json"]).expect(0);
    world.kill_supervisor();
    world.wait("another supervisor", |world| world.cli(&["status"]).code == 0);
    let seen = answers(world.address, 100);
    assert!(seen.len() == 1 && seen.iter().all(|one| one.starts_with("release")), "{seen:?}");
    // Only connections of Halley's own, by which it looks where a slot is, may have come.
    let mut n_taken = 0;
    while stranger.accept().is_ok() {
        n_taken += 1;
    }
    assert!(n_taken < 10, "{n_taken}");
    drop(stranger);
    world.wait("it is over", |world| world.status()["why"].is_null());
    world.release(&["lines=1"]).expect(0);
}

/// The kernel moves the last socket of a group to the place of the one that is shut (`reuseport_detach_sock`):
/// the stranger's, which came after it. Connections to that release reach nobody who answers.
#[test]
fn a_stranger_in_the_place_of_a_slot_that_is_shut_is_named_and_a_rollback_leads_out() {
    let world = answered();
    world.release(&[]).expect(0);
    let build = world.build_of(&["/usr/bin/python3", "shuts.py"]);
    fs::write(build.join("shuts.py"), SHUTS).unwrap();
    world.release_path(&build).expect(0);
    let stranger = joins(world.address);
    let own = format!("(pid {})", std::process::id());
    world.wait("it is named", |world| world.status()["why"].to_string().contains(&own));
    fs::write(world.service_path("shared/shut"), "").unwrap();
    world.wait("what is wrong is said, and the way out", |world| {
        let status = world.status();
        let why = status["why"].as_str().unwrap_or_default();
        let is_said =
            ["no answer within 1s", &own, "halley-sup rollback web goes back to release 1"];
        status["state"] == "degraded" && is_said.iter().all(|text| why.contains(text))
    });
    world.cli(&["rollback", "web", "--json"]).expect(0);
    assert_eq!(answers(world.address, 100), BTreeSet::from(["release 1".to_owned()]));
    drop(stranger);
    world.wait("it is over", |world| world.status()["why"].is_null());
    world.release(&["lines=1"]).expect(0);
    assert_eq!(answers(world.address, 40), BTreeSet::from(["release 3".to_owned()]));
}
