//! What the kernel does with a group of listening sockets and our program, measured and not
//! believed: the ground everything else stands on.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

use std::cell::RefCell;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use halley_sup::core::ids::SlotId;
use halley_sup::os::listen;
use halley_sup::supervisor::sockets::listener;
use halley_sup::supervisor::sockets::reuseport_group::{self, Kind, Proof};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

type Group = Rc<RefCell<reuseport_group::Group>>;

/// A port that is free for all addresses of this machine: found by binding, given back at once.
fn free_port() -> u16 {
    std::net::TcpListener::bind("[::]:0").unwrap().local_addr().unwrap().port()
}

/// A listener with `n` open slots, steered to the first.
fn group(ip: &str, n: u16) -> Group {
    let address: SocketAddr = format!("{ip}:{}", free_port()).parse().unwrap();
    let mut listener = reuseport_group::Group::new(Kind::Stream, address, 64);
    for _ in 0..n {
        let (id, fd) = listener.create().unwrap();
        listener.open(id, fd).unwrap();
    }
    listener.steer(&[(SlotId(0), 1)]).unwrap();
    Rc::new(RefCell::new(listener))
}

fn queued(group: &Group) -> Vec<u32> {
    let listener = group.borrow();
    listener.ids().into_iter().map(|id| listener.state(id).unwrap().n_queued).collect()
}

async fn call(ip: &str, group: &Group) -> TcpStream {
    let port = group.borrow().address().port();
    TcpStream::connect(format!("{ip}:{port}")).await.unwrap()
}

/// Runs on the supervisor's kind of runtime.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

async fn until(what: impl Fn() -> bool) {
    for _ in 0..1000 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never");
}

#[test]
fn a_flip_moves_every_new_connection_over_ipv4_ipv6_and_dual_stack() {
    run(async {
        for (listen, callers) in [
            ("127.0.0.1", vec!["127.0.0.1"]),
            ("[::1]", vec!["[::1]"]),
            ("0.0.0.0", vec!["127.0.0.1"]),
            ("[::]", vec!["127.0.0.1", "[::1]"]),
        ] {
            let group = group(listen, 3);
            for target in [2, 0, 1] {
                group.borrow_mut().steer(&[(SlotId(target), 1)]).unwrap();
                let before = queued(&group);
                let mut held = Vec::new();
                for caller in &callers {
                    for _ in 0..5 {
                        held.push(call(caller, &group).await);
                    }
                }
                let mut expected = before;
                expected[usize::from(target)] += u32::try_from(held.len()).unwrap();
                assert_eq!(queued(&group), expected, "{listen}");
            }
        }
    });
}

#[test]
fn a_probe_reaches_its_slot_and_nobody_else_does() {
    run(async {
        for ip in ["127.0.0.1", "[::1]", "[::]"] {
            let group = group(ip, 3);
            let caller = if ip == "[::]" { "127.0.0.1" } else { ip };
            let mut held = Vec::new();
            for _ in 0..10 {
                held.push(reuseport_group::probe_connect(&group, SlotId(2)).await.unwrap());
                held.push(call(caller, &group).await);
            }
            assert_eq!(queued(&group), [10, 0, 10], "{ip}");
        }
    });
}

/// As it is while the slots of a killed keeper are taken over.
#[test]
fn a_probe_reaches_its_slot_also_where_the_group_leads_nowhere_yet() {
    run(async {
        let (group, mut held) = (group("127.0.0.1", 2), Vec::new());
        let mut other = reuseport_group::Group::new(Kind::Stream, group.borrow().address(), 64);
        let copy = |id| (id, group.borrow().fd(id).unwrap().try_clone_to_owned().unwrap());
        let ids = group.borrow().ids();
        other.adopt(ids.iter().copied().map(copy).collect(), ids).unwrap();
        let other = Rc::new(RefCell::new(other));
        for _ in 0..10 {
            held.push(reuseport_group::probe_connect(&other, SlotId(1)).await.unwrap());
        }
        assert_eq!(queued(&other), [0, 10]);
    });
}

#[test]
fn weights_share_connections_out() {
    run(async {
        let group = group("127.0.0.1", 2);
        group.borrow_mut().steer(&[(SlotId(0), 1), (SlotId(1), 3)]).unwrap();
        let mut counts = [0_u32; 2];
        for _ in 0..40 {
            let mut held = Vec::new();
            for _ in 0..25 {
                held.push(call("127.0.0.1", &group).await);
            }
            for (count, n) in counts.iter_mut().zip(queued(&group)) {
                *count += n;
            }
            for id in group.borrow().ids() {
                while listen::accept(group.borrow().fd(id).unwrap()).is_ok() {}
            }
        }
        // 1,000 at three to one: 750, give or take six times the square root of 187.
        assert!((668..=832).contains(&counts[1]), "{counts:?}");
    });
}

#[test]
fn a_slot_that_a_program_shuts_down_is_opened_again_and_the_others_are_not_mistaken() {
    run(async {
        for shut in [vec![0], vec![1], vec![3], vec![0, 2], vec![1, 3], vec![0, 1, 2]] {
            let group = group("127.0.0.1", 4);
            group.borrow_mut().steer(&[(SlotId(3), 1)]).unwrap();
            for id in &shut {
                let listener = group.borrow();
                let fd = listener.fd(SlotId(*id)).unwrap();
                rustix::net::shutdown(fd, rustix::net::Shutdown::Both).unwrap();
            }
            assert!(!group.borrow().is_whole());
            let repaired = group.borrow_mut().repair().unwrap();
            assert_eq!(repaired.len(), shut.len());
            assert!(group.borrow().is_whole());
            let ids = group.borrow().ids();
            for id in ids {
                let proof = reuseport_group::prove(&group, id).await.unwrap();
                assert!(matches!(proof, Proof::Here), "{shut:?} {id}: {proof:?}");
            }
            let _held = call("127.0.0.1", &group).await;
            assert_eq!(queued(&group), [0, 0, 0, 1], "{shut:?}");
        }
    });
}

#[test]
fn a_mender_opens_a_slot_again_by_itself_and_sleeps_until_then() {
    run(async {
        let group = group("127.0.0.1", 2);
        let watched = Rc::clone(&group);
        tokio::task::spawn_local(
            async move { reuseport_group::mend(&watched, SlotId(1), || {}).await },
        );
        for _ in 0..3 {
            tokio::task::yield_now().await;
            let fd = group.borrow().fd(SlotId(1)).unwrap().try_clone_to_owned().unwrap();
            rustix::net::shutdown(&fd, rustix::net::Shutdown::Both).unwrap();
            until(|| group.borrow().is_whole()).await;
        }
    });
}

#[test]
fn a_queue_outlives_the_program_and_a_shrunk_one_is_restored() {
    run(async {
        let group = group("127.0.0.1", 1);
        let _held = (call("127.0.0.1", &group).await, call("127.0.0.1", &group).await);
        // The program's own descriptor of the slot: closing it closes nothing.
        let program = group.borrow().fd(SlotId(0)).unwrap().try_clone_to_owned().unwrap();
        listen::listen(&program, 1).unwrap();
        assert_eq!(group.borrow().state(SlotId(0)).unwrap().backlog, 1);
        drop(program);
        assert_eq!(queued(&group), [2]);
        group.borrow().relisten(SlotId(0)).unwrap();
        assert_eq!(group.borrow().state(SlotId(0)).unwrap().backlog, 64);
        assert_eq!(queued(&group), [2]);
    });
}

#[test]
fn accepted_connections_send_without_delay() {
    run(async {
        let group = group("127.0.0.1", 1);
        let _held = call("127.0.0.1", &group).await;
        let accepted = listen::accept(group.borrow().fd(SlotId(0)).unwrap().as_fd()).unwrap();
        assert!(accepted.nodelay().unwrap());
    });
}

/// Under load the supervisor sleeps: no connection wakes it, only a hang-up does.
#[test]
fn connections_do_not_wake_the_mender() {
    run(async {
        let group = group("127.0.0.1", 1);
        let watched = Rc::clone(&group);
        tokio::task::spawn_local(
            async move { reuseport_group::mend(&watched, SlotId(0), || {}).await },
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
        let address = group.borrow().address();
        let callers = std::thread::spawn(move || {
            (0..50).map(|_| std::net::TcpStream::connect(address).unwrap()).collect::<Vec<_>>()
        });
        let before = wake_ups();
        // This thread waits for a timer alone, while fifty connections arrive.
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(callers.join().unwrap().len(), 50);
        let n = wake_ups() - before;
        assert!(n < 10, "{n} wake-ups for 50 connections");
    });
}

fn wake_ups() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap();
    line.split_whitespace().last().unwrap().parse().unwrap()
}

/// Who was queued before a flip is left in the queue: the slot is not to be had, and afterwards it
/// is, blocking as a program expects it.
#[test]
fn a_slot_with_callers_is_not_to_be_had() {
    run(async {
        let group = group("127.0.0.1", 2);
        let late = call("127.0.0.1", &group).await;
        group.borrow_mut().steer(&[(SlotId(1), 1)]).unwrap();
        let left = listener::settle(
            &listener::Listener::Group(Rc::clone(&group)),
            &[SlotId(0)],
            Duration::from_millis(20),
        )
        .await;
        assert_eq!(left.n_queued, 1);
        let proof = reuseport_group::prove(&group, SlotId(0)).await.unwrap();
        assert!(matches!(proof, Proof::Occupied(None)), "{proof:?}");
        assert_eq!(queued(&group), [1, 0]);
        let passed = listen::accept(group.borrow().fd(SlotId(0)).unwrap()).unwrap();
        assert_eq!(passed.peer_addr().unwrap(), late.local_addr().unwrap());
        let proof = reuseport_group::prove(&group, SlotId(0)).await.unwrap();
        assert!(matches!(proof, Proof::Here), "{proof:?}");
        assert_eq!(queued(&group), [0, 0]);
        let flags = rustix::fs::fcntl_getfl(group.borrow().fd(SlotId(0)).unwrap()).unwrap();
        assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK));
    });
}

/// A caller comes after the look at the queue, and our own connection has gone astray: the caller is
/// not mistaken for it, and handed over.
#[test]
fn a_caller_in_the_place_of_our_own_connection_is_handed_over() {
    run(async {
        let group = group("127.0.0.1", 2);
        let address = group.borrow().address();
        let slots = group.borrow().ids().into_iter();
        let copy = |id| (id, group.borrow().fd(id).unwrap().try_clone_to_owned().unwrap());
        // The order is mistaken: what is sent to slot 0 arrives in slot 1, and the other way round.
        let mut mistaken = reuseport_group::Group::new(Kind::Stream, address, 64);
        mistaken.adopt(slots.map(copy).collect(), vec![SlotId(1), SlotId(0)]).unwrap();
        mistaken.steer(&[(SlotId(1), 1)]).unwrap();
        let mistaken = Rc::new(RefCell::new(mistaken));
        let proof = reuseport_group::prove(&mistaken, SlotId(0));
        let (proof, caller) =
            tokio::join!(proof, async { std::net::TcpStream::connect(address).unwrap() });
        let Proof::Occupied(Some(taken)) = proof.unwrap() else { panic!("it was mistaken") };
        assert_eq!(taken.peer_addr().unwrap(), caller.local_addr().unwrap());
    });
}

/// The loss that all of this is there for: a slot that is closed takes its queue with it.
#[test]
fn closing_a_slot_with_a_queue_resets_its_callers() {
    run(async {
        let group = group("127.0.0.1", 1);
        let mut caller = call("127.0.0.1", &group).await;
        group.borrow_mut().close_all();
        // The reset is told once: to whoever asks first.
        let wrote = caller.write_all(b"hello").await;
        let read = caller.read(&mut [0; 8]).await;
        assert!(wrote.is_err() || read.is_err(), "{wrote:?} {read:?}");
    });
}
