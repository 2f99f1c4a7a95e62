//! Who may ask, and asks badly: by halves, without end, without reading the answers; and programs that
//! write to their notification socket what is no notification. Others are answered meanwhile.

use std::fs;
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::world::World;

const STATUS: &[u8] = b"{\"version\":1,\"actor\":\"rude\",\"verb\":\"status\",\"service\":null}\n";

fn client(world: &World) -> UnixStream {
    let stream = UnixStream::connect(world.path("root/control.sock")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// What comes until the other end closes.
fn rest(stream: &mut UnixStream) -> String {
    let mut text = String::new();
    // One that is closed with something unread is reset.
    match stream.read_to_string(&mut text) {
        Ok(_) => text,
        Err(error) => {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
            text
        }
    }
}

fn n_descriptors(world: &World) -> usize {
    fs::read_dir(format!("/proc/{}/fd", world.supervisor_pid().unwrap())).unwrap().count()
}

#[test]
fn a_request_that_does_not_end_keeps_no_place() {
    let world = World::new();
    world.release(&[]).expect(0);
    let before = n_descriptors(&world);
    let mut halves: Vec<UnixStream> = (0..50).map(|_| client(&world)).collect();
    for stream in &mut halves {
        stream.write_all(&STATUS[..20]).unwrap();
    }
    let mut endless = client(&world);
    // What is not read any more cannot be written either.
    while endless.write(&[b'x'; 10_000]).is_ok() {}
    let mut slow = client(&world);
    for byte in STATUS {
        slow.write_all(&[*byte]).unwrap();
    }
    let answer = rest(&mut slow);
    assert!(answer.contains("\"event\":\"status\""), "{answer}");
    world.cli(&["status"]).expect(0);
    for stream in &mut halves {
        assert_eq!(rest(stream), "");
    }
    drop((halves, endless, slow));
    world.wait("their places are free", |world| n_descriptors(world) <= before + 4);
}

#[test]
fn descriptors_that_nobody_has_asked_for_are_closed() {
    let world = World::new();
    let before = n_descriptors(&world);
    let (stream, null) = (client(&world), fs::File::open("/dev/null").unwrap());
    let fds = [null.as_fd(); 32];
    let mut most = before;
    for _ in 0..20 {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(32))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        let sent = sendmsg(&stream, &[IoSlice::new(b"x")], &mut control, SendFlags::NOSIGNAL);
        most = most.max(n_descriptors(&world));
        if sent.is_err() {
            break;
        }
    }
    assert!(most <= before + 64 + 32 + 4, "{most} at once, {before} before");
    world.wait("they are closed", |world| n_descriptors(world) <= before + 1);
    world.cli(&["status"]).expect(0);
}

#[test]
fn clients_that_read_nothing_keep_nobody_waiting() {
    let world = World::new();
    world.release(&["lines=200000"]).expect(0);
    let mut silent: Vec<UnixStream> = (0..10).map(|_| client(&world)).collect();
    let logs = r#"{"version":1,"actor":"rude","verb":"logs","service":"web","release":null,"tail":1000000,"follow":true}"#;
    for stream in &mut silent {
        stream.write_all(logs.as_bytes()).unwrap();
        stream.write_all(b"\n").unwrap();
    }
    let rss = || halley_sup::os::proc::rss_bytes(world.supervisor_pid().unwrap());
    let before = world.supervisor_pid();
    for _ in 0..3 {
        world.release(&[]).expect(0);
    }
    world.cli(&["rollback", "web"]).expect(0);
    assert_eq!(world.supervisor_pid(), before, "the supervisor was replaced");
    assert!(rss() < 400_000_000, "{}", rss());
    let lag = world.cli(&["status", "--json"]).expect(0).result();
    eprintln!("lag {} at {}, rss {}", lag["lag_ms"], lag["lag_at"], rss());
}

/// Datagrams of every kind, as fast as it goes, from the service's own program.
#[test]
fn a_program_that_floods_its_notification_socket_keeps_nobody_waiting() {
    let world = World::new();
    let flood = r#"
import array, os, random, socket
random.seed(1)
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(os.environ["NOTIFY_SOCKET"])
null = os.open("/dev/null", os.O_RDONLY)
fds = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [null] * 200))]
n = 0
while True:
    n += 1
    kind = n % 6
    try:
        if kind == 0: s.send(b"READY=1")
        elif kind == 1: s.send(random.randbytes(random.randrange(100_000)))
        elif kind == 2: s.sendmsg([b"READY=1\n"], fds)
        elif kind == 3: s.send(b"READY=1\n" * 5000)
        elif kind == 4: s.send(b"")
        else: s.send(b"STOPPING=1\nMAINPID=1\nFDSTORE=1\nERRNO=\xff")
    except OSError: pass
"#;
    let script = format!("/usr/bin/python3 -c '{flood}' & exec \"$0\" demo-service");
    let build = world.build_of(&["/bin/sh", "-c", &script, crate::world::BINARY]);
    world.release_path(&build).expect(0);
    let (before, n_fds) = (world.supervisor_pid(), n_descriptors(&world));
    world.release(&[]).expect(0);
    world.cli(&["rollback", "web"]).expect(0);
    assert_eq!(world.supervisor_pid(), before, "the supervisor was replaced");
    assert!(n_descriptors(&world) < n_fds + 20);
    let lag = world.cli(&["status", "--json"]).expect(0).result();
    eprintln!("lag {} at {}", lag["lag_ms"], lag["lag_at"]);
}
