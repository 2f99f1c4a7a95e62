//! Callers that were held, and late ones, are passed on by a process that outlives the supervisor.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use halley_sup::demo::load::Shape;
use halley_sup::os::{listen, proc};

use crate::modes::world_with;
use crate::world::{World, kill};

/// Nobody here waits longer for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

fn world(lines: &'static str, others: &[(&str, &str)]) -> World {
    let listen = move |world: &World| format!("listen = [\"tcp://{}\"]\n{lines}", world.address);
    world_with(listen, "", others)
}

fn hold() -> World {
    let patient = [("deadline = \"5s\"", "deadline = \"20s\"")];
    world("strategy = \"hold\"\nmax_gap = \"25s\"", &patient)
}

/// A caller who has asked for something that takes a while.
fn ask(world: &World, ms: u64) -> TcpStream {
    let mut stream = TcpStream::connect(world.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET /slow?ms={ms} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

fn hear(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// A caller who talks for as long as the test likes.
struct Talk(BufReader<TcpStream>);

impl Talk {
    fn begin(world: &World) -> Self {
        let mut stream = TcpStream::connect(world.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        Self(BufReader::new(stream))
    }

    fn hear_head(&mut self) {
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "cut");
        }
    }

    fn say(&mut self, text: &str) -> String {
        self.0.get_mut().write_all(format!("{text}\n").as_bytes()).unwrap();
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

/// Processes that pass callers on.
fn passers(world: &World) -> Vec<i32> {
    let line = |pid: i32| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let is_passer = |pid: &i32| line(*pid).split('\0').any(|word| word == "called");
    proc::tree(world.keeper_pid()).into_iter().filter(is_passer).collect()
}

/// How many connections this process has where callers come in.
fn n_taken(world: &World, pid: i32) -> usize {
    let ports = BTreeSet::from([world.address.port()]);
    listen::n_connections(&ports, &proc::socket_inodes(pid))
}

fn wait_for_phase(world: &World, op: u32, phase: &str, state: &str) {
    let journal = world.service_path(&format!("ops/{op:07}/journal.ndjson"));
    let wanted = format!(r#""phase":"{phase}","state":"{state}""#);
    world.wait(&wanted, |_| fs::read_to_string(&journal).is_ok_and(|t| t.contains(&wanted)));
}

/// The program whose release this is, by what `status` says.
fn pid_of(world: &World, release: u64) -> i32 {
    let status = world.status();
    let all = status["instances"].as_array().cloned().unwrap_or_default();
    let found = all.iter().find(|i| i["release"] == release).and_then(|i| i["pid"].as_i64());
    found.map_or(0, |pid| i32::try_from(pid).unwrap())
}

fn kill_and_wait_for_another(world: &World) {
    let before = world.supervisor_pid();
    world.kill_supervisor();
    world.wait("another supervisor", |world| {
        world.supervisor_pid().is_some_and(|pid| Some(pid) != before)
            && world.cli(&["status"]).code == 0
    });
}

#[test]
fn callers_that_were_held_get_their_answers_without_the_supervisor() {
    const N: usize = 12;
    let world = hold();
    world.release(&["alone"]).expect(0);
    let build = world.build(&["alone", "late-ms=300"]);
    let mut command = world.command(&["release", "web", &build.to_string_lossy(), "--json"]);
    let mut client = command.stdout(Stdio::null()).spawn().unwrap();
    wait_for_phase(&world, 2, "park", "ok");
    let callers: Vec<TcpStream> = (0..N).map(|_| ask(&world, 2500)).collect();
    wait_for_phase(&world, 2, "flip", "start");
    // Each has been taken by the new one, and its answer is far away.
    world.wait("all are passed on", |world| n_taken(world, pid_of(world, 2)) >= N);
    kill_and_wait_for_another(&world);
    for caller in callers {
        let text = hear(caller);
        assert!(text.contains(" 200 ") && text.contains("release 2"), "{text:?}");
    }
    assert!(client.wait().unwrap().success());
    world.wait("the last connection ends the passer", |world| passers(world).is_empty());
    assert_eq!(world.answering(), Some(2));
}

/// A world whose releases stay as long as somebody is connected, and a talk that came to the first
/// release too late: it is with the second one now, by way of a passer. Also the first one's
/// sockets.
fn late_talk() -> (World, Talk, BTreeSet<u64>) {
    let world = world("", &[("drain = \"10s\"", "drain = \"forever\"")]);
    world.release(&[]).expect(0);
    let first = world.live_pid();
    let sockets = proc::socket_inodes(first);
    // It does not accept any more, and says nothing of it.
    kill(first, libc::SIGSTOP);
    let mut talk = Talk::begin(&world);
    world.release(&[]).expect(0);
    kill(first, libc::SIGKILL);
    talk.hear_head();
    assert_eq!(talk.say("hello"), "release 2 hello");
    (world, talk, sockets)
}

#[test]
fn a_late_caller_is_passed_on_without_the_supervisor() {
    let (world, mut talk, _) = late_talk();
    let before = passers(&world);
    assert_eq!(before.len(), 1);
    for n in 0..3 {
        kill_and_wait_for_another(&world);
        assert_eq!(talk.say(&format!("again {n}")), format!("release 2 again {n}"));
    }
    assert_eq!(passers(&world), before);
    drop(talk);
    world.wait("the last connection ends the passer", |world| passers(world).is_empty());
}

#[test]
fn nobody_is_taken_out_of_a_slot_that_a_later_release_has() {
    let (world, mut talk, sockets) = late_talk();
    let passer = passers(&world)[0];
    let n_before = proc::socket_inodes(passer).len();
    world.wait("the slot is free", |_| proc::socket_inodes(passer).is_disjoint(&sockets));
    world.release(&[]).expect(0);
    let third = world.live_pid();
    assert!(!proc::socket_inodes(third).is_disjoint(&sockets), "the slot is used again");
    let load = world.load(Shape::Short);
    let mut own = Talk::begin(&world);
    own.hear_head();
    assert!(load.wait_for(300));
    assert_eq!(passers(&world), [passer]);
    assert!(proc::socket_inodes(passer).len() <= n_before, "it has taken somebody");
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
    assert_eq!(own.say("direct"), "release 3 direct");
    assert_eq!(talk.say("still"), "release 2 still");
    // And by the next supervisor's hand as well.
    kill_and_wait_for_another(&world);
    world.release(&[]).expect(0);
    assert_eq!(talk.say("still"), "release 2 still");
    assert_eq!(world.answering(), Some(4));
    // The world's own end looks for what is left: the talk goes with the service.
    world.cli(&["stop", "web"]).expect(0);
    assert!(passers(&world).is_empty());
    assert!(TcpStream::connect(world.address).is_err());
}

/// Lets every process that is started from here on have so few open files that a passer has places
/// for two callers.
fn make_passers_small(world: &World) {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let few = Rlimit { current: Some(66), maximum: Some(66) };
    prlimit(Pid::from_raw(world.keeper_pid()), Resource::Nofile, few).unwrap();
}

/// Two late talks with the second release, and one who waits: the passer has no place for a third,
/// and so still has the slot. Also the first release's sockets.
fn full_passer() -> (World, [Talk; 2], TcpStream, BTreeSet<u64>) {
    let world = world("", &[("drain = \"10s\"", "drain = \"forever\"")]);
    world.release(&[]).expect(0);
    make_passers_small(&world);
    let first = world.live_pid();
    let sockets = proc::socket_inodes(first);
    kill(first, libc::SIGSTOP);
    let mut talks = [Talk::begin(&world), Talk::begin(&world)];
    let waiting = ask(&world, 10);
    world.release(&[]).expect(0);
    kill(first, libc::SIGKILL);
    for talk in &mut talks {
        talk.hear_head();
        assert_eq!(talk.say("hello"), "release 2 hello");
    }
    (world, talks, waiting, sockets)
}

#[test]
fn a_slot_that_a_passer_still_has_is_nobody_elses() {
    let (world, talks, waiting, sockets) = full_passer();
    let [first, mut second] = talks;
    let passer = passers(&world)[0];
    for release in [3, 4] {
        world.release(&[]).expect(0);
        assert!(!proc::socket_inodes(passer).is_disjoint(&sockets), "it has let go");
        assert!(proc::socket_inodes(world.live_pid()).is_disjoint(&sockets), "{release}");
        kill_and_wait_for_another(&world);
    }
    drop(first);
    assert!(hear(waiting).contains("release 4"));
    world.wait("the slot is free", |_| proc::socket_inodes(passer).is_disjoint(&sockets));
    assert_eq!(second.say("still"), "release 2 still");
    drop(second);
    world.wait("it is over", |world| passers(world).is_empty());
}

/// Nothing can be started any more, and a supervisor that comes up then has callers wait, but not
/// where a passer would take them and call itself.
#[test]
fn callers_are_not_held_where_a_passer_is() {
    let (world, talks, waiting, sockets) = full_passer();
    let [first, mut second] = talks;
    let build = world.build_of(&["./run"]);
    let script = format!("#!/bin/sh\nexec {} demo-service\n", crate::world::BINARY);
    fs::write(build.join("run"), script).unwrap();
    let mode = |bits| std::os::unix::fs::PermissionsExt::from_mode(bits);
    fs::set_permissions(build.join("run"), mode(0o755)).unwrap();
    world.release_path(&build).expect(0);
    let tree = world.service_path("releases/3");
    fs::set_permissions(&tree, mode(0o755)).unwrap();
    fs::rename(tree.join("run"), tree.join("away")).unwrap();
    kill(world.live_pid(), libc::SIGKILL);
    world.wait("it cannot be started", |world| world.run_log().contains("cannot be started again"));
    kill_and_wait_for_another(&world);
    world.wait("connections wait", |world| {
        world.run_log().contains("starting the last good release")
    });
    let caller = ask(&world, 10);
    // The passer has a place again, and takes who waits: nobody it brings back to itself. Behind them
    // are the health checks that release 1 did not answer.
    let passer = passers(&world)[0];
    let before = proc::socket_inodes(passer);
    drop(first);
    world.wait("it takes who waits", |_| !proc::socket_inodes(passer).is_subset(&before));
    fs::rename(tree.join("away"), tree.join("run")).unwrap();
    for caller in [caller, waiting] {
        assert!(hear(caller).contains("release 3"));
    }
    world.wait("it has nobody left to take", |_| proc::socket_inodes(passer).is_disjoint(&sockets));
    assert_eq!(second.say("still"), "release 2 still");
}

/// Callers are held again and again, the supervisor is killed again and again: whoever is under way
/// through a passer, or waits for one, gets through.
#[test]
fn a_held_load_goes_through_whatever_becomes_of_the_supervisor() {
    let world = hold();
    world.release(&["alone"]).expect(0);
    let loads = [world.load(Shape::Short), world.load(Shape::SlowRequest)];
    for op in 2..6 {
        let build = world.build(&["alone"]);
        let mut command = world.command(&["release", "web", &build.to_string_lossy(), "--json"]);
        let mut client = command.stdout(Stdio::null()).spawn().unwrap();
        let (phase, state) = [("flip", "start"), ("flip", "ok"), ("bake", "start")][op % 3];
        wait_for_phase(&world, u32::try_from(op).unwrap(), phase, state);
        kill_and_wait_for_another(&world);
        assert!(client.wait().unwrap().success());
        assert!(loads[0].wait_for(20));
    }
    for load in loads {
        let ledger = load.stop();
        assert_eq!(ledger.n_lost(), 0, "{}\n{}", ledger.losses(), world.run_log());
    }
    world.wait("nobody is passed on any more", |world| passers(world).is_empty());
}
