//! A boot: what callers see before the first program runs, and what cannot be started.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use crate::world::{World, config, free_address};

/// `web`, which is after `base`; that one answers when there is a file `go`.
fn chain(address: SocketAddr, here: &str, more: &str) -> String {
    let web =
        config(address, more).replacen("[service.web]\n", "[service.web]\nafter = [\"base\"]\n", 1);
    format!(
        "{web}[service.base]\ncommand = [\"sleep\", \"100000\"]\n[service.base.health]\n\
         exec = [\"/bin/sh\", \"-c\", \"echo >> {here}/asked; test -e {here}/go\"]\n\
         interval = \"30ms\"\nrise = 1\nmin_healthy = \"0s\"\ndeadline = \"600s\"\n\
         [service.base.bake]\nfor = \"0s\"\n[service.base.stop]\ntimeout = \"100s\"\n"
    )
}

/// A stack where `base` was released.
fn based(more: &str) -> World {
    let mut world = World::asleep(free_address());
    let here = world.path("").display().to_string();
    world.configure(&chain(world.address, &here, more));
    fs::write(world.path("go"), "").unwrap();
    world.wake();
    let build = world.build_of(&["sleep", "100000"]);
    world.cli(&["release", "base", &build.to_string_lossy()]).expect(0);
    world
}

/// It was asked several times and has not answered.
fn base_is_waited_for(world: &World) {
    fs::write(world.path("asked"), "").unwrap();
    world.wait("base is asked", |world| {
        fs::read_to_string(world.path("asked")).unwrap().lines().count() > 3
    });
}

#[test]
fn connections_wait_from_the_beginning_on_behind_a_service_that_is_not_up_yet() {
    let mut world = based("");
    world.release(&[]).expect(0);
    assert!(world.sleep());
    fs::remove_file(world.path("go")).unwrap();
    world.wake();
    base_is_waited_for(&world);
    assert_eq!(world.status_of("web")["instances"].as_array().unwrap().len(), 0);
    let mut caller = TcpStream::connect(world.address).expect("refused");
    caller.write_all(b"GET /version HTTP/1.0\r\n\r\n").unwrap();
    fs::write(world.path("go"), "").unwrap();
    caller.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut first = String::new();
    BufReader::new(caller).read_line(&mut first).unwrap();
    assert!(first.starts_with("HTTP/1.") && first.contains(" 200 "), "{first}");
}

#[test]
fn an_operation_that_goes_on_waits_for_the_services_before_its_own() {
    let mut world = based("");
    world.release(&[]).expect(0);
    let text = fs::read_to_string(world.path("halley.toml")).unwrap();
    world.configure(&text.replace("for = \"200ms\"", "for = \"600s\""));
    world.cli(&["reload"]).expect(0);
    let build = world.build(&[]).to_string_lossy().into_owned();
    world.cli(&["release", "web", &build, "--detach"]).expect(40);
    world.wait("it bakes", |world| world.status_of("web")["operation"]["phase"] == "bake");
    world.power_cut();
    fs::remove_file(world.path("go")).unwrap();
    world.wake();
    base_is_waited_for(&world);
    let web = world.status_of("web");
    assert_eq!(web["instances"].as_array().unwrap().len(), 0, "{web}");
    assert!(!web["operation"].is_null(), "{web}");
    fs::write(world.path("go"), "").unwrap();
    world.wait("web serves", |world| world.answering().is_some());
    world.cli(&["abort", "web"]);
}

#[test]
fn a_last_good_release_that_cannot_be_started_gives_way_to_the_one_before() {
    let mut world = World::new();
    for _ in 0..2 {
        world.release(&[]).expect(0);
    }
    assert!(world.sleep());
    fs::rename(world.service_path("releases/2"), world.path("lost")).unwrap();
    world.wake();
    world.wait("the one before serves", |world| world.answering() == Some(1));
    world.wait("it is committed", |world| world.status()["last_good"] == 1);
    let history = world.cli(&["history", "web"]).expect(0).stdout;
    assert!(history.contains("cannot be started"), "{history}");
    assert!(world.run_log().contains("starting the last good release"), "{}", world.run_log());
    // Nothing is left to fall back to.
    assert!(world.sleep());
    fs::rename(world.service_path("releases/1"), world.path("lost1")).unwrap();
    world.wake();
    world.wait("it is said", |world| world.status()["state"] == "down");
    fs::rename(world.path("lost1"), world.service_path("releases/1")).unwrap();
    world.wait("it serves again", |world| world.answering() == Some(1));
}

/// A network of its own, where only the loopback is up.
fn alone(with: &str) -> [String; 5] {
    let script = format!("ip link set lo up; {with} exec \"$@\"");
    ["unshare", "--net", "sh", "-ec", &script].map(str::to_owned)
}

#[test]
fn an_address_that_an_interface_gets_later_is_waited_for() {
    let mut world = World::asleep("192.0.2.7:8080".parse().unwrap());
    world.configure(&config(world.address, ""));
    let wake = |world: &mut World, with: &str| {
        let words = alone(with);
        let words: Vec<&str> = words.iter().map(String::as_str).chain(["sh"]).collect();
        world.wake_under(&words);
    };
    wake(&mut world, "");
    // A first release that names an address of nobody's is a mistake.
    let why = world.release(&[]).expect(10).why();
    assert!(why.contains("192.0.2.7:8080 is not an address of this machine"), "{why}");
    assert!(world.sleep());
    wake(&mut world, "ip addr add 192.0.2.7/32 dev lo;");
    world.release(&[]).expect(0);
    assert!(world.sleep());
    wake(&mut world, "");
    world.wait("it is tried", |world| world.run_log().contains("not an address of this machine"));
    let pid = world.supervisor_pid().unwrap().to_string();
    let inside = |script: &str| {
        let words = ["--net", "--target", &pid, "bash", "-c", script];
        let output = Command::new("nsenter").args(words).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    // It was released before, so nothing is wrong with it: another one would not get the address either.
    world.release(&[]).expect(10);
    inside("ip addr add 192.0.2.7/32 dev lo");
    world.wait("it runs", |world| world.live_pid() != 0);
    let answer = inside(
        "exec 3<>/dev/tcp/192.0.2.7/8080; printf 'GET /version HTTP/1.0\\r\\n\\r\\n' >&3; head -n 1 <&3",
    );
    assert!(answer.contains(" 200 "), "{answer}");
    world.wait("it is well", |world| world.status()["state"] == "running");
}

#[test]
fn systemd_is_told_how_the_stack_is_and_how_long_its_stop_takes() {
    let mut world = World::asleep(free_address());
    let here = world.path("").display().to_string();
    let text = chain(world.address, &here, "").replace("timeout = \"5s\"", "timeout = \"70s\"");
    world.configure(&text);
    let path = world.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let told = |wanted: &str| loop {
        let mut buffer = [0; 4096];
        let n = manager.recv(&mut buffer).unwrap_or_else(|_| panic!("never: {wanted}"));
        let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
        if let Some(line) = text.lines().find(|line| line.starts_with(wanted)) {
            return line.to_owned();
        }
    };
    fs::write(world.path("go"), "").unwrap();
    let variable = format!("NOTIFY_SOCKET={}", path.display());
    world.wake_under(&["env", &variable]);
    told("READY=1");
    assert_eq!(told("STATUS="), "STATUS=2 services");
    let build = world.build_of(&["sleep", "100000"]);
    world.cli(&["release", "base", &build.to_string_lossy()]).expect(0);
    world.release(&[]).expect(0);
    world.configure(&format!("{text}[service.web.bad]\nx = 1\n"));
    world.cli(&["reload"]).expect(2);
    let status = told("STATUS=");
    assert!(status.contains("the last good one stays in use"), "{status}");
    assert!(world.sleep());
    told("STOPPING=1");
    let line = told("EXTEND_TIMEOUT_USEC=");
    let us: u64 = line.split_once('=').unwrap().1.parse().unwrap();
    // 100 s and 70 s, one after the other, twice where a wrapper leaves something.
    assert!((340_000_000..500_000_000).contains(&us), "{us}");
}

#[test]
fn a_supervisor_knows_what_serves_also_when_that_could_not_be_written_down() {
    let mut world = World::new();
    world.release(&[]).expect(0);
    let state = world.service_path("state.json");
    let before = fs::read(&state).unwrap();
    assert!(world.sleep());
    world.wake();
    world.wait("it serves", |world| world.status()["state"] == "running");
    let pid = world.live_pid();
    world.wait("that is written down", |_| fs::read(&state).unwrap() != before);
    // What a full disk leaves.
    fs::write(&state, &before).unwrap();
    let supervisor = world.supervisor_pid();
    world.kill_supervisor();
    world.wait("another supervisor answers", |world| {
        world.supervisor_pid().is_some_and(|pid| Some(pid) != supervisor)
            && world.cli(&["status"]).code == 0
    });
    world.wait("it serves", |world| world.status()["state"] == "running");
    assert_eq!(world.live_pid(), pid);
    assert_eq!(world.status()["instances"].as_array().unwrap().len(), 1);
    world.release(&[]).expect(0);
}
