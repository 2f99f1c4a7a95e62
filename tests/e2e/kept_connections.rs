//! Clients that keep their connections, and never send a request twice, are served by the new release after a
//! flip, in either direction; no request is lost, and none waits.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use halley_sup::os::proc;

use crate::world::{World, config, free_address, kill};

/// Longer than anything takes that is not lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// An event loop, as most programs have one.
const LOOP: &str = r#"
import asyncio, os, socket
release = os.environ["HALLEY_RELEASE"]
async def serve(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.lower().split(b"\r\n")
            sizes = [int(l.split(b":")[1]) for l in lines if l.startswith(b"content-length:")]
            body = await reader.readexactly(sum(sizes))
            peer = writer.get_extra_info("peername")[0]
            text = f"{release} {len(body)} {peer}".encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text))
            await writer.drain()
            if b"connection: close" in lines: break
    except (asyncio.IncompleteReadError, ConnectionError): pass
    finally: writer.close()
async def main():
    async with await asyncio.start_server(serve, sock=socket.socket(fileno=3)) as server:
        await server.serve_forever()
asyncio.run(main())
"#;

/// The same with a thread for each connection, which waits in `recv(2)`.
const THREADS: &str = r#"
import os, socket, threading
release = os.environ["HALLEY_RELEASE"]
def serve(c):
    f = c.makefile("rb")
    while True:
        size = close = 0
        line = f.readline()
        if not line: break
        while line not in (b"\r\n", b""):
            line = f.readline().lower()
            if line.startswith(b"content-length:"): size = int(line.split(b":")[1])
            if line.startswith(b"connection: close"): close = 1
        body = f.read(size)
        text = f"{release} {len(body)} {c.getpeername()[0]}".encode()
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text))
        if close: break
    f.close(); c.close()
s = socket.socket(fileno=3)
while True:
    c = s.accept()[0]
    threading.Thread(target=serve, args=(c,), daemon=True).start()
"#;

/// What becomes of kept connections is `kept`.
fn world(kept: &str) -> World {
    let mut world = World::asleep(free_address());
    let first = format!("kept = \"{kept}\"\n[service.web.health]");
    // What does not follow in time is the program's own to lose, at its stop.
    let text = config(world.address, "").replace("linger = \"200ms\"", "linger = \"5s\"");
    let text = text.replace("drain = \"0s\"", "drain = \"20s\"");
    world.configure(&text.replace("[service.web.health]", &first));
    world.wake();
    world
}

fn build(world: &World, program: &str) -> PathBuf {
    let dir = world.build_of(&["/usr/bin/python3", "app.py"]);
    fs::write(dir.join("app.py"), program).unwrap();
    dir
}

/// Bodies of requests, one after the other; none is a GET.
type Bodies = &'static [usize];
const GETS: Bodies = &[0];
const MIXED: Bodies = &[0, 10, 0, 5_000, 0, 0, 300_000];

#[derive(Default)]
struct Ledger {
    lost: Vec<String>,
    /// Answers, and when the last one came, by release.
    by_release: BTreeMap<u64, (u64, Option<Instant>)>,
    peers: BTreeMap<String, u64>,
}

/// Clients with a connection each.
struct Clients {
    ledger: Arc<Mutex<Ledger>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    fn start(address: SocketAddr, n: u32, pause: Duration, bodies: Bodies) -> Self {
        let (ledger, stop) = (Arc::default(), Arc::default());
        let client = |index: u32| {
            let (ledger, stop) = (Arc::clone(&ledger), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut bodies = bodies.iter().cycle().skip(index as usize);
                let mut open = None;
                while !Arc::<AtomicBool>::clone(&stop).load(Ordering::Relaxed) {
                    let body = *bodies.next().unwrap();
                    let asked = ask(&mut open, address, body);
                    note(&ledger, asked.map_err(|error| format!("client {index}: {error}")));
                    std::thread::park_timeout(pause);
                }
            })
        };
        let threads = (0..n).map(client).collect();
        Self { ledger, stop, threads }
    }

    fn n_of(&self, release: u64) -> u64 {
        self.ledger.lock().unwrap().by_release.get(&release).map_or(0, |(n, _)| *n)
    }

    fn stop(self) -> Ledger {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        std::mem::take(&mut *self.ledger.lock().unwrap())
    }
}

fn note(ledger: &Mutex<Ledger>, asked: Result<String, String>) {
    let mut ledger = ledger.lock().unwrap();
    match asked {
        Ok(text) => {
            let mut words = text.split(' ');
            let release = words.next().unwrap().parse().unwrap();
            let seen = ledger.by_release.entry(release).or_default();
            *seen = (seen.0 + 1, Some(Instant::now()));
            *ledger.peers.entry(words.nth(1).unwrap().to_owned()).or_default() += 1;
        }
        Err(error) => ledger.lost.push(error),
    }
}

/// One request on a connection that is kept, or on a new one where the answer before said so.
fn ask(open: &mut Option<TcpStream>, address: SocketAddr, body: usize) -> Result<String, String> {
    let mut stream = match open.take() {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.set_nodelay(true).unwrap();
            stream
        }
    };
    let request = match body {
        0 => b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        n => {
            let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {n}\r\n\r\n");
            [head.as_bytes(), &vec![b'x'; n]].concat()
        }
    };
    stream.write_all(&request).map_err(|error| format!("sending {body}: {error}"))?;
    let (head, text) = read_answer(&mut stream).map_err(|error| format!("{body}: {error}"))?;
    if text.split(' ').nth(1) != Some(&body.to_string()) {
        return Err(format!("another one's answer: {text}"));
    }
    if !head.to_ascii_lowercase().contains("connection: close") {
        *open = Some(stream);
    }
    Ok(text)
}

fn read_answer(stream: &mut TcpStream) -> Result<(String, String), String> {
    let mut answer = Vec::new();
    let mut room = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&answer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let size = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            if size.and_then(|size| size.parse::<usize>().ok()).ok_or("no size")? <= body.len() {
                return Ok((head.to_owned(), body.to_owned()));
            }
        }
        match stream.read(&mut room) {
            Ok(0) => return Err(format!("the connection ended behind {text:?}")),
            Ok(n) => answer.extend(&room[..n]),
            Err(error) => return Err(format!("{error} behind {text:?}")),
        }
    }
}

#[track_caller]
fn nothing_is_lost(ledger: &Ledger) {
    assert!(ledger.lost.is_empty(), "{} lost: {:?}", ledger.lost.len(), ledger.lost.first());
}

/// The flip there and back: after each, all requests are answered by where it leads.
#[track_caller]
fn follow_there_and_back(world: &World, program: &str, bodies: Bodies) -> Ledger {
    world.release_path(&build(world, program)).expect(0);
    let clients = Clients::start(world.address, 16, Duration::from_millis(20), bodies);
    world.wait("all clients are at work", |_| clients.n_of(1) > 100);
    let said = world.release_path(&build(world, program)).expect(0);
    world.wait("the new release answers", |_| clients.n_of(2) > 100);
    let before = clients.n_of(1);
    world.wait("it goes on", |_| clients.n_of(2) > 300);
    assert_eq!(clients.n_of(1), before, "release 1 still answers: {}", said.stderr);
    world.cli(&["rollback", "web"]).expect(0);
    world.wait("the old release answers again", |_| clients.n_of(1) > before + 100);
    let before = clients.n_of(2);
    world.wait("it goes on", |_| clients.n_of(1) > before + 300);
    assert_eq!(clients.n_of(2), before, "release 2 still answers");
    clients.stop()
}

#[test]
fn requests_on_kept_connections_follow_the_flip_there_and_back() {
    let world = world("follow");
    let ledger = follow_there_and_back(&world, LOOP, MIXED);
    nothing_is_lost(&ledger);
    let peers: Vec<&String> = ledger.peers.keys().collect();
    assert_eq!(peers, [&world.address.ip().to_string()]);
}

/// Whose marks are up: the two processes, the watcher first.
fn followers(keeper: i32) -> Vec<i32> {
    let line = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let all = proc::tree(keeper).into_iter();
    let mut found: Vec<i32> = all.filter(|pid| line(pid).contains("\0follow\0")).collect();
    found.sort_by_key(|pid| !line(pid).contains("--watch"));
    found
}

/// One of the two is killed or stopped, again and again, while connections follow: none is lost, none waits.
fn disturbed(signal: i32) {
    let world = world("follow");
    world.release_path(&build(&world, LOOP)).expect(0);
    let clients = Clients::start(world.address, 16, Duration::from_millis(5), GETS);
    world.wait("all clients are at work", |_| clients.n_of(1) > 100);
    let (over, keeper) = (AtomicBool::new(false), world.keeper_pid());
    let (n_hit, stopped) = std::thread::scope(|scope| {
        let hits = scope.spawn(|| {
            let mut hit = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let found = followers(keeper);
                // The one and the other, in turn.
                if let Some(pid) = found.get(hit.len() % 2)
                    && !hit.contains(pid)
                {
                    std::thread::park_timeout(Duration::from_millis(hit.len() as u64 * 7 % 50));
                    kill(*pid, signal);
                    hit.push(*pid);
                }
                std::thread::park_timeout(Duration::from_millis(3));
            }
            hit
        });
        for _ in 0..4 {
            world.release_path(&build(&world, LOOP)).expect(0);
        }
        over.store(true, Ordering::Relaxed);
        let hit = hits.join().unwrap();
        (hit.len(), hit)
    });
    world.wait("the last release answers", |_| clients.n_of(5) > 300);
    let ledger = clients.stop();
    for pid in stopped.into_iter().filter(|_| signal == libc::SIGSTOP) {
        kill(pid, libc::SIGCONT);
    }
    nothing_is_lost(&ledger);
    assert!(n_hit >= 4, "{n_hit}");
}

#[test]
fn no_mark_outlives_the_process_that_raised_it() {
    disturbed(libc::SIGKILL);
}

#[test]
fn a_process_that_stands_still_holds_nothing_back() {
    disturbed(libc::SIGSTOP);
}

/// What comes on a connection that is watched, in pieces, and how many answers there are to it. One that came
/// whole all the same may have been passed on: then the connection ends.
fn odd(open: &mut Option<TcpStream>, address: SocketAddr, pieces: &[&[u8]], n_answers: usize) {
    if open.is_none() {
        ask(open, address, 0).unwrap();
    }
    let Some(mut stream) = open.take() else { return };
    for piece in pieces {
        stream.write_all(piece).unwrap();
        std::thread::park_timeout(Duration::from_millis(3));
    }
    let (mut answers, mut room) = (String::new(), [0; 4096]);
    let is_whole = |text: &str| {
        let is_last = text.ends_with(|last: char| last.is_ascii_digit());
        text.matches("HTTP/1.1 200").count() == n_answers && is_last
    };
    while !is_whole(&answers) {
        let n = stream.read(&mut room).unwrap();
        assert!(n > 0, "it ended behind {answers:?}");
        answers.push_str(&String::from_utf8_lossy(&room[..n]));
    }
    *open = (!answers.contains("Connection: close")).then_some(stream);
}

#[test]
fn odd_clients_are_answered_by_the_program_that_has_them() {
    let world = world("follow");
    world.release_path(&build(&world, LOOP)).expect(0);
    let clients = Clients::start(world.address, 8, Duration::from_millis(5), GETS);
    world.wait("all clients are at work", |_| clients.n_of(1) > 100);
    let open = || {
        let mut open = None;
        ask(&mut open, world.address, 0).unwrap();
        open
    };
    let (mut pipelines, mut halves, mut bytes, mut embeds) = (open(), open(), open(), open());
    world.release_path(&build(&world, LOOP)).expect(0);
    world.wait("the new release answers", |_| clients.n_of(2) > 100);
    let get: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for _ in 0..5 {
        odd(&mut pipelines, world.address, &[&[get, get, get].concat()], 3);
        odd(&mut halves, world.address, &[b"GET / HTTP/1.1\r\nHo", b"st: a\r\n\r\n"], 1);
        let each: Vec<&[u8]> = get.chunks(1).collect();
        odd(&mut bytes, world.address, &each, 1);
        // The body is a request to the eye, and comes later.
        let post = format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n", get.len());
        odd(&mut embeds, world.address, &[post.as_bytes(), get], 1);
    }
    // One that says no more still gets its answer.
    let mut last = open().unwrap();
    last.write_all(get).unwrap();
    last.shutdown(std::net::Shutdown::Write).unwrap();
    read_answer(&mut last).unwrap();
    nothing_is_lost(&clients.stop());
}

#[test]
fn a_program_that_waits_in_its_reads_keeps_its_connections_and_that_is_said() {
    let world = world("follow");
    world.release_path(&build(&world, THREADS)).expect(0);
    let clients = Clients::start(world.address, 4, Duration::from_millis(5), MIXED);
    world.wait("all clients are at work", |_| clients.n_of(1) > 100);
    let said = world.release_path(&build(&world, THREADS)).expect(0).result();
    let n = clients.n_of(1);
    world.wait("the old release goes on", |_| clients.n_of(1) > n + 100);
    let kept = &said["kept"];
    assert_eq!((&kept["stay"], &kept["release"]), (&4.into(), &1.into()), "{said}");
    let why = "the program reads them in a blocking way";
    assert_eq!(kept["why"], why);
    let status = world.cli(&["status", "web"]).expect(0).stdout;
    let expected = format!("kept connections: 4 stay with release 1 ({why})");
    assert!(status.contains(&expected), "{status}");
    let ledger = clients.stop();
    nothing_is_lost(&ledger);
    assert_eq!(ledger.by_release.len(), 1);
}

#[test]
fn connections_stay_where_that_is_configured() {
    let world = world("stay");
    world.release_path(&build(&world, LOOP)).expect(0);
    let clients = Clients::start(world.address, 4, Duration::from_millis(5), GETS);
    world.wait("all clients are at work", |_| clients.n_of(1) > 100);
    let said = world.release_path(&build(&world, LOOP)).expect(0).result();
    assert!(said["kept"].is_null(), "{said}");
    let n = clients.n_of(1);
    world.wait("the old release goes on", |_| clients.n_of(1) > n + 300);
    assert_eq!(clients.n_of(2), 0);
    nothing_is_lost(&clients.stop());
}

#[test]
fn quiet_connections_of_any_program_are_ended_where_that_is_configured() {
    let world = world("close");
    world.release_path(&build(&world, THREADS)).expect(0);
    let mut open = None;
    ask(&mut open, world.address, 0).unwrap();
    world.release_path(&build(&world, THREADS)).expect(0);
    let mut room = [0; 1];
    assert_eq!(open.unwrap().read(&mut room).unwrap(), 0, "it ends");
    world.wait("it is counted", |world| world.status()["kept"]["closed"] == 1);
}
