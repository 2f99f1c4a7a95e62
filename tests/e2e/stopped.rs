//! What is stopped (`SIGSTOP`) keeps nothing else waiting: a service, a client.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use crate::world::{World, config, free_address, kill};

#[test]
fn a_stopped_service_is_told_of_and_left_by_a_rollback() {
    let mut world = World::asleep(free_address());
    let text = config(world.address, "");
    world.configure(&text.replace("rest_interval = \"off\"", "rest_interval = \"50ms\""));
    world.wake();
    world.release(&[]).expect(0);
    world.release(&[]).expect(0);
    let stopped = world.live_pid();
    kill(stopped, libc::SIGSTOP);
    world.wait("it is told of", |world| world.status()["why"].is_string());
    let status = world.status();
    assert_eq!(status["state"], "degraded", "{status}");
    assert_eq!(world.cli(&["rollback", "web", "--json"]).expect(0).result()["serving"], 1);
    assert_eq!(world.answering(), Some(1));
    // A release that replaces a stopped one is no other than any.
    kill(world.live_pid(), libc::SIGSTOP);
    world.release(&["lines=1"]).expect(0);
    assert_eq!(world.answering(), Some(3));
    kill(stopped, libc::SIGCONT);
    for verb in ["stop", "start"] {
        world.cli(&[verb, "web", "--json"]).expect(0);
    }
}

/// A client that is stopped as soon as it has begun.
fn stopped(world: &World, args: &[&str]) -> Child {
    let client = world.command(args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    kill(i32::try_from(client.id()).unwrap(), libc::SIGSTOP);
    client
}

#[test]
fn a_stopped_client_keeps_no_other_one_waiting() {
    let world = World::new();
    world.release(&[]).expect(0);
    let build = world.build(&[]);
    let path = build.to_string_lossy().into_owned();
    let mut clients = vec![
        stopped(&world, &["release", "web", &path, "--json"]),
        stopped(&world, &["logs", "web", "-f"]),
        stopped(&world, &["status"]),
    ];
    // One that has asked for it, and is stopped while it watches.
    let mut watching = world.command(&["restart", "web", "--json"]);
    let watching = watching.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    world.wait("it is over", |world| {
        world.cli(&["history", "web", "--json"]).stdout.contains("\"restart\"")
    });
    world.wait("nothing is under way", |world| world.status()["operation"].is_null());
    kill(i32::try_from(watching.id()).unwrap(), libc::SIGSTOP);
    clients.push(watching);
    for verb in ["restart", "stop", "start", "backup", "history"] {
        let said = world.cli(&[verb, "web", "--json"]);
        assert!([0, 2].contains(&said.code), "{verb}: {said:?}");
    }
    world.release(&[]).expect(0);
    world.cli(&["rollback", "web", "--json"]).expect(0);
    for client in &mut clients {
        client.kill().unwrap();
        client.wait().unwrap();
    }
}

fn rss_kib(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_stopped_client_of_a_log_takes_no_memory_and_misses_no_line() {
    const N_LINES: u32 = 120_000;
    let world = World::new();
    let go = world.path("go");
    let text = "and some more text, so that there is much of it";
    let script = format!(
        "echo first; while [ ! -e {} ]; do sleep 0.02; done; \
         awk 'BEGIN {{ for (n = 1; n <= {N_LINES}; n++) print \"line\", n, \"{text}\" }}'; \
         exec {} {}",
        go.display(),
        crate::world::BINARY,
        halley_sup::demo::service::VERB
    );
    let build = world.build_of(&["/bin/sh", "-c", &script]);
    let path = build.to_string_lossy().into_owned();
    let mut release = world.command(&["release", "web", &path, "--json"]);
    let mut release = release.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let log = world.service_path("logs/1.log");
    world.wait("it has begun", |_| fs::read_to_string(&log).is_ok_and(|t| t.contains("first")));
    let mut follow = world.command(&["logs", "web", "-f", "--release", "1"]);
    let mut follow = follow.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("first"));
    let pid = i32::try_from(follow.id()).unwrap();
    kill(pid, libc::SIGSTOP);
    let supervisor = world.supervisor_pid().unwrap();
    let before = rss_kib(supervisor);
    fs::write(&go, "").unwrap();
    assert!(release.wait().unwrap().success());
    world.wait("all is in the log", |_| {
        fs::read_to_string(&log).is_ok_and(|text| text.contains(&format!("line {N_LINES} ")))
    });
    kill(pid, libc::SIGCONT);
    let mut next = 1;
    while next <= N_LINES {
        let line = lines.next().unwrap().unwrap();
        if line.contains(text) {
            assert!(
                line.contains(&format!("line {next} ")),
                "line {next} is not there, but: {line}"
            );
            next += 1;
        }
    }
    let grown = rss_kib(supervisor).saturating_sub(before);
    assert!(grown < 24 * 1024, "{grown} KiB more");
    follow.kill().unwrap();
    follow.wait().unwrap();
}
