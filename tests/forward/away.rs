//! A backend that is not there, or goes: whom it has told nothing gets the next one, and the others
//! stay in the queue, where whoever serves next finds them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};

use crate::world::{
    BUDGET, Forwarder, assert_silent, converse, echo, echo_one, free_address, listen, next,
    read_rest, read_text, start, wait_until,
};

const ONE: &[&str] = &["--threads", "1"];

/// Callers of a forwarder whose backend is away: at most one was taken out of the queue.
fn waiting(forwarder: &Forwarder) -> Vec<TcpStream> {
    let clients: Vec<TcpStream> = (0..5).map(|_| forwarder.client()).collect();
    for (n, mut client) in clients.iter().enumerate() {
        write!(client, "caller {n}").unwrap();
    }
    let n_queued = || halley_sup::os::listen::slot_state(&forwarder.listener).unwrap().n_queued;
    wait_until("one is taken", || n_queued() == 4);
    assert_silent(&clients[4]);
    assert_eq!(n_queued(), 4, "more than one is taken");
    clients
}

#[test]
fn who_waits_for_a_backend_in_vain_goes_where_the_others_go() {
    for args in [ONE, &["--threads", "1", "--proxy-protocol"]] {
        let mut forwarder = Forwarder::to(&format!("tcp://{}", free_address()), args);
        let clients = waiting(&forwarder);
        forwarder.term();
        // The one that was taken comes back to the address it has called, as it came.
        let mut served: Vec<TcpStream> = (0..5).map(|_| next(&forwarder.listener)).collect();
        for stream in &mut served {
            let text = read_text(stream, 8);
            stream.write_all(text.as_bytes()).unwrap();
        }
        for (n, mut client) in clients.iter().enumerate() {
            assert_eq!(read_text(&mut client, 8), format!("caller {n}"), "{args:?}");
        }
        assert!(forwarder.is_running(), "it has one of them");
        drop((clients, served));
        assert_eq!(forwarder.ended().code(), Some(0));
    }
}

#[test]
fn who_waited_in_the_queue_is_served_when_the_backend_comes_back() {
    let address = free_address();
    let forwarder = Forwarder::to(&format!("tcp://{address}"), ONE);
    let clients = waiting(&forwarder);
    echo(TcpListener::bind(address).unwrap());
    for (n, mut client) in clients.iter().enumerate() {
        assert_eq!(read_text(&mut client, 8), format!("caller {n}"));
    }
}

/// One that leaves makes room for the next, which may find the backend.
#[test]
fn a_caller_that_leaves_does_not_leave_the_others_behind() {
    let address = free_address();
    let forwarder = Forwarder::to(&format!("tcp://{address}"), ONE);
    let mut clients = waiting(&forwarder);
    drop(clients.remove(0));
    assert_silent(&clients[0]);
    echo(TcpListener::bind(address).unwrap());
    for (n, mut client) in clients.iter().enumerate() {
        assert_eq!(read_text(&mut client, 8), format!("caller {}", n + 1));
    }
}

/// Not yet accepted, which is a reset, and accepted already, which is an end.
#[test]
fn a_backend_that_dies_before_a_word_was_said_costs_nobody_the_connection() {
    for is_accepted in [false, true] {
        for args in [ONE, &["--threads", "1", "--proxy-protocol"]] {
            let (listener, target) = listen();
            let address = listener.local_addr().unwrap();
            let forwarder = Forwarder::to(&target, args);
            let mut clients: Vec<TcpStream> = (0..3).map(|_| forwarder.client()).collect();
            let accepted: Vec<TcpStream> = match is_accepted {
                true => clients.iter().map(|_| next(&listener)).collect(),
                false => Vec::new(),
            };
            assert_silent(&clients[2]);
            drop((listener, accepted));
            assert_silent(&clients[2]);
            let listener = TcpListener::bind(address).unwrap();
            for (n, client) in clients.iter_mut().enumerate() {
                write!(client, "caller {n}").unwrap();
            }
            for _ in 0..3 {
                let mut backend = next(&listener);
                if args.len() > ONE.len() {
                    backend.read_exact(&mut [0; 28]).unwrap();
                }
                let text = read_text(&mut backend, 8);
                backend.write_all(text.as_bytes()).unwrap();
            }
            for (n, client) in clients.iter_mut().enumerate() {
                assert_eq!(read_text(client, 8), format!("caller {n}"), "{is_accepted} {args:?}");
            }
        }
    }
}

#[test]
fn a_backend_that_is_there_is_believed_when_it_ends_a_connection_without_a_word() {
    let (listener, target) = listen();
    let forwarder = Forwarder::to(&target, ONE);
    let mut client = forwarder.client();
    drop(next(&listener));
    assert_eq!(read_rest(&mut client), "");
}

/// Nobody else may have it: it would come with our own identity.
#[test]
fn a_unix_sockets_client_that_waits_in_vain_is_let_go() {
    let dir = tempfile::tempdir().unwrap();
    let front = dir.path().join("front.sock");
    let listener = UnixListener::bind(&front).unwrap();
    let queue = listener.try_clone().unwrap();
    let process = start(listener.into(), &format!("tcp://{}", free_address()), ONE, "");
    let (address, own) = ("0.0.0.0:0".parse().unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let mut forwarder = Forwarder { process, address, listener: own };
    let call = |_| {
        let client = UnixStream::connect(&front).unwrap();
        client.set_read_timeout(Some(BUDGET)).unwrap();
        client
    };
    let mut clients: Vec<UnixStream> = (0..3).map(call).collect();
    wait_until("it is there", || forwarder_has(&forwarder, &queue));
    forwarder.term();
    assert_eq!(forwarder.ended().code(), Some(0));
    // Those in the queue are somebody else's.
    queue.set_nonblocking(true).unwrap();
    let mut n_queued = 0;
    while let Ok((mut stream, _)) = queue.accept() {
        n_queued += 1;
        stream.set_nonblocking(false).unwrap();
        stream.write_all(b"hello").unwrap();
    }
    assert!(n_queued >= 2, "{n_queued} of 3 stayed in the queue");
    for client in clients.iter_mut().rev().take(n_queued) {
        assert_eq!(read_text(client, 5), "hello");
    }
}

fn forwarder_has(forwarder: &Forwarder, socket: &UnixListener) -> bool {
    let inode = halley_sup::os::listen::inode(socket).unwrap();
    let pid = forwarder.process.id().cast_signed();
    let caught = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let caught = caught.lines().find_map(|line| line.strip_prefix("SigCgt:\t")).unwrap();
    u64::from_str_radix(caught, 16).unwrap() & (1 << 14) != 0
        && halley_sup::os::proc::socket_inodes(pid).contains(&inode)
}

#[test]
fn many_callers_and_a_backend_that_comes_and_goes() {
    let address = free_address();
    let forwarder = Forwarder::to(&format!("tcp://{address}"), &["--threads", "2"]);
    for turn in 0..5 {
        let mut clients: Vec<TcpStream> = (0..40).map(|_| forwarder.client()).collect();
        let listener = TcpListener::bind(address).unwrap();
        let served = std::thread::spawn(move || {
            let all: Vec<_> = (0..40).map(|_| next(&listener)).collect();
            drop(listener);
            let echoes: Vec<_> =
                all.into_iter().map(|one| std::thread::spawn(move || echo_one(one))).collect();
            echoes.into_iter().for_each(|echo| echo.join().unwrap());
        });
        for client in &mut clients {
            converse(client, &format!("turn{turn}"));
        }
        drop(clients);
        served.join().unwrap();
    }
}
