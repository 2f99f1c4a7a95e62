//! What the tests of the forwarder share: the process, its clients and its backends.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sha2::{Digest, Sha256};

/// Nothing that is waited for takes longer.
pub const BUDGET: Duration = Duration::from_secs(20);
/// What shall not happen has not happened after this.
pub const WHILE: Duration = Duration::from_millis(300);

/// A forwarder with one listener; it is killed at the end of its test.
pub struct Forwarder {
    pub process: Child,
    pub address: SocketAddr,
    /// The same listener, as its owner has it.
    pub listener: TcpListener,
}

impl Forwarder {
    pub fn to(target: &str, args: &[&str]) -> Self {
        Self::on("127.0.0.1:0", target, args, "")
    }

    /// `setup` is shell text that runs in the process before it becomes the forwarder.
    pub fn on(listen: &str, target: &str, args: &[&str], setup: &str) -> Self {
        let listener = TcpListener::bind(listen).unwrap();
        let address = listener.local_addr().unwrap();
        let fd = listener.try_clone().unwrap();
        Self { process: start(fd.into(), target, args, setup), address, listener }
    }

    pub fn client(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(BUDGET)).unwrap();
        stream
    }

    pub fn term(&self) {
        let pid = Pid::from_child(&self.process);
        kill_process(pid, Signal::TERM).unwrap();
    }

    pub fn is_running(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }

    pub fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the forwarder ends", || {
            status = self.process.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Processor time so far, in clock ticks.
    pub fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// A shell moves its standard input to 3: no descriptor is open to more than one child.
pub fn start(listener: OwnedFd, target: &str, args: &[&str], setup: &str) -> Child {
    let script = format!("exec 3<&0 </dev/null; {setup}\nexec \"$0\" forward --to \"$@\"");
    Command::new("sh")
        .args(["-c", &script, env!("CARGO_BIN_EXE_halley-sup"), target])
        .args(args)
        .env("LISTEN_FDS", "1")
        .env_remove("LISTEN_PID")
        .stdin(Stdio::from(listener))
        .spawn()
        .unwrap()
}

pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < BUDGET, "{what}: not in {BUDGET:?}");
        thread::park_timeout(Duration::from_millis(2));
    }
}

/// An address that nobody listens on.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

pub fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("tcp://{}", listener.local_addr().unwrap());
    (listener, target)
}

/// The next connection of a backend.
pub fn next(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let mut accepted = None;
    wait_until("a connection comes to the backend", || {
        accepted = listener.accept().ok();
        accepted.is_some()
    });
    let stream = accepted.unwrap().0;
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(BUDGET)).unwrap();
    stream
}

/// A backend that answers with what it is sent, until the test ends.
pub fn echo(listener: TcpListener) {
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || echo_one(stream.unwrap()));
        }
    });
}

pub fn echo_one(mut stream: impl Read + Write) {
    let mut bytes = [0; 4096];
    while let Ok(n @ 1..) = stream.read(&mut bytes) {
        if stream.write_all(&bytes[..n]).is_err() {
            return;
        }
    }
}

/// Says something and hears it again.
pub fn converse(stream: &mut (impl Read + Write), text: &str) {
    stream.write_all(text.as_bytes()).unwrap();
    assert_eq!(read_text(stream, text.len()), text);
}

pub fn read_text(stream: &mut impl Read, n: usize) -> String {
    let mut bytes = vec![0; n];
    stream.read_exact(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

pub fn read_rest(stream: &mut impl Read) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Nothing comes for a while, and it has not ended.
pub fn assert_silent(mut stream: &TcpStream) {
    stream.set_read_timeout(Some(WHILE)).unwrap();
    let error = stream.read(&mut [0]).unwrap_err();
    assert!(is_pause(&error), "{error}");
    stream.set_read_timeout(Some(BUDGET)).unwrap();
}

pub fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// Closes as a reset.
pub fn reset(stream: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    drop(stream);
}

pub fn assert_reset(mut stream: &TcpStream) {
    let error = stream.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

/// Bytes without a pattern that a pipe or a page could hide, in pieces of no round size.
pub fn send_pieces(mut stream: &TcpStream, n_bytes: usize, seed: u64) -> Vec<u8> {
    let mut hash = Sha256::new();
    let (mut state, mut n_left) = (seed, n_bytes);
    while n_left > 0 {
        let n = (state as usize % 70_000 + 1).min(n_left);
        let mut piece = Vec::with_capacity(n);
        for _ in 0..n {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            piece.push((state >> 40) as u8);
        }
        stream.write_all(&piece).unwrap();
        hash.update(&piece);
        n_left -= n;
    }
    stream.shutdown(Shutdown::Write).unwrap();
    hash.finalize().to_vec()
}

pub fn receive(mut stream: TcpStream) -> JoinHandle<(usize, Vec<u8>)> {
    thread::spawn(move || {
        let (mut hash, mut n_all, mut bytes) = (Sha256::new(), 0, vec![0; 50_000]);
        loop {
            let n = stream.read(&mut bytes).unwrap();
            if n == 0 {
                return (n_all, hash.finalize().to_vec());
            }
            hash.update(&bytes[..n]);
            n_all += n;
        }
    })
}
