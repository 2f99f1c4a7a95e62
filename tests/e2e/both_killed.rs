//! `kill -9` of keeper and supervisor: the next `halley-sup run` takes over what still runs.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;

use halley_sup::demo::load::Shape;
use halley_sup::os::scm;

use crate::world::{World, free_address, is_gone, kill};

#[test]
fn what_runs_is_adopted_and_its_slots_are_taken_back() {
    let mut world = World::new();
    world.release(&[]).expect(0);
    let load = world.load(Shape::Short);
    let pid = world.live_pid();
    for _ in 0..2 {
        world.kill_both();
        assert!(load.wait_for(20));
        world.wake();
        assert_eq!((world.live_pid(), world.is_alone()), (pid, true));
    }
    world.release(&[]).expect(0);
    world.cli(&["rollback", "web"]).expect(0);
    assert_eq!(world.live_pid(), pid);
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}\n{}", ledger.losses(), world.run_log());
    kill(pid, libc::SIGKILL);
    assert_eq!(world.answering(), Some(1));
    let logs = world.cli(&["logs", "web"]).stdout;
    assert!(logs.contains("ended: unknown"), "{logs}");
}

/// The kernel's order of the slots is lost with those that no process had: the live release is in slot
/// 1, the standby in slot 2, and the kernel has put that in the place of slot 0.
#[test]
fn new_connections_go_on_to_the_release_that_serves() {
    let mut world = World::new();
    for _ in 0..4 {
        world.release(&[]).expect(0);
        world.wait("one stands by", |world| {
            world.status()["instances"].as_array().is_some_and(|all| all.len() <= 2)
        });
    }
    let pid = world.live_pid();
    world.kill_both();
    world.wake();
    assert_eq!(world.live_pid(), pid);
    for _ in 0..20 {
        assert_eq!(world.answering(), Some(4));
    }
    world.cli(&["rollback", "web"]).expect(0);
    assert_eq!(world.answering(), Some(3));
}

/// What a service manager stores for its service (`sd_pid_notify_with_fds(3)`), as it was told.
fn stored(manager: &UnixDatagram, store: &mut BTreeMap<String, OwnedFd>) {
    let mut bytes = [0; 4096];
    while let Ok((n, mut fds)) = scm::receive_some(manager, &mut bytes) {
        let text = String::from_utf8_lossy(&bytes[..n]).into_owned();
        let name = text.lines().find_map(|line| line.strip_prefix("FDNAME=")).map(str::to_owned);
        match (name, fds.pop()) {
            (Some(name), Some(fd)) => drop(store.insert(name, fd)),
            (Some(name), None) => drop(store.remove(&name)),
            (None, _) => {}
        }
    }
}

/// Nobody has the listener but the service manager.
#[test]
fn callers_are_not_refused_while_all_of_it_is_dead_under_a_service_manager() {
    let mut world = World::asleep(free_address());
    world.configure(&crate::world::config(world.address, ""));
    let path = world.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_nonblocking(true).unwrap();
    let under = format!("NOTIFY_SOCKET={}", path.display());
    world.wake_under(&["env", &under]);
    world.release(&[]).expect(0);
    let pid = world.live_pid();
    let mut store = BTreeMap::new();
    stored(&manager, &mut store);
    world.kill_both();
    kill(pid, libc::SIGKILL);
    world.wait("the service is gone", |_| is_gone(pid));
    let mut caller = TcpStream::connect(world.address).unwrap();
    caller.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let numbers: Vec<String> = store.values().map(|fd| fd.as_raw_fd().to_string()).collect();
    let names: Vec<&str> = store.keys().map(String::as_str).collect();
    for fd in store.values() {
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty()).unwrap();
    }
    let script = "import fcntl, os, sys\n\
        fds = [fcntl.fcntl(int(n), fcntl.F_DUPFD, 500) for n in sys.argv[1].split(',')]\n\
        for at, fd in enumerate(fds): os.dup2(fd, 3 + at); os.close(fd)\n\
        os.environ.update(LISTEN_FDS=str(len(fds)), LISTEN_PID=str(os.getpid()), \
        LISTEN_FDNAMES=sys.argv[2])\n\
        os.execvp(sys.argv[3], sys.argv[3:])";
    world.wake_under(&["python3", "-c", script, &numbers.join(","), &names.join(":")]);
    let mut answer = String::new();
    caller.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    world.release(&[]).expect(0);
}
