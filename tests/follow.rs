//! The two processes that let kept connections follow, without a supervisor: whichever of them dies or stands
//! still, the mark that holds a client back goes down.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use halley_sup::os::connection::{self, MARK};
use halley_sup::os::tally::Board;
use halley_sup::os::{proc, recover};

/// An event loop that says where it listens.
const PROGRAM: &str = r#"
import asyncio
async def serve(reader, writer):
    while await reader.readuntil(b"\r\n\r\n"):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()
async def main():
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()
asyncio.run(main())
"#;

const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A program, a client that keeps a connection to it, and the two that watch.
struct Scene {
    program: Child,
    holder: Child,
    client: TcpStream,
    /// The program's end of the client's connection.
    socket: OwnedFd,
}

fn wait(what: &str, mut is_true: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_true() {
        assert!(begun.elapsed() < Duration::from_secs(20), "never: {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

impl Scene {
    fn new() -> Self {
        let mut python = Command::new("python3");
        let program = python.args(["-c", PROGRAM]).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut program = program.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(program.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port: u16 = line.trim().parse().unwrap();
        let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let pid = i32::try_from(program.id()).unwrap();
        let process = proc::pidfd(pid).unwrap();
        let own = client.local_addr().unwrap();
        let is_it = |socket: &OwnedFd| {
            let stream = TcpStream::from(socket.try_clone().unwrap());
            stream.peer_addr().is_ok_and(|peer| peer == own)
        };
        let mut socket = None;
        wait("it is accepted", || {
            let at = recover::sockets(pid).map(|(number, _)| number);
            socket = at.filter_map(|at| recover::descriptor(&process, at).ok()).find(is_it);
            socket.is_some()
        });
        let board = Board::new().unwrap();
        let input = board.as_fd().try_clone_to_owned().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_halley-sup"));
        command.args(["follow", "--of", &pid.to_string(), "--port", &port.to_string()]);
        let holder = command.stdin(Stdio::from(input)).stderr(Stdio::null()).spawn().unwrap();
        Self { program, holder, client, socket: socket.unwrap() }
    }

    fn ask(&mut self) {
        self.client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut answer = [0; ANSWER.len()];
        self.client.read_exact(&mut answer).unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), ANSWER);
    }

    fn holder(&self) -> i32 {
        i32::try_from(self.holder.id()).unwrap()
    }

    fn watcher(&self) -> i32 {
        let others = proc::tree(self.holder()).into_iter().filter(|pid| *pid != self.holder());
        others.into_iter().next().unwrap()
    }

    /// The connection is held back, as it is until its next request is looked at.
    fn held_back(&mut self) {
        wait("it is known how the program works", || {
            // It is seen at its work only while there is some.
            (0..200).for_each(|_| self.ask());
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(50) {
                if connection::mark(&self.socket).unwrap() == MARK {
                    return true;
                }
                std::thread::park_timeout(Duration::from_millis(2));
            }
            false
        });
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for child in [&mut self.holder, &mut self.program] {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn hit(who: impl Fn(&Scene) -> i32, signal: i32) {
    let mut scene = Scene::new();
    wait("the watcher runs", || proc::tree(scene.holder()).len() == 2);
    scene.held_back();
    let pid = who(&scene);
    proc::signal(pid, proc::start_ticks(pid).unwrap(), signal).unwrap();
    wait("the mark is down", || connection::mark(&scene.socket).unwrap() != MARK);
    scene.ask();
    if signal == libc::SIGSTOP {
        drop(proc::start_ticks(pid).and_then(|start| proc::signal(pid, start, libc::SIGKILL)));
    }
}

#[test]
fn a_watcher_that_is_killed_leaves_no_mark() {
    hit(Scene::watcher, libc::SIGKILL);
}

#[test]
fn nor_does_one_that_stands_still() {
    hit(Scene::watcher, libc::SIGSTOP);
}

#[test]
fn a_holder_that_is_killed_leaves_no_mark() {
    hit(Scene::holder, libc::SIGKILL);
}

#[test]
fn nor_does_a_holder_that_stands_still() {
    hit(Scene::holder, libc::SIGSTOP);
}
