//! What a program may use is what its configuration says, however it is started.

use std::fs;
use std::process::Command;

use crate::world::{BINARY, NOBODY, World, config, free_address, kill};

fn with(world: &World, service: &str, limits: &str) -> String {
    let service = format!("{service}\n[service.web.health]");
    config(world.address, &format!("[service.web.limits]\n{limits}"))
        .replace("[service.web.health]", &service)
}

fn file(pid: i32, name: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap()
}

/// A line of `/proc/PID/status`.
fn line(pid: i32, name: &str) -> String {
    let text = file(pid, "status");
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    line.unwrap().trim().to_owned()
}

fn nice(pid: i32) -> i32 {
    let stat = file(pid, "stat");
    let (_, rest) = stat.rsplit_once(')').unwrap();
    rest.split_whitespace().nth(16).unwrap().parse().unwrap()
}

/// Soft and hard limit of a row of `/proc/PID/limits`.
fn limit(pid: i32, row: &str) -> (String, String) {
    let text = file(pid, "limits");
    let rest = text.lines().find_map(|line| line.strip_prefix(row)).unwrap();
    let mut words = rest.split_whitespace().map(str::to_owned);
    (words.next().unwrap(), words.next().unwrap())
}

fn both(value: &str) -> (String, String) {
    (value.to_owned(), value.to_owned())
}

const SOME: &str = "umask = \"0027\"
nice = 5
ionice = \"idle\"
oom_score_adj = 500
no_new_privs = true
capabilities = [\"NET_BIND_SERVICE\"]
open_files = 300
core_size = \"0B\"
address_space = \"8GiB\"";

#[track_caller]
fn is_limited(world: &World) {
    let pid = world.live_pid();
    assert_ne!(pid, 0, "{} {}", world.status(), world.run_log());
    assert_eq!((line(pid, "Umask").as_str(), nice(pid)), ("0027", 5));
    assert_eq!(file(pid, "oom_score_adj").trim(), "500");
    assert_eq!(limit(pid, "Max open files"), both("300"));
    assert_eq!(limit(pid, "Max core file size"), both("0"));
    assert_eq!(limit(pid, "Max address space"), both("8589934592"));
    assert_eq!(line(pid, "NoNewPrivs"), "1");
    let ionice = Command::new("ionice").args(["-p", &pid.to_string()]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&ionice.stdout).trim(), "idle");
    // Port 80 for a user who is not root, and nothing else.
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(line(pid, set), "0000000000000400", "{set}");
    }
    let groups: Vec<u32> =
        line(pid, "Groups").split_whitespace().map(|gid| gid.parse().unwrap()).collect();
    let group = |name: &str| nix::unistd::Group::from_name(name).unwrap().unwrap().gid.as_raw();
    assert!(groups.contains(&group("daemon")), "{groups:?}");
    let gid = line(pid, "Gid");
    assert_eq!(gid.split_whitespace().next().unwrap(), group("games").to_string());
}

#[test]
fn a_program_has_its_limits_rank_groups_and_capabilities() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let mut world = World::asleep(free_address());
    let user = "user = \"nobody\"\ngroup = \"games\"\ngroups = [\"daemon\"]";
    world.configure(&with(&world, user, SOME));
    world.wake();
    world.release(&[]).expect(0);
    is_limited(&world);
    // One that is started again, by this supervisor or by another.
    let before = world.live_pid();
    kill(before, libc::SIGKILL);
    world.wait("it is started again", |world| {
        world.status()["instances"][0]["pid"].as_i64().is_some_and(|pid| pid != i64::from(before))
    });
    is_limited(&world);
    assert!(world.sleep());
    world.wake();
    world.wait("it serves", |world| world.answering().is_some());
    is_limited(&world);
    // Halley's own are its own.
    let own = world.keeper_pid();
    assert_eq!((nice(own), line(own, "NoNewPrivs").as_str()), (0, "0"));
}

#[test]
fn changed_limits_are_used_at_the_next_start_and_show_until_then() {
    let world = World::new();
    world.release(&[]).expect(0);
    world.reload(&with(&world, "", "open_files = 300\nnice = 3"));
    let status = world.cli(&["status", "--json"]).expect(0).result();
    assert!(status["warnings"].to_string().contains("halley-sup restart web"), "{status}");
    world.cli(&["restart", "web"]).expect(0);
    let pid = world.live_pid();
    assert_eq!((nice(pid), limit(pid, "Max open files")), (3, both("300")));
    let status = world.cli(&["status", "--json"]).expect(0).result();
    assert!(!status["warnings"].to_string().contains("halley-sup restart web"), "{status}");
}

/// The launcher says which step the kernel refused; what serves goes on.
#[test]
fn limits_that_this_user_may_not_have_fail_the_release_by_their_names() {
    let mut world = World::asleep(free_address());
    world.configure(&config(world.address, ""));
    world.wake_under(&NOBODY);
    world.release(&[]).expect(0);
    let live = world.live_pid();
    for (service, limits, why) in [
        ("", "nice = -5", "setting nice"),
        ("", "capabilities = [\"CHOWN\"]", "dropping capabilities"),
        ("", "open_files = 4000000000", "open_files"),
        ("groups = [\"daemon\"]", "", "only root"),
    ] {
        world.reload(&with(&world, service, limits));
        // By whom Halley is run, it is checked.
        let mut check = Command::new("setpriv");
        check.args(["--reuid=65534", "--regid=65534", "--clear-groups", BINARY, "check"]);
        let checked = check.arg("--config").arg(world.path("halley.toml")).output().unwrap();
        let warned = String::from_utf8(checked.stderr).unwrap();
        let key =
            format!("{service}{limits}").split(' ').next().unwrap().replace("groups", "group");
        assert!(checked.status.success(), "{warned}");
        assert!(warned.contains(&format!("{key}: ")) && warned.contains("needs root"), "{warned}");
        let said = world.release(&[]).expect(20);
        assert!(said.stdout.contains(why) || said.stderr.contains(why), "{limits}: {said:?}");
        assert_eq!(world.live_pid(), live);
    }
}

/// A migration and a command of a health check are the service's programs as well.
#[test]
fn commands_of_the_service_have_its_limits() {
    let mut world = World::asleep(free_address());
    let probe = "[service.web.hooks]\nbefore_start = [\"/bin/sh\", \"-c\", \"ulimit -n > $HALLEY_SHARED/n\"]";
    world.configure(&with(&world, "", &format!("open_files = 300\n{probe}")));
    world.wake();
    world.release(&[]).expect(0);
    assert_eq!(fs::read_to_string(world.service_path("shared/n")).unwrap().trim(), "300");
}
