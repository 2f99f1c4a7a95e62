//! What is changed in the host's configuration is used from the next start on, whatever starts it.

use std::fs;

use crate::world::{BINARY, World, config, free_address};

/// What the live process was started with.
fn variable(world: &World, name: &str) -> Option<String> {
    let env = fs::read(format!("/proc/{}/environ", world.live_pid())).unwrap();
    let env = String::from_utf8_lossy(&env).into_owned();
    let found = env.split('\0').find_map(|pair| pair.strip_prefix(&format!("{name}=")));
    found.map(str::to_owned)
}

#[test]
fn a_changed_secret_is_used_at_the_next_start_and_shows_until_then() {
    let address = free_address();
    let mut world = World::asleep(address);
    let env_file = world.path("web.env");
    let with = |secret: &str| {
        fs::write(&env_file, format!("SECRET={secret}\n")).unwrap();
        // Keys of the service stand before its sections.
        let text = config(address, "");
        let line = format!("env_file = {env_file:?}\n[service.web.health]");
        text.replacen("[service.web.health]", &line, 1)
    };
    world.configure(&with("one"));
    world.wake();
    let build = world.build(&[]);
    let own = format!("command = [{BINARY:?}, \"demo-service\"]\nenv = {{ OWN = \"1\" }}\n");
    fs::write(build.join("release.toml"), own).unwrap();
    world.release_path(&build).expect(0);
    world.release_path(&build).expect(0);
    let secret = |world: &World| variable(world, "SECRET").unwrap_or_default();
    let warns = |world: &World| {
        let status = world.cli(&["status", "--json"]).expect(0).result();
        status["warnings"].to_string().contains("halley-sup restart web")
    };
    assert_eq!((secret(&world).as_str(), warns(&world)), ("one", false));
    world.reload(&with("two"));
    assert_eq!((secret(&world).as_str(), warns(&world)), ("one", true));
    // The next supervisor knows it, too.
    world.kill_supervisor();
    world.wait("another supervisor knows it", |world| {
        world.cli(&["status"]).code == 0 && warns(world)
    });
    world.cli(&["restart", "web"]).expect(0);
    assert_eq!((secret(&world).as_str(), warns(&world)), ("two", false));
    assert_eq!(variable(&world, "OWN").as_deref(), Some("1"));
    world.reload(&with("three"));
    world.cli(&["stop", "web"]).expect(0);
    world.cli(&["start", "web"]).expect(0);
    assert_eq!(secret(&world), "three");
    world.sleep();
    world.configure(&with("four"));
    world.wake();
    world.wait("it serves", |world| world.answering().is_some());
    assert_eq!(secret(&world), "four");
    world.cli(&["rollback", "web"]).expect(0);
    assert_eq!((secret(&world).as_str(), world.answering()), ("four", Some(1)));
    for name in ["HOME", "USER", "LOGNAME", "SHELL", "PATH"] {
        assert!(variable(&world, name).is_some(), "{name}");
    }
}

#[test]
fn a_service_that_is_not_configured_any_more_stays_visible_and_can_be_stopped() {
    let world = World::new();
    world.release(&[]).expect(0);
    world.reload("root = \"root\"\n[service.api]\ncommand = [\"/bin/sleep\", \"1000\"]\n");
    let status = world.status_of("web");
    let why = status["why"].as_str().unwrap_or_default();
    assert_eq!((&status["state"], &status["serving"]), (&"running".into(), &1.into()));
    assert!(why.contains("not configured any more; halley-sup stop web"), "{status}");
    // The next supervisor has read a configuration without it.
    let before = world.supervisor_pid();
    world.kill_supervisor();
    world.wait("another supervisor answers", |world| {
        world.supervisor_pid().is_some_and(|pid| Some(pid) != before)
            && world.cli(&["status"]).code == 0
    });
    let status = world.status_of("web");
    assert!(
        status["why"].as_str().unwrap_or_default().contains("not configured any more"),
        "{status}"
    );
    assert_eq!(world.answering(), Some(1));
    assert!(!world.cli(&["logs", "web"]).expect(0).stdout.is_empty());
    world.cli(&["stop", "web"]).expect(0);
    assert_eq!(world.answering(), None);
    // Nothing of it is left but its files: the next command is about a service that there is not.
    let said = world.cli(&["status", "web"]).expect(2);
    assert!(said.stderr.contains("the configuration has: api"), "{}", said.stderr);
    assert!(world.service_path("releases/1").is_dir());
}

/// One that never ran is gone with the reload, and comes back with the next.
#[test]
fn a_service_without_processes_is_gone_when_it_is_not_configured_any_more() {
    let world = World::new();
    let text = config(world.address, "");
    world.reload(&format!("{text}[service.typo]\ncommand = [\"/bin/true\"]\n"));
    assert_eq!(world.status_of("typo")["state"], "down");
    world.reload(&text);
    world.cli(&["status", "typo"]).expect(2);
    world.release(&[]).expect(0);
    world.cli(&["stop", "web"]).expect(0);
    world.reload("root = \"root\"\n[service.api]\ncommand = [\"/bin/sleep\", \"1000\"]\n");
    world.cli(&["status", "web"]).expect(2);
    world.reload(&text);
    assert_eq!(world.status_of("web")["state"], "stopped");
    world.cli(&["start", "web"]).expect(0);
    assert_eq!(world.answering(), Some(1));
}

/// Whoever looked after it has let it go too.
#[test]
fn services_that_come_and_go_leave_no_sockets() {
    let world = World::new();
    world.release(&[]).expect(0);
    let text = config(world.address, "");
    let open = |world: &World| {
        [world.keeper_pid(), world.supervisor_pid().unwrap()].map(|pid| {
            let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
            let what = open.filter_map(|one| fs::read_link(one.unwrap().path()).ok());
            what.filter(|what| what.to_string_lossy().starts_with("socket:")).count()
        })
    };
    let before = open(&world);
    for name in ["one", "two", "three", "four", "five"] {
        world.reload(&format!("{text}[service.{name}]\ncommand = [\"/bin/true\"]\n"));
        world.reload(&text);
        world.cli(&["status", name]).expect(2);
    }
    // Those of a release that has just ended may have been open before.
    let is_no_more = |world: &World| open(world).iter().zip(&before).all(|(now, then)| now <= then);
    world.wait("all are closed", is_no_more);
}

/// A release may say how often it is looked at.
#[test]
fn the_time_between_looks_is_that_of_the_release_that_serves() {
    let world = World::new();
    let build = world.build(&["bad-after-times=60"]);
    let own = "[health]\nhttp = \"/healthz\"\nrest_interval = \"20ms\"\nfall = 2\n";
    let mut text = fs::read_to_string(build.join("release.toml")).unwrap();
    text.push_str(own);
    fs::write(build.join("release.toml"), text).unwrap();
    world.release_path(&build).expect(0);
    world.wait("it is seen", |world| world.status()["state"] == "degraded");
}

#[test]
fn a_program_has_a_home_and_a_path_when_halley_has_none() {
    let mut world = World::asleep(free_address());
    world.configure(&config(world.address, ""));
    let without = ["PATH", "HOME", "USER", "LOGNAME", "SHELL"].map(|name| ["-u", name]).concat();
    world.wake_under(&[&["env"], &without[..]].concat());
    world.release(&[]).expect(0);
    for (name, start) in [("PATH", "/usr/local/sbin:"), ("HOME", "/"), ("SHELL", "/")] {
        let value = variable(&world, name).unwrap_or_default();
        assert!(value.starts_with(start), "{name}={value}");
    }
    let user = variable(&world, "USER");
    assert!(user.is_some() && user == variable(&world, "LOGNAME"), "{user:?}");
    // A command without a path is found by it.
    world.release_path(&world.build_of(&["env", BINARY, "demo-service"])).expect(0);
}

/// Side by side two users cannot both have `shared/`: `restart` keeps the one that serves.
#[test]
fn a_changed_user_is_used_after_a_stop_and_a_start_as_status_says() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let mut world = World::asleep(free_address());
    let with = |user: &str| {
        let user = format!("user = \"{user}\"\n[service.web.health]");
        config(world.address, "").replacen("[service.web.health]", &user, 1)
    };
    let (nobody, daemon) = (with("nobody"), with("daemon"));
    world.configure(&nobody);
    world.wake();
    world.release(&[]).expect(0);
    world.reload(&daemon);
    let warnings =
        |world: &World| world.cli(&["status", "--json"]).expect(0).result()["warnings"].to_string();
    let next = "halley-sup stop web, then halley-sup start web";
    assert!(warnings(&world).contains(next), "{}", warnings(&world));
    world.cli(&["restart", "web"]).expect(0);
    assert!(warnings(&world).contains(next), "{}", warnings(&world));
    world.cli(&["stop", "web"]).expect(0);
    world.cli(&["start", "web"]).expect(0);
    assert_eq!(warnings(&world), "null");
    let status = fs::read_to_string(format!("/proc/{}/status", world.live_pid())).unwrap();
    let uid = nix::unistd::User::from_name("daemon").unwrap().unwrap().uid;
    assert!(status.contains(&format!("Uid:\t{uid}\t")), "{status}");
}
