//! `kill -9` of the keeper: its supervisor becomes the next one, and nobody else notices.

use std::fs;
use std::path::PathBuf;

use halley_sup::demo::load::Shape;
use halley_sup::os::launch;

use crate::crash::killed_in;
use crate::real::write;
use crate::world::{World, config, free_address, is_gone, kill};
use crate::{intercept, kept_lines};

#[test]
fn services_outlive_the_keeper_and_go_on_being_supervised() {
    let world = World::new();
    world.release(&[]).expect(0);
    let load = world.load(Shape::Short);
    let pid = world.live_pid();
    for _ in 0..3 {
        world.kill_keeper();
        assert!(load.wait_for(20));
        assert_eq!(world.live_pid(), pid);
    }
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
    // Nothing can wait for a process that it did not start: how it ended is not known, that it did is.
    kill(pid, libc::SIGKILL);
    assert_eq!(world.answering(), Some(1));
    world.wait("it runs", |world| world.status()["state"] == "running");
    assert_ne!(world.live_pid(), pid);
    let load = world.load(Shape::Short);
    world.release(&[]).expect(0);
    world.cli(&["rollback", "web"]).expect(0);
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
    let logs = world.cli(&["logs", "web"]).stdout;
    assert!(logs.contains("ended: unknown"), "{logs}");
}

/// The phases in which it starts, steers and stops; the crash matrix goes through all of them.
#[test]
fn a_keeper_killed_in_a_release_ends_in_old_or_new() {
    for phase in ["start", "flip", "commit", "back_flip:0"] {
        killed_in(phase, &World::new(), &[], World::kill_keeper);
    }
}

/// Nobody would know it: a launcher that is stopped at its work when the keeper dies goes no further.
#[test]
fn a_program_that_a_killed_keeper_was_starting_never_runs() {
    let world = World::new();
    world.release(&[]).expect(0);
    let (keeper, quiet) = (world.keeper_pid(), std::process::Stdio::null);
    let is_launcher = |pid: &i32| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split('\0').nth(1) == Some(launch::VERB)
    };
    let children = || fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).unwrap();
    // Most are programs already when they are seen.
    let stopped = (0..100).find_map(|_| {
        let mut client = world.command(&["restart", "web"]).stderr(quiet()).spawn().unwrap();
        while client.try_wait().unwrap().is_none() {
            let seen =
                children().split_whitespace().filter_map(|pid| pid.parse().ok()).find(is_launcher);
            let Some(pid) = seen else { continue };
            kill(pid, libc::SIGSTOP);
            if is_launcher(&pid) {
                return Some((pid, client));
            }
            kill(pid, libc::SIGCONT);
        }
        None
    });
    let (launcher, mut client) = stopped.expect("no launcher was seen");
    world.kill_keeper();
    kill(launcher, libc::SIGCONT);
    client.wait().unwrap();
    world.wait("it is gone", |_| is_gone(launcher));
}

#[test]
fn it_loses_tears_and_repeats_no_line() {
    kept_lines::are_all_there(|world, _| world.kill_keeper());
}

/// Releases a program that binds once more when `go` is there, and says in `bound` what came of it.
pub fn released_binder(world: &World) -> (PathBuf, PathBuf) {
    let (go, bound) = (world.path("go"), world.path("bound"));
    let build = world.build_of(&["python3", "app.py"]);
    let app = format!(
        r#"import http.server, os, socket, threading, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"release 1\n")
    def log_message(self, *args): pass
server = http.server.HTTPServer(("127.0.0.1", {port}), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
while not os.path.exists({go:?}): time.sleep(0.001)
other = socket.socket()
try:
    other.bind(("127.0.0.1", {port}))
    said = "bound"
except OSError as error:
    said = str(error)
open({bound:?} + "~", "w").write(said)
os.rename({bound:?} + "~", {bound:?})
threading.Event().wait()
"#,
        port = world.address.port()
    );
    write(&build, "app.py", &app);
    world.release_path(&build).expect(0);
    (go, bound)
}

#[test]
fn a_program_that_binds_meanwhile_waits_for_the_next_keeper() {
    let world = intercept::world("");
    let (go, bound) = released_binder(&world);
    let supervisor = world.supervisor_pid().unwrap();
    kill(world.keeper_pid(), libc::SIGKILL);
    fs::write(&go, "").unwrap();
    world.replaced_keeper(supervisor);
    world.wait("it is answered", |_| bound.exists());
    assert_eq!(fs::read_to_string(&bound).unwrap(), "bound");
}

#[test]
fn a_stop_that_a_keeper_did_not_finish_is_finished_by_the_next() {
    let mut world = World::asleep(free_address());
    world.configure(&config(world.address, "").replace("timeout = \"5s\"", "timeout = \"2s\""));
    world.wake();
    world.release(&["ignore-term"]).expect(0);
    let service = world.live_pid();
    let supervisor = world.supervisor_pid().unwrap();
    kill(world.keeper_pid(), libc::SIGTERM);
    world.wait("it is being stopped", |world| std::net::TcpStream::connect(world.address).is_err());
    kill(world.keeper_pid(), libc::SIGKILL);
    world.wait("all of it is gone", |_| is_gone(service) && is_gone(supervisor));
    world.stand_in_left();
}

/// As a service manager does it, whose main process was killed.
#[test]
fn the_next_run_takes_over_from_a_supervisor_that_stands_in() {
    let mut world = World::new();
    world.release(&[]).expect(0);
    world.release(&[]).expect(0);
    let load = world.load(Shape::Short);
    let pid = world.live_pid();
    // One that was started by somebody hands over to nobody.
    world.cli(&["run"]).expect(9);
    world.kill_keeper();
    world.run_again();
    assert_eq!(world.live_pid(), pid);
    world.cli(&["run"]).expect(9);
    world.cli(&["rollback", "web"]).expect(0);
    world.release(&[]).expect(0);
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
}

/// As at a restart of the unit: everything goes on, and the next one takes it over.
#[test]
fn a_keeper_that_is_told_to_leave_leaves_everything_running() {
    let mut world = World::new();
    world.release(&[]).expect(0);
    let load = world.load(Shape::Short);
    let pid = world.live_pid();
    let supervisor = world.supervisor_pid().unwrap();
    kill(world.keeper_pid(), libc::SIGUSR1);
    world.wait("it has left", |_| is_gone(supervisor));
    world.stand_in_left();
    assert!(load.wait_for(20));
    world.wake();
    assert_eq!(world.live_pid(), pid);
    world.release(&[]).expect(0);
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
}
