//! Callers that were left waiting are passed on to where the others go (`--to called`).

use std::io::Write;
use std::net::{TcpListener, TcpStream};

use crate::world::{BUDGET, Forwarder, converse, echo, next, read_text, start, wait_until};

/// Whether the process has this socket.
fn has(forwarder: &Forwarder, socket: &impl std::os::fd::AsFd) -> bool {
    let pid = forwarder.process.id().cast_signed();
    let inode = halley_sup::os::listen::inode(socket).unwrap();
    halley_sup::os::proc::socket_inodes(pid).contains(&inode)
}

/// A listener in whose queue callers wait, and the one beside it at the same address where all
/// others go.
fn left_and_live(at: &str, caller: &str) -> (TcpListener, TcpListener, Vec<TcpStream>) {
    use halley_sup::os::{listen, steer};
    let left = listen::tcp_slot(at.parse().unwrap()).unwrap();
    let address = listen::address_of(&left).unwrap();
    let live = listen::tcp_slot(address).unwrap();
    for slot in [&left, &live] {
        listen::listen(slot, 64).unwrap();
    }
    let steer = |position| {
        let share = steer::Share { position, weight: 1 };
        steer::attach(&left, &steer::program(&[], &[share], 2).unwrap()).unwrap();
    };
    steer(0);
    let call = |_| TcpStream::connect(format!("{caller}:{}", address.port())).unwrap();
    let waiting = (0..3).map(call).collect();
    steer(1);
    (left.into(), live.into(), waiting)
}

#[test]
fn who_was_left_waiting_is_passed_on_and_the_queue_left_to_others() {
    for (at, caller) in [
        ("127.0.0.1:0", "127.0.0.1"),
        ("[::1]:0", "[::1]"),
        ("0.0.0.0:0", "127.0.0.7"),
        ("[::]:0", "127.0.0.7"),
        ("[::]:0", "[::1]"),
    ] {
        let (left, live, waiting) = left_and_live(at, caller);
        let fd = left.try_clone().unwrap();
        let process = start(fd.into(), "called", &["--until-empty", "--threads", "1"], "");
        let address = left.local_addr().unwrap();
        let mut forwarder = Forwarder { process, address, listener: left };
        let passed: Vec<TcpStream> = (0..3).map(|_| next(&live)).collect();
        wait_until("it lets the listener go", || !has(&forwarder, &forwarder.listener));
        assert!(forwarder.is_running());
        for (n, (mut client, mut at)) in waiting.into_iter().zip(passed).enumerate() {
            // It came where the caller wanted to go.
            let at_ip = at.local_addr().unwrap().ip().to_canonical();
            assert_eq!(at_ip, client.peer_addr().unwrap().ip(), "{n}");
            converse_with(&mut client, &mut at);
        }
        assert!(forwarder.ended().success());
    }
}

#[test]
fn more_than_there_are_places_for_are_passed_on_one_after_the_other() {
    let (left, live, waiting) = left_and_live("127.0.0.1:0", "127.0.0.1");
    echo(live);
    let args = ["--until-empty", "--max-clients", "1"];
    let process = start(left.try_clone().unwrap().into(), "called", &args, "");
    let address = left.local_addr().unwrap();
    let mut forwarder = Forwarder { process, address, listener: left };
    for (n, mut client) in waiting.into_iter().enumerate() {
        client.set_read_timeout(Some(BUDGET)).unwrap();
        converse(&mut client, &format!("caller {n}"));
    }
    assert!(forwarder.ended().success());
}

#[test]
fn when_nobody_waits_there_is_nothing_to_stay_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let fd = listener.try_clone().unwrap();
    let address = listener.local_addr().unwrap();
    let process = start(fd.into(), "called", &["--until-empty"], "");
    assert!(Forwarder { process, address, listener }.ended().success());
}

#[test]
fn a_caller_that_was_taken_already_is_passed_on() {
    let (left, live, waiting) = left_and_live("127.0.0.1:0", "127.0.0.1");
    let taken = next(&left);
    let address = left.local_addr().unwrap();
    let process = start(taken.into(), "called", &["--until-empty"], "");
    let mut forwarder = Forwarder { process, address, listener: left };
    let mut at = next(&live);
    let mut client = waiting.into_iter().next().unwrap();
    converse_with(&mut client, &mut at);
    drop((client, at));
    assert!(forwarder.ended().success());
}

fn converse_with(client: &mut TcpStream, at: &mut TcpStream) {
    client.write_all(b"question").unwrap();
    assert_eq!(read_text(at, 8), "question");
    at.write_all(b"answer").unwrap();
    assert_eq!(read_text(client, 6), "answer");
}
