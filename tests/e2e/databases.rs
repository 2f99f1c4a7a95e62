//! Redis and PostgreSQL, unmodified, which cannot run twice on their data: restarted under load by
//! `hold`. Nobody is refused, and nobody meets one that is still starting.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::modes::world_with;
use crate::world::{World, postgres_programs};

/// One conversation with a server, from connecting to leaving.
type Call = fn(SocketAddr) -> io::Result<()>;

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(20))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn redis(address: SocketAddr) -> io::Result<()> {
    let mut stream = connect(address)?;
    stream.write_all(b"INCR n\r\n")?;
    let mut answer = [0; 64];
    let n = stream.read(&mut answer)?;
    if answer[..n].starts_with(b":") {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&answer[..n]).into_owned()))
}

/// The protocol's startup, one simple query, the end (PostgreSQL, chapter 55.2).
fn postgres(address: SocketAddr) -> io::Result<()> {
    let mut stream = connect(address)?;
    let parameters = b"\0\x03\0\0user\0postgres\0database\0postgres\0\0";
    let length = u32::try_from(parameters.len() + 4).unwrap();
    stream.write_all(&[&length.to_be_bytes()[..], parameters].concat())?;
    until_ready(&mut stream)?;
    stream.write_all(b"Q\0\0\0\x0dSELECT 1\0")?;
    until_ready(&mut stream)?;
    stream.write_all(b"X\0\0\0\x04")
}

fn until_ready(stream: &mut TcpStream) -> io::Result<()> {
    loop {
        let mut head = [0; 5];
        stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
        let mut body = vec![0; length - 4];
        stream.read_exact(&mut body)?;
        match head[0] {
            b'Z' => return Ok(()),
            b'E' => return Err(io::Error::other(String::from_utf8_lossy(&body).into_owned())),
            _ => {}
        }
    }
}

/// Sixteen callers during five restarts: how many calls, what was lost, and the longest wait.
fn restarted(world: &World, call: Call) -> (u64, Vec<String>, Duration) {
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..16)
        .map(|_| {
            let (stop, address) = (Arc::clone(&stop), world.address);
            std::thread::spawn(move || {
                let (mut n, mut lost, mut longest) = (0, Vec::new(), Duration::ZERO);
                while !stop.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    lost.extend(call(address).err().map(|error| error.to_string()));
                    longest = longest.max(begun.elapsed());
                    n += 1;
                }
                (n, lost, longest)
            })
        })
        .collect();
    for _ in 0..5 {
        let said = world.cli(&["restart", "web", "--json"]).expect(0);
        assert!(said.stdout.contains("; gap "), "{}", said.stdout);
    }
    stop.store(true, Ordering::Relaxed);
    let (mut n, mut lost, mut longest) = (0, Vec::new(), Duration::ZERO);
    for caller in callers {
        let one = caller.join().unwrap();
        n += one.0;
        lost.extend(one.1);
        longest = longest.max(one.2);
    }
    (n, lost, longest)
}

pub fn world(lines: &str, check: &str) -> World {
    let lines = lines.to_owned();
    let listen = move |world: &World| {
        format!(
            "listen = [\"tcp://{}\"]\nhandoff = \"intercept\"\nstrategy = \"hold\"\nmax_gap = \"30s\"\n{lines}",
            world.address
        )
    };
    let others = [
        ("http = \"/healthz\"", check),
        ("deadline = \"5s\"", "deadline = \"20s\""),
        ("timeout = \"1s\"", "timeout = \"5s\""),
    ];
    world_with(listen, "", &others)
}

#[test]
fn redis_is_restarted_and_nobody_is_refused() {
    let check = "exec = [\"redis-cli\", \"-p\", \"{probe_port}\", \"-e\", \"GET\", \"n\"]";
    let world = world("", check);
    let (port, dir) = (world.address.port().to_string(), world.path("redis"));
    fs::create_dir_all(&dir).unwrap();
    let build = world.build_of(&[
        "redis-server",
        "--port",
        &port,
        "--bind",
        "127.0.0.1",
        "--dir",
        &dir.to_string_lossy(),
        "--appendonly",
        "yes",
    ]);
    world.release_path(&build).expect(0);
    let (n, lost, _) = restarted(&world, redis);
    assert_eq!(lost, [""; 0], "of {n}");
    assert!(n > 500, "{n}");
    // Nothing was counted twice or forgotten on the way.
    let said = Command::new("redis-cli").args(["-p", &port, "GET", "n"]).output().unwrap();
    let counted: u64 = String::from_utf8_lossy(&said.stdout).trim().parse().unwrap();
    assert_eq!(counted, n);
}

#[test]
fn postgres_is_restarted_and_nobody_is_refused() {
    let bin = postgres_programs().expect("postgresql is installed").to_string_lossy().into_owned();
    let check = format!(
        "exec = [\"{bin}/pg_isready\", \"-h\", \"127.0.0.1\", \"-p\", \"{{probe_port}}\", \"-q\"]"
    );
    let lines = "user = \"postgres\"";
    let world = world(lines, &check);
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(world.path(""), open).unwrap();
    let data = world.path("pg");
    fs::create_dir(&data).unwrap();
    let user = halley_sup::os::proc::user("postgres").unwrap();
    std::os::unix::fs::chown(&data, Some(user.uid), Some(user.gid)).unwrap();
    initdb(&bin, &data);
    let port = world.address.port().to_string();
    let server = format!("{bin}/postgres");
    let data_text = data.to_string_lossy().into_owned();
    let command = [&server, "-D", &data_text, "-h", "127.0.0.1", "-p", &port, "-k", ""];
    let build = world.build_of(&command);
    let text = fs::read_to_string(build.join("release.toml")).unwrap();
    fs::write(build.join("release.toml"), format!("{text}[stop]\nsignal = \"INT\"\n")).unwrap();
    world.release_path(&build).expect(0);
    let (n, lost, _) = restarted(&world, postgres);
    assert_eq!(lost, [""; 0], "of {n}");
    assert!(n > 80, "{n}");
}

fn initdb(bin: &str, data: &Path) {
    let made = Command::new("setpriv")
        .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
        .arg(format!("{bin}/initdb"))
        .args(["-A", "trust", "-N", "-D"])
        .arg(data)
        .current_dir("/")
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}
