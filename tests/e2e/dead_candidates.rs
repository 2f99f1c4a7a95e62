//! A candidate that dies when callers come to it already: they wait, and whom the flip leads back to
//! answers them, whatever a program gets its connections by. Nobody waits for the `linger` or the
//! `drain` of a release whose programs are gone: here those take longer than any caller waits.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::Duration;

use halley_sup::demo::load::{Load, Shape};
use halley_sup::os::proc;

use crate::modes::world_with;
use crate::world::{World, is_gone, kill};

const HANDOFFS: [&str; 3] = ["inherit", "intercept", "port"];

/// One that serves release 1, and whose next release is watched for long.
fn world(handoff: &'static str, more: &str, others: &[(&str, &str)]) -> World {
    let lines = move |world: &World| {
        format!("listen = [\"tcp://{}\"]\nhandoff = \"{handoff}\"", world.address)
    };
    let times = [("linger = \"200ms\"", "linger = \"1m\""), ("drain = \"10s\"", "drain = \"1m\"")];
    let world = world_with(lines, more, &[&times[..], others].concat());
    assert_eq!(begin(&world, handoff).wait().unwrap().code(), Some(0));
    let text = fs::read_to_string(world.path("halley.toml")).unwrap();
    world.reload(&text.replace("for = \"200ms\"", "for = \"1m\""));
    world
}

fn begin(world: &World, handoff: &str) -> Child {
    let bind = format!("bind={}", world.address);
    let behaviour: &[&str] = if handoff == "intercept" { &[&bind] } else { &[] };
    let build = world.build(behaviour);
    let mut command = world.command(&["release", "web", &build.to_string_lossy(), "--json"]);
    command.stdout(Stdio::null()).spawn().unwrap()
}

/// The programs of release 2.
fn candidates(world: &World) -> Vec<i32> {
    let status = world.status();
    let all = status["instances"].as_array().cloned().unwrap_or_default();
    let own = all.iter().filter(|instance| instance["release"] == 2);
    own.map(|instance| i32::try_from(instance["pid"].as_i64().unwrap()).unwrap()).collect()
}

/// A caller that is connected, and has asked.
fn call(world: &World) -> TcpStream {
    let mut stream = TcpStream::connect(world.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    stream
}

/// The last line of what comes, or what came instead.
fn answer(mut stream: TcpStream) -> String {
    let mut text = String::new();
    match stream.read_to_string(&mut text) {
        Ok(_) => text.lines().last().unwrap_or("nothing").to_owned(),
        Err(error) => error.to_string(),
    }
}

/// Calls while the release on trial is dead and nobody has seen it yet. Returns the callers, and the
/// release, which goes on.
fn call_the_dead(world: &World, handoff: &str, n_killed: usize) -> (Vec<TcpStream>, Child) {
    let release = begin(world, handoff);
    world.wait("it is watched", |world| world.status()["operation"]["phase"] == "bake");
    let programs = candidates(world);
    let supervisor = world.supervisor_pid().unwrap();
    kill(supervisor, libc::SIGSTOP);
    for pid in &programs[..n_killed] {
        kill(*pid, libc::SIGKILL);
        world.wait("it is dead", |_| is_gone(*pid));
    }
    let callers = (0..16).map(|_| call(world)).collect();
    kill(supervisor, libc::SIGCONT);
    (callers, release)
}

#[test]
fn who_calls_a_dead_candidate_is_answered_by_whom_the_flip_leads_back_to() {
    for handoff in HANDOFFS {
        let world = world(handoff, "", &[]);
        let (callers, mut release) = call_the_dead(&world, handoff, 1);
        for caller in callers {
            let answer = answer(caller);
            assert!(answer.starts_with("release 1 "), "{handoff} {answer}");
        }
        assert_eq!(release.wait().unwrap().code(), Some(21), "{handoff}");
        world.wait("nothing is left of it", World::is_alone);
    }
}

/// The other instance of the candidate still answers those that came to it.
#[test]
fn who_calls_a_dead_instance_does_not_wait_for_the_end_of_the_others() {
    for handoff in HANDOFFS {
        let two = [("[service.web.health]", "instances = 2\n[service.web.health]")];
        let world = world(handoff, "", &two);
        let (callers, mut release) = call_the_dead(&world, handoff, 1);
        for caller in callers {
            let answer = answer(caller);
            assert!(answer.starts_with("release "), "{handoff} {answer}");
        }
        assert_eq!(release.wait().unwrap().code(), Some(21), "{handoff}");
    }
}

/// Nobody has been with it, so nobody is lost.
#[test]
fn a_candidate_that_dies_right_before_the_flip_costs_nobody_a_connection() {
    let end = r#"for at in /proc/[0-9]*; do
  grep -qz "^HALLEY_RELEASE_DIR=$HALLEY_RELEASE_DIR$" $at/environ 2>/dev/null || continue
  grep -qz '^demo-service$' $at/cmdline && kill -9 ${at#/proc/}
done"#;
    for handoff in HANDOFFS {
        let world = world(handoff, "", &[]);
        fs::write(world.path("end.sh"), end).unwrap();
        let hook = world.path("end.sh");
        let text = fs::read_to_string(world.path("halley.toml")).unwrap();
        let hooks = format!("{text}[service.web.hooks]\nbefore_flip = [[\"/bin/sh\", {hook:?}]]\n");
        world.reload(&hooks);
        let shapes = [Shape::Short, Shape::ConnectThenWait, Shape::KeepAlive];
        let loads = shapes.map(|shape| Load::start(world.address, shape, 4));
        let mut release = begin(&world, handoff);
        let code = release.wait().unwrap().code();
        assert!(matches!(code, Some(20 | 21)), "{handoff} {code:?}");
        assert!(loads.iter().all(|load| load.wait_for(20)));
        for load in loads {
            let ledger = load.stop();
            assert_eq!(ledger.n_lost(), 0, "{handoff} {}", ledger.losses());
        }
    }
}

/// What shows that these tests could fail: callers that a process has taken out of the queue, and that
/// goes with them.
#[test]
fn who_is_with_a_forwarder_that_is_killed_is_lost() {
    let world = world("port", "", &[]);
    let mut release = begin(&world, "port");
    world.wait("it is watched", |world| world.status()["operation"]["phase"] == "bake");
    let program = candidates(&world)[0];
    let supervisor = world.supervisor_pid().unwrap();
    kill(supervisor, libc::SIGSTOP);
    kill(program, libc::SIGKILL);
    world.wait("it is dead", |_| is_gone(program));
    let callers: Vec<TcpStream> = (0..16).map(|_| call(&world)).collect();
    let forwarders = proc::tree(world.keeper_pid()).into_iter().filter(|pid| {
        fs::read_to_string(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.split('\0').nth(1) == Some("forward"))
    });
    forwarders.for_each(|pid| kill(pid, libc::SIGKILL));
    kill(supervisor, libc::SIGCONT);
    let answers = callers.into_iter().map(answer);
    let n_lost = answers.filter(|answer| !answer.starts_with("release 1 ")).count();
    assert!((1..16).contains(&n_lost), "{n_lost} of 16");
    assert_eq!(release.wait().unwrap().code(), Some(21));
}
