//! UDP: a real DNS server, unmodified, is replaced fifty times; no query stays without an answer.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::world::{World, config, free_address};

fn world(schemes: &[&str]) -> World {
    let mut world = World::asleep(free_address());
    let address = world.address;
    let listen: Vec<String> =
        schemes.iter().map(|scheme| format!("{scheme}://{address}")).collect();
    let listen = format!("listen = {listen:?}\nhandoff = \"intercept\"");
    let check = format!(
        "exec = [\"dig\", \"-b\", \"{{probe_source}}\", \"@127.0.0.1\", \"-p\", \"{}\", \"+tries=1\", \"+time=1\", \"+short\", \"here.test\"]",
        address.port()
    );
    let text = config(address, "[service.web.keep]\nstandby = \"0s\"")
        .replace(&format!("listen = [\"tcp://{address}\"]"), &listen)
        .replace("http = \"/healthz\"", &check)
        .replace("deadline = \"5s\"", "deadline = \"20s\"")
        .replace("timeout = \"1s\"", "timeout = \"5s\"");
    world.configure(&text);
    world.wake();
    world
}

/// A query for `here.test`, type A.
fn query(id: u16) -> Vec<u8> {
    let mut out = id.to_be_bytes().to_vec();
    out.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    out.extend(b"\x04here\x04test\x00");
    out.extend([0, 1, 0, 1]);
    out
}

/// Asks again and again, each question once; how many there were, and how many had no answer.
fn ask(address: SocketAddr, stop: &AtomicBool) -> (u64, u64) {
    let (mut n, mut n_lost) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        let id = (n % 65_000) as u16;
        socket.send_to(&query(id), address).unwrap();
        let mut buffer = [0; 512];
        let answered = socket.recv_from(&mut buffer).is_ok_and(|(length, _)| {
            length > 12 && buffer[..2] == id.to_be_bytes() && buffer[3] & 0x0f == 0
        });
        n += 1;
        n_lost += u64::from(!answered);
    }
    (n, n_lost)
}

fn flipped(world: &World, build: impl Fn(&World) -> PathBuf, n_flips: u32) {
    world.release_path(&build(world)).expect(0);
    let stop = Arc::new(AtomicBool::new(false));
    let askers: Vec<_> = (0..4)
        .map(|_| {
            let (stop, address) = (Arc::clone(&stop), world.address);
            std::thread::spawn(move || ask(address, &stop))
        })
        .collect();
    for _ in 0..n_flips {
        world.cli(&["restart", "web"]).expect(0);
    }
    stop.store(true, Ordering::Relaxed);
    let counts: Vec<(u64, u64)> = askers.into_iter().map(|asker| asker.join().unwrap()).collect();
    let (n, n_lost) = counts.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    assert!(n > u64::from(n_flips) * 10, "{n}");
    assert_eq!(n_lost, 0, "of {n}");
    world.wait("one is left", World::is_alone);
}

#[test]
fn dnsmasq_by_intercept_loses_no_query_in_fifty_flips() {
    let build = |world: &World| {
        let port = format!("--port={}", world.address.port());
        let command = [
            "/usr/sbin/dnsmasq",
            "--keep-in-foreground",
            "--no-hosts",
            "--no-resolv",
            "--conf-file=/dev/null",
            "--pid-file=",
            "--user=root",
            "--bind-interfaces",
            "--listen-address=127.0.0.1",
            "--address=/here.test/192.0.2.1",
            &port,
        ];
        world.build_of(&command)
    };
    // It answers by TCP as well, so that address is the service's too.
    let world = world(&["udp", "tcp"]);
    flipped(&world, build, 50);
}

#[test]
fn unbound_by_intercept_loses_no_query_in_fifty_flips() {
    let build = |world: &World| {
        let dir = world.build_of(&["/usr/sbin/unbound", "-d", "-p", "-c", "unbound.conf"]);
        let port = world.address.port();
        let conf = format!(
            "server:\n  interface: 127.0.0.1@{port}\n  port: {port}\n  do-daemonize: no\n  chroot: \"\"\n  username: \"\"\n  directory: \"/tmp\"\n  use-syslog: no\n  do-tcp: no\n  num-threads: 1\n  so-reuseport: no\n  access-control: 127.0.0.0/8 allow\n  local-zone: \"test.\" static\n  local-data: \"here.test. A 192.0.2.1\"\nremote-control:\n  control-enable: no\n"
        );
        fs::write(dir.join("unbound.conf"), conf).unwrap();
        dir
    };
    let world = world(&["udp"]);
    flipped(&world, build, 50);
}
