//! The forwarder, as a process of its own: the real binary with a listener at descriptor 3.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "forward/away.rs"]
mod away;
#[path = "forward/passing.rs"]
mod passing;
#[path = "forward/world.rs"]
mod world;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use world::{
    BUDGET, Forwarder, WHILE, assert_reset, assert_silent, converse, echo, free_address, is_pause,
    listen, next, read_rest, read_text, receive, reset, send_pieces, start, wait_until,
};

#[test]
fn ten_mebibytes_arrive_whole_in_both_directions_at_once() {
    const N_BYTES: usize = 10 * 1024 * 1024;
    let (listener, target) = listen();
    let forwarder = Forwarder::to(&target, &[]);
    let client = forwarder.client();
    let backend = next(&listener);
    let at_backend = receive(backend.try_clone().unwrap());
    let at_client = receive(client.try_clone().unwrap());
    let down = thread::spawn(move || send_pieces(&backend, N_BYTES, 7));
    let sent_up = send_pieces(&client, N_BYTES, 11);
    assert_eq!(at_backend.join().unwrap(), (N_BYTES, sent_up));
    assert_eq!(at_client.join().unwrap(), (N_BYTES, down.join().unwrap()));
}

#[test]
fn many_tiny_segments_arrive_whole() {
    let (listener, target) = listen();
    let forwarder = Forwarder::to(&target, &["--threads", "1"]);
    let mut client = forwarder.client();
    let mut backend = next(&listener);
    // More segments at once than a pipe has slots.
    for n in [1000, 300, 257, 256, 255, 17, 16, 1] {
        for _ in 0..n {
            client.write_all(b"x").unwrap();
        }
        assert_eq!(read_text(&mut backend, n), "x".repeat(n));
    }
}

#[test]
fn an_end_from_the_client_reaches_the_backend_which_still_answers() {
    let (listener, target) = listen();
    let forwarder = Forwarder::to(&target, &[]);
    let mut client = forwarder.client();
    let mut backend = next(&listener);
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_rest(&mut backend), "question");
    assert_silent(&client);
    backend.write_all(b"answer").unwrap();
    drop(backend);
    assert_eq!(read_rest(&mut client), "answer");
}

#[test]
fn an_end_from_the_backend_reaches_the_client_which_still_sends() {
    let (listener, target) = listen();
    let forwarder = Forwarder::to(&target, &[]);
    let mut client = forwarder.client();
    let mut backend = next(&listener);
    backend.write_all(b"greeting").unwrap();
    backend.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_rest(&mut client), "greeting");
    assert_silent(&backend);
    client.write_all(b"thanks").unwrap();
    drop(client);
    assert_eq!(read_rest(&mut backend), "thanks");
}

#[test]
fn a_slow_reader_stops_its_own_sender_and_nobody_else() {
    let (listener, target) = listen();
    let forwarder = Forwarder::to(&target, &["--threads", "1"]);
    let mut slow = forwarder.client();
    let backend = next(&listener);
    backend.set_nonblocking(true).unwrap();
    let piece = vec![1; 100_000];
    let mut n_sent = 0;
    let mut last_taken = Instant::now();
    // Until nothing was taken for a while: all that lies between them is full.
    while last_taken.elapsed() < WHILE {
        match (&backend).write(&piece) {
            Ok(n) => {
                n_sent += n;
                last_taken = Instant::now();
            }
            Err(error) => assert!(is_pause(&error), "{error}"),
        }
        assert!(n_sent < 200_000_000, "somebody keeps what nobody reads");
    }
    let rss_bytes = halley_sup::os::proc::rss_bytes(forwarder.process.id().cast_signed());
    assert!(rss_bytes < 30_000_000, "{rss_bytes}");
    let ticks = forwarder.cpu_ticks();
    let mut quick = forwarder.client();
    let mut quick_backend = next(&listener);
    for n in 0..200 {
        let text = format!("round {n}");
        quick.write_all(text.as_bytes()).unwrap();
        assert_eq!(read_text(&mut quick_backend, text.len()), text);
    }
    assert_silent(&quick);
    assert!(forwarder.cpu_ticks() - ticks < 10, "it spins on the full one");
    drop(backend);
    let mut n_read = 0;
    let mut bytes = vec![0; 100_000];
    while let n @ 1.. = slow.read(&mut bytes).unwrap() {
        n_read += n;
    }
    assert_eq!(n_read, n_sent);
}

#[test]
fn a_backend_that_comes_late_gets_what_was_sent_before() {
    let address = free_address();
    let forwarder = Forwarder::to(&format!("tcp://{address}"), &[]);
    let mut client = forwarder.client();
    client.write_all(b"early").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_silent(&client);
    let listener = TcpListener::bind(address).unwrap();
    let mut backend = next(&listener);
    assert_eq!(read_rest(&mut backend), "early");
    backend.write_all(b"late").unwrap();
    drop(backend);
    assert_eq!(read_rest(&mut client), "late");
}

#[test]
fn a_backend_that_dies_and_comes_back_serves_who_came_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("backend.sock");
    let forwarder = Forwarder::to(&format!("unix:{}", path.display()), &[]);
    for turn in ["first", "second", "third"] {
        // Nobody is there: ENOENT at first, ECONNREFUSED later.
        let mut client = forwarder.client();
        client.write_all(turn.as_bytes()).unwrap();
        assert_silent(&client);
        drop(std::fs::remove_file(&path));
        let listener = UnixListener::bind(&path).unwrap();
        let (mut backend, _) = listener.accept().unwrap();
        assert_eq!(read_text(&mut backend, turn.len()), turn);
        backend.write_all(b"served").unwrap();
        drop((backend, listener));
        assert_eq!(read_rest(&mut client), "served");
    }
}

#[test]
fn a_full_queue_of_a_unix_backend_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("backend.sock");
    let listener = UnixListener::bind(&path).unwrap();
    rustix::net::listen(&listener, 1).unwrap();
    let forwarder = Forwarder::to(&format!("unix:{}", path.display()), &[]);
    let clients: Vec<TcpStream> = (0..6).map(|_| forwarder.client()).collect();
    for mut client in &clients {
        client.write_all(b"hello").unwrap();
    }
    assert_silent(&clients[5]);
    let backends = thread::spawn(move || {
        let served: Vec<_> = (0..6).map(|_| listener.accept().unwrap().0).collect();
        served.into_iter().for_each(|mut one| converse_back(&mut one));
    });
    for mut client in &clients {
        assert_eq!(read_text(&mut client, 5), "hello");
    }
    backends.join().unwrap();
}

/// The other end of [`converse`], once.
fn converse_back(stream: &mut UnixStream) {
    let text = read_text(stream, 5);
    stream.write_all(text.as_bytes()).unwrap();
}

#[test]
fn a_client_that_leaves_while_it_waits_is_let_go() {
    let address = free_address();
    let forwarder = Forwarder::to(&format!("tcp://{address}"), &["--max-clients", "2"]);
    let (first, second) = (forwarder.client(), forwarder.client());
    let mut third = forwarder.client();
    assert_silent(&third);
    drop(first);
    reset(second);
    echo(TcpListener::bind(address).unwrap());
    converse(&mut third, "the places are free");
}

#[test]
fn more_clients_than_allowed_wait_in_the_queue() {
    let (listener, target) = listen();
    let forwarder = Forwarder::to(&target, &["--max-clients", "2"]);
    echo(listener);
    let (mut first, mut second) = (forwarder.client(), forwarder.client());
    converse(&mut first, "one");
    converse(&mut second, "two");
    let mut third = forwarder.client();
    third.write_all(b"three").unwrap();
    let ticks = forwarder.cpu_ticks();
    assert_silent(&third);
    assert!(forwarder.cpu_ticks() - ticks < 10, "it spins while it may not accept");
    converse(&mut first, "one again");
    drop(first);
    assert_eq!(read_text(&mut third, 5), "three");
    for _ in 0..50 {
        drop(third);
        third = forwarder.client();
        converse(&mut third, "one after the other");
    }
}

#[test]
fn more_clients_than_descriptors_are_all_served() {
    let (listener, target) = listen();
    let forwarder = Forwarder::on("127.0.0.1:0", &target, &[], "ulimit -n 110");
    echo(listener);
    let clients: Vec<TcpStream> = (0..60).map(|_| forwarder.client()).collect();
    let talks: Vec<_> = clients
        .into_iter()
        .map(|mut client| thread::spawn(move || converse(&mut client, "one of many")))
        .collect();
    talks.into_iter().for_each(|talk| talk.join().unwrap());
}

#[test]
fn told_to_stop_it_finishes_who_is_there_and_leaves_the_queue_to_others() {
    let (listener, target) = listen();
    let mut forwarder = Forwarder::to(&target, &[]);
    echo(listener);
    let mut client = forwarder.client();
    converse(&mut client, "before");
    forwarder.term();
    forwarder.term();
    converse(&mut client, "after");
    assert_silent(&client);
    let mut queued = forwarder.client();
    queued.write_all(b"for somebody else").unwrap();
    assert_silent(&queued);
    assert!(forwarder.is_running());
    converse(&mut client, "much later");
    drop(client);
    assert_eq!(forwarder.ended().code(), Some(0));
    let mut somebody = next(&forwarder.listener);
    assert_eq!(read_text(&mut somebody, 17), "for somebody else");
}

#[test]
fn told_to_stop_without_clients_it_ends_at_once() {
    let mut forwarder = Forwarder::to(&listen().1, &["--threads", "3"]);
    wait_until("the signal is handled", || {
        let status = format!("/proc/{}/status", forwarder.process.id());
        let status = std::fs::read_to_string(status).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t")).unwrap();
        u64::from_str_radix(caught, 16).unwrap() & (1 << 14) != 0
    });
    forwarder.term();
    assert_eq!(forwarder.ended().code(), Some(0));
}

#[test]
fn a_reset_is_passed_on_as_a_reset_both_ways() {
    let (listener, target) = listen();
    let forwarder = Forwarder::to(&target, &[]);
    let client = forwarder.client();
    let backend = next(&listener);
    reset(client);
    assert_reset(&backend);
    let mut client = forwarder.client();
    let mut backend = next(&listener);
    converse_over(&mut client, &mut backend);
    backend.write_all(b"last words").unwrap();
    reset(backend);
    assert_eq!(read_text(&mut client, 10), "last words");
    assert_reset(&client);
}

fn converse_over(client: &mut TcpStream, backend: &mut TcpStream) {
    client.write_all(b"hello").unwrap();
    assert_eq!(read_text(backend, 5), "hello");
}

#[test]
fn an_answer_arrives_although_the_backend_leaves_the_question_unread() {
    let (listener, target) = listen();
    let forwarder = Forwarder::to(&target, &[]);
    let mut client = forwarder.client();
    let mut backend = next(&listener);
    client.write_all(&[b'q'; 5000]).unwrap();
    assert_eq!(read_text(&mut backend, 1), "q");
    backend.write_all(b"too large").unwrap();
    drop(backend);
    assert_eq!(read_text(&mut client, 9), "too large");
}

#[test]
fn ipv6_is_spoken_on_both_sides() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else { return };
    let target = format!("tcp://{}", listener.local_addr().unwrap());
    let forwarder = Forwarder::on("[::1]:0", &target, &[], "");
    echo(listener);
    converse(&mut forwarder.client(), "sechs");
}

#[test]
fn unix_sockets_are_spoken_on_both_sides_and_tell_their_name() {
    let dir = tempfile::tempdir().unwrap();
    let (front, back) = (dir.path().join("front.sock"), dir.path().join("back.sock"));
    let listener = UnixListener::bind(&front).unwrap();
    let backends = UnixListener::bind(&back).unwrap();
    let target = format!("unix:{}", back.display());
    let process = start(listener.into(), &target, &["--proxy-protocol"], "");
    let address = "0.0.0.0:0".parse().unwrap();
    let _killed_at_the_end =
        Forwarder { process, address, listener: TcpListener::bind("127.0.0.1:0").unwrap() };
    let mut client = UnixStream::connect(&front).unwrap();
    client.write_all(b"hello").unwrap();
    let (mut backend, _) = backends.accept().unwrap();
    let mut header = [0; 16 + 216];
    backend.read_exact(&mut header).unwrap();
    assert_eq!(header[12..16], [0x21, 0x31, 0, 216]);
    let name = front.to_str().unwrap().as_bytes();
    assert_eq!(&header[16 + 108..][..name.len()], name);
    converse_back(&mut backend);
    assert_eq!(read_text(&mut client, 5), "hello");
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_rest(&mut backend), "");
    drop(backend);
    assert_eq!(read_rest(&mut client), "");
}

#[test]
fn the_backend_is_told_who_the_client_is() {
    // The second listener is dual-stack: its IPv4 clients come in IPv6 clothes.
    for listen_at in ["127.0.0.1:0", "[::]:0"] {
        let address = free_address();
        let target = format!("tcp://{address}");
        let forwarder = Forwarder::on(listen_at, &target, &["--proxy-protocol"], "");
        let port = forwarder.address.port();
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        client.write_all(b"hello").unwrap();
        assert_silent(&client);
        let mut backend = next(&TcpListener::bind(address).unwrap());
        let mut header = [0; 28];
        backend.read_exact(&mut header).unwrap();
        let client_port = client.local_addr().unwrap().port();
        let mut expected = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01".to_vec();
        expected.extend(client_port.to_be_bytes());
        expected.extend(port.to_be_bytes());
        assert_eq!(header[..], expected);
        assert_eq!(read_text(&mut backend, 5), "hello");
    }
}

#[test]
fn who_says_nothing_is_announced_too() {
    let (listener, target) = listen();
    let forwarder = Forwarder::to(&target, &["--proxy-protocol"]);
    let mut client = forwarder.client();
    let mut backend = next(&listener);
    backend.read_exact(&mut [0; 28]).unwrap();
    backend.write_all(b"welcome").unwrap();
    assert_eq!(read_text(&mut client, 7), "welcome");
}

#[test]
fn without_a_listener_it_says_what_is_missing() {
    let output = Command::new(env!("CARGO_BIN_EXE_halley-sup"))
        .args(["forward", "--to", "tcp://127.0.0.1:1"])
        .env_remove("LISTEN_FDS")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("LISTEN_FDS is \"\""), "{text}");
}

#[test]
fn short_connections_from_many_clients_are_all_answered() {
    let (listener, target) = listen();
    let forwarder = Forwarder::to(&target, &["--threads", "2"]);
    echo(listener);
    let (done, all) = mpsc::channel();
    for _ in 0..8 {
        let (done, address) = (done.clone(), forwarder.address);
        thread::spawn(move || {
            for n in 0..200 {
                let mut client = TcpStream::connect(address).unwrap();
                client.set_read_timeout(Some(BUDGET)).unwrap();
                let text = format!("connection {n}");
                client.write_all(text.as_bytes()).unwrap();
                client.shutdown(Shutdown::Write).unwrap();
                assert_eq!(read_rest(&mut client), text);
            }
            done.send(()).unwrap();
        });
    }
    for _ in 0..8 {
        all.recv_timeout(BUDGET).unwrap();
    }
    // Whoever has ended leaves no descriptor behind but pooled pipes.
    let fds = format!("/proc/{}/fd", forwarder.process.id());
    wait_until("every descriptor is closed", || {
        std::fs::read_dir(&fds).unwrap().count() < 20 + 2 * 2 * 16
    });
}

/// A user that may have one process, and no second thread.
const ALONE: &str = "exec prlimit --nproc=1 setpriv --reuid=$((61000 + $$ % 4000)) --regid=65534 \
    --clear-groups --bounding-set=-all \"$0\" forward --to \"$@\"";

#[test]
fn without_a_second_thread_one_serves_everybody() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (backend, to) = listen();
    echo(backend);
    let mut forwarder = Forwarder::on("127.0.0.1:0", &to, &["--threads", "3"], ALONE);
    for _ in 0..20 {
        converse(&mut forwarder.client(), "hello");
    }
    let tasks = format!("/proc/{}/task", forwarder.process.id());
    assert_eq!(std::fs::read_dir(tasks).unwrap().count(), 1);
    forwarder.term();
    assert!(forwarder.ended().success());
}
