//! Outside reverse proxies as stable entry points: pointed at the new release when it is ready, at
//! the old one again on a rollback. What each proxy's own interface does is shown in `tests/entry`.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use halley_sup::demo::load::{Load, Shape};
use serde_json::Value;

use crate::modes::world_with;
use crate::world::{World, free_address, kill};

/// A proxy that runs as long as this value.
struct Running(Child);

impl Running {
    fn start(program: &str, args: &[&str], world: &World) -> Self {
        let child = Command::new(program)
            .args(args)
            .env("HOME", world.path(""))
            .env("XDG_CONFIG_HOME", world.path("x"))
            .env("XDG_DATA_HOME", world.path("x"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(world.path("proxy.log")).unwrap())
            .spawn()
            .expect("scripts/test-needs.sh installs it");
        Self(child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        kill(i32::try_from(self.0.id()).unwrap(), libc::SIGTERM);
        drop(self.0.wait());
    }
}

/// A service behind a proxy with these lines in its section.
fn behind(proxy: impl Fn(&World) -> String) -> World {
    let lines =
        |world: &World| format!("handoff = \"port\"\n[service.web.proxy]\n{}\n", proxy(world));
    world_with(lines, "", &[("for = \"200ms\"", "for = \"600ms\"")])
}

/// Who answers through the proxy.
fn answering(address: SocketAddr) -> Option<u64> {
    let load = Load::start(address, Shape::Short, 1);
    let asked = load.wait_for(1);
    load.stop().by_release().into_keys().next().filter(|_| asked)
}

/// Releases and a rollback with callers at the proxy; what was lost.
fn replaced(world: &World, address: SocketAddr, shapes: &[Shape]) -> Vec<String> {
    world.release(&[]).expect(0);
    world.wait("the first one answers", |_| answering(address) == Some(1));
    let loads: Vec<_> = shapes.iter().map(|shape| Load::start(address, *shape, 4)).collect();
    for release in 2..=6 {
        world.release(&[]).expect(0);
        world.wait("the next one answers", |_| answering(address) == Some(release));
    }
    assert_eq!(world.cli(&["rollback", "web", "--json"]).expect(0).result()["serving"], 5);
    world.wait("the old one answers", |_| answering(address) == Some(5));
    // A candidate that fails changes nothing at the proxy; one that turns bad is taken back there.
    world.release(&["exit=3"]).expect(20);
    assert_eq!(answering(address), Some(5));
    // The rollback ends it early; a shorter bake may end on a busy machine before it has seen enough.
    let text = fs::read_to_string(world.path("halley.toml")).unwrap();
    world.reload(&text.replace("for = \"600ms\"", "for = \"20s\""));
    world.release(&["bad-after-times=6"]).expect(21);
    world.wait("the old one answers again", |_| answering(address) == Some(5));
    let losses = loads.into_iter().map(Load::stop).filter(|ledger| ledger.n_lost() > 0);
    losses.map(|ledger| ledger.losses()).collect()
}

/// The proxy is gone: a release is refused before anything has changed.
fn refused_without(world: &World, named: &str) {
    let pid = world.live_pid();
    let said = world.release(&[]).expect(10).result();
    let why = said["trouble"]["why"].as_str().unwrap_or_default();
    assert!(why.contains(named), "{why}");
    assert_eq!(said["serving"], 5, "{said}");
    assert_eq!(world.live_pid(), pid, "nobody was stopped");
}

#[test]
fn haproxy() {
    let address = free_address();
    let world = behind(|world| {
        let socket = world.path("h.sock");
        format!(
            "kind = \"haproxy\"\nadmin = \"unix:{}\"\nbackend = \"web\"\nserver = \"app\"",
            socket.display()
        )
    });
    let config = format!(
        "global\n  stats socket {} level admin\ndefaults\n  mode http\n  timeout connect 2s\n  timeout client 20s\n  timeout server 20s\nfrontend f\n  bind {address}\n  default_backend web\nbackend web\n  server app 127.0.0.1:1\n",
        world.path("h.sock").display()
    );
    fs::write(world.path("h.cfg"), config).unwrap();
    let file = world.path("h.cfg").to_string_lossy().into_owned();
    let running = Running::start("haproxy", &["-db", "-f", &file], &world);
    world.wait("haproxy listens", |_| TcpStream::connect(address).is_ok());
    let shapes = [Shape::Short, Shape::KeepAlive, Shape::KeepAliveBlind, Shape::SlowDownload];
    assert_eq!(replaced(&world, address, &shapes), [""; 0]);
    drop(running);
    refused_without(&world, "h.sock");
    // It comes back and has forgotten where it led: it is reminded at the next flip.
    let _running = Running::start("haproxy", &["-db", "-f", &file], &world);
    world.wait("haproxy listens", |_| TcpStream::connect(address).is_ok());
    world.release(&[]).expect(0);
    world.wait("it leads there", |_| answering(address) == Some(9));
}

#[test]
fn nginx() {
    let address = free_address();
    let world = behind(|world| {
        let dir = world.path("");
        let dir = dir.display();
        format!(
            "kind = \"nginx\"\nfile = \"{dir}/web.conf\"\ntest = [\"nginx\", \"-t\", \"-q\", \"-c\", \"{dir}/n.conf\"]\nreload = [\"nginx\", \"-c\", \"{dir}/n.conf\", \"-s\", \"reload\"]"
        )
    });
    let dir = world.path("").display().to_string();
    let temps: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {dir}/{kind}; "))
        .concat();
    let config = format!(
        "daemon off; worker_processes 1; pid {dir}/n.pid; error_log {dir}/n.log;\nevents {{}}\nhttp {{ {temps} access_log off; upstream web {{ include {dir}/web.conf; }} server {{ listen {address}; location / {{ proxy_pass http://web; }} }} }}\n"
    );
    fs::write(world.path("n.conf"), config).unwrap();
    fs::write(world.path("web.conf"), "server 127.0.0.1:1;\n").unwrap();
    let file = world.path("n.conf").to_string_lossy().into_owned();
    let running = Running::start("nginx", &["-c", &file], &world);
    world.wait("nginx listens", |_| TcpStream::connect(address).is_ok());
    let shapes = [Shape::Short, Shape::SlowDownload];
    assert_eq!(replaced(&world, address, &shapes), [""; 0]);
    // A configuration that somebody broke: refused, and the include file is as it was.
    let before = fs::read_to_string(world.path("web.conf")).unwrap();
    let good = fs::read_to_string(world.path("n.conf")).unwrap();
    fs::write(world.path("n.conf"), good.replace("events {}", "evnets {}")).unwrap();
    refused_without(&world, "evnets");
    assert_eq!(fs::read_to_string(world.path("web.conf")).unwrap(), before);
    fs::write(world.path("n.conf"), good).unwrap();
    drop(running);
}

/// Caddy's reload opens a new socket and resets what waits at the old one, unless the kernel moves
/// it (`tests/entry/caddy.rs` shows both): here it is shown that it is led.
#[test]
fn caddy() {
    let (address, admin) = (free_address(), free_address());
    let world = behind(|_| format!("kind = \"caddy\"\nadmin = \"http://{admin}\"\nid = \"web\""));
    let config = serde_json::json!({
        "admin": { "listen": admin.to_string(), "config": { "persist": false } },
        "logging": { "logs": { "default": { "level": "ERROR" } } },
        "apps": { "http": { "servers": { "s": {
            "listen": [address.to_string()], "automatic_https": { "disable": true },
            "routes": [{ "handle": [{ "@id": "web", "handler": "reverse_proxy",
                                      "upstreams": [{ "dial": "127.0.0.1:1" }] }] }]
        } } } }
    });
    fs::write(world.path("c.json"), config.to_string()).unwrap();
    let file = world.path("c.json").to_string_lossy().into_owned();
    let running = Running::start("caddy", &["run", "--config", &file], &world);
    world.wait("caddy listens", |_| TcpStream::connect(address).is_ok());
    replaced(&world, address, &[]);
    drop(running);
    refused_without(&world, &admin.to_string());
}

#[test]
fn any_other_by_command() {
    let world = behind(|world| {
        let dir = world.path("");
        let dir = dir.display();
        format!(
            "kind = \"command\"\nflip = [\"cp\", \"--no-target-directory\", \"/proc/self/environ\", \"{dir}/told\"]\ncheck = [\"test\", \"!\", \"-e\", \"{dir}/broken\"]"
        )
    });
    world.release(&[]).expect(0);
    let told = || {
        let text = fs::read_to_string(world.path("told")).unwrap();
        let told = text.split('\0').find_map(|line| line.strip_prefix("HALLEY_UPSTREAMS="));
        told.unwrap_or_default().parse::<SocketAddr>().unwrap()
    };
    assert_eq!(answering(told()), Some(1));
    world.release(&[]).expect(0);
    assert_eq!(answering(told()), Some(2));
    world.cli(&["rollback", "web"]).expect(0);
    assert_eq!(answering(told()), Some(1));
    fs::write(world.path("broken"), "").unwrap();
    let said = world.release(&[]).expect(10).result();
    assert_eq!(said["serving"], 1, "{said}");
}

/// A world whose proxy's flip is this script.
fn flipped_by(script: impl Fn(&World) -> String) -> World {
    behind(|world| format!("kind = \"command\"\nflip = [\"/bin/sh\", \"-c\", {:?}]", script(world)))
}

/// Whether a `sleep 1000` of the world's runs.
fn is_hanging(world: &World) -> bool {
    let is_sleep = |pid: i32| {
        fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("1000"))
    };
    world.left_behind().into_iter().any(is_sleep)
}

#[test]
fn a_flip_that_hangs_is_killed_with_its_children_at_its_deadline() {
    let world = flipped_by(|world| {
        let hang = world.path("hang").display().to_string();
        format!("if rm {hang}; then sleep 1000 & echo no answer >&2; sleep 1000; fi")
    });
    world.release(&[]).expect(0);
    fs::write(world.path("hang"), "").unwrap();
    let said = world.release(&[]).expect(21).result();
    let why = said["trouble"]["why"].as_str().unwrap_or_default();
    assert!(why.contains("killed: it ran longer than 10s\nno answer"), "{why}");
    assert_eq!((&said["serving"], &said["last_good"]), (&1.into(), &1.into()), "{said}");
    assert!(!is_hanging(&world), "a child of the flip is left");
}

/// The proxy can be led neither to the new release nor back: it leads where it led.
#[test]
fn a_flip_that_fails_in_both_directions_leaves_what_serves_and_says_the_way_out() {
    for way_out in ["wait", "release", "stop"] {
        let world = flipped_by(|world| {
            let path = |name: &str| world.path(name).display().to_string();
            let (broken, told) = (path("broken"), path("told"));
            format!(
                "[ ! -e {broken} ] || exit 4; echo $HALLEY_UPSTREAMS > {told}.new; mv {told}.new {told}"
            )
        });
        world.release(&[]).expect(0);
        let told = || {
            let text = fs::read_to_string(world.path("told")).unwrap();
            text.trim().parse::<SocketAddr>().unwrap()
        };
        let load = Load::start(told(), Shape::Short, 2);
        fs::write(world.path("broken"), "").unwrap();
        let build = || world.build(&[]).to_string_lossy().into_owned();
        world.cli(&["release", "web", &build(), "--detach"]).expect(40);
        let trouble = "release 1 answers, and the proxy cannot be led to it, trying again";
        world.wait("no way back holds", |world| {
            let journal = world.service_path("ops/0000002/journal.ndjson");
            fs::read_to_string(journal).unwrap_or_default().contains(trouble)
        });
        let status = world.status();
        let shown = (&status["state"], &status["serving"], &status["alarm"]["exit"]);
        assert_eq!(shown, (&"degraded".into(), &1.into(), &30.into()), "{status}");
        assert!(status["alarm"]["why"].to_string().contains("exit 4"), "{status}");
        assert_eq!(answering(told()), Some(1));
        let ledger = load.stop();
        assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
        if way_out == "stop" {
            world.cli(&["stop", "web"]).expect(0);
            assert_eq!((world.status()["state"].as_str(), world.live_pid()), (Some("stopped"), 0));
        }
        fs::remove_file(world.path("broken")).unwrap();
        match way_out {
            "release" => drop(world.cli(&["release", "web", &build()]).expect(0)),
            "stop" => {
                world.cli(&["start", "web"]).expect(0);
                world.wait("it serves", |_| answering(told()) == Some(1));
                world.cli(&["release", "web", &build()]).expect(0);
            }
            _ => world.wait("it is led again", |world| world.status()["operation"].is_null()),
        }
        world.wait("all is well", |world| world.status()["state"] == "running");
        let status = world.status();
        assert_eq!(status["alarm"], Value::Null, "{way_out}: {status}");
        let serving = if way_out == "wait" { 1 } else { 3 };
        assert_eq!((&status["serving"], answering(told())), (&serving.into(), Some(serving)));
    }
}

/// The next supervisor flips again, and never while the command of the one before it runs.
#[test]
fn a_supervisor_killed_in_a_flip_leaves_no_command_behind() {
    let world = flipped_by(|world| {
        let path = |name: &str| world.path(name).display().to_string();
        let (pid, notes, hang) = (path("pid"), path("notes"), path("hang"));
        format!(
            "kill -0 $(cat {pid}) && echo two at a time >> {notes}; echo $$ > {pid}; \
             if rm {hang}; then sleep 1000 & echo begun >> {notes}; sleep 1000; fi; \
             echo done >> {notes}; rm {pid}"
        )
    });
    let notes = || fs::read_to_string(world.path("notes")).unwrap_or_default();
    world.release(&[]).expect(0);
    fs::write(world.path("notes"), "").unwrap();
    fs::write(world.path("hang"), "").unwrap();
    let build = world.build(&[]);
    world.cli(&["release", "web", &build.to_string_lossy(), "--detach"]).expect(40);
    world.wait("the flip hangs", |_| notes().contains("begun"));
    world.kill_supervisor();
    world.wait("it is over", |world| world.status()["operation"].is_null());
    assert_eq!(notes(), "begun\ndone\n");
    assert!(!is_hanging(&world), "a child of the flip is left");
}

/// The machine boots, and the proxy comes up later than the service.
#[test]
fn a_proxy_that_comes_up_late_is_led_all_the_same() {
    let (address, admin) = (free_address(), free_address());
    let mut world = behind(|_| {
        format!(
            "kind = \"haproxy\"\nadmin = \"tcp://{admin}\"\nbackend = \"web\"\nserver = \"app\""
        )
    });
    let config = format!(
        "global\n  stats socket ipv4@{admin} level admin\ndefaults\n  mode http\n  timeout connect 2s\n  timeout client 20s\n  timeout server 20s\nfrontend f\n  bind {address}\n  default_backend web\nbackend web\n  server app 127.0.0.1:1\n"
    );
    fs::write(world.path("h.cfg"), config).unwrap();
    let file = world.path("h.cfg").to_string_lossy().into_owned();
    let running = Running::start("haproxy", &["-db", "-f", &file], &world);
    world.wait("haproxy listens", |_| TcpStream::connect(admin).is_ok());
    world.release(&[]).expect(0);
    drop(running);
    world.power_cut();
    world.wake();
    world.wait("it says so", |world| {
        world.status()["why"]
            .as_str()
            .is_some_and(|why| why.contains("does not send connections to the live release"))
    });
    let _running = Running::start("haproxy", &["-db", "-f", &file], &world);
    world.wait("it leads there", |_| answering(address) == Some(1));
    world.wait("all is well", |world| world.status()["state"] == "running");
}
