//! Halley is replaced by another program under load: services keep their processes, nothing is lost, and
//! a program that is none does no harm.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use halley_sup::demo::ledger::Ledger;
use halley_sup::demo::load::Shape;

use crate::world::{BINARY, Said, World, config, free_address, is_gone, kill};

/// Another program that does the same.
pub fn copy(world: &World) -> PathBuf {
    let copy = world.path("halley-sup-2");
    fs::copy(BINARY, &copy).unwrap();
    copy
}

fn upgrade(world: &World, program: &Path, more: &[&str]) -> Said {
    let program = program.to_string_lossy();
    world.cli(&[&["upgrade", program.as_ref(), "--json"], more].concat())
}

/// What a process is.
fn program_of(pid: i32) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/exe")).unwrap()
}

/// Upgrades under load, after each a release, a rollback or a restart; what all clients have seen.
pub fn under_load(world: &World, n_upgrades: usize) -> Ledger {
    world.release(&[]).expect(0);
    world.release(&[]).expect(0);
    let programs = [copy(world), PathBuf::from(BINARY)];
    let loads = [Shape::Short, Shape::KeepAlive, Shape::LongTalk].map(|shape| world.load(shape));
    let keeper = world.keeper_pid();
    for (n, program) in programs.iter().cycle().take(n_upgrades).enumerate() {
        let (pid, supervisor) = (world.live_pid(), world.supervisor_pid());
        let said = upgrade(world, program, &[]).expect(0).result();
        assert_eq!(said["outcome"], "upgraded", "{said}");
        // Both are the same to the byte.
        assert!(said["warnings"].as_array().is_some_and(Vec::is_empty), "{said}");
        assert_eq!((program_of(keeper), world.live_pid()), (program.clone(), pid));
        assert_ne!(world.supervisor_pid(), supervisor);
        assert_eq!(program_of(world.supervisor_pid().unwrap()), *program);
        match n % 3 {
            0 => world.release(&[]),
            1 => world.cli(&["rollback", "web"]),
            _ => world.cli(&["restart", "web"]),
        }
        .expect(0);
    }
    let mut all = Ledger::default();
    for load in loads {
        assert!(load.wait_for(20));
        all.merge(load.stop());
    }
    all
}

#[test]
fn upgrades_under_load_with_releases_in_between_lose_nothing() {
    let world = World::new();
    let ledger = under_load(&world, 4);
    assert_eq!(ledger.n_lost(), 0, "{}\n{}", ledger.losses(), world.run_log());
    // By default it is the one that is called.
    assert!(world.cli(&["upgrade"]).expect(0).stdout.contains("upgraded"));
    let other = world.path("other");
    fs::write(&other, fs::read(BINARY).unwrap().into_iter().chain([0]).collect::<Vec<_>>())
        .unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o755)).unwrap();
    let said = upgrade(&world, &other, &[]).expect(0).result();
    assert!(said["warnings"][0].as_str().is_some_and(|it| it.contains("install")), "{said}");
}

/// What is refused changes nothing: the supervisor is the same process as before.
#[test]
fn what_is_no_halley_sup_is_refused_before_anything_changes() {
    let world = World::new();
    world.release(&[]).expect(0);
    let load = world.load(Shape::Short);
    let supervisor = world.supervisor_pid();
    let script = |name: &str, text: &str, mode: u32| {
        let path = world.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    for (program, why) in [
        (PathBuf::from("/bin/true"), "no halley-sup"),
        (PathBuf::from("/bin/cat"), "no halley-sup"),
        (script("plain", "text", 0o644), "must not be executed"),
        (script("none", "no program", 0o755), "not a program for this machine"),
        (script("hangs", "#!/bin/sh\nexec sleep 1000\n", 0o755), "longer than 10s"),
        (
            script(
                "old",
                "#!/bin/sh\necho '{\"halley_sup\":\"0.0.9\",\"revision\":5,\"problems\":[]}'\n",
                0o755,
            ),
            "too old",
        ),
        (
            script(
                "bad",
                "#!/bin/sh\necho '{\"halley_sup\":\"9\",\"revision\":9,\"problems\":[\"a state of mine\"]}'\n",
                0o755,
            ),
            "a state of mine",
        ),
    ] {
        let said = upgrade(&world, &program, &[]).expect(10);
        assert!(said.why().contains(why), "{why}: {}", said.stdout);
    }
    upgrade(&world, &world.path("is-not-there"), &[]).expect(2);
    // A configuration that it could not start with.
    let good = fs::read_to_string(world.path("halley.toml")).unwrap();
    world.configure(&format!("{good}\n[service.web.typo]\n"));
    upgrade(&world, &copy(&world), &[]).expect(10);
    world.configure(&good);
    assert_eq!(world.supervisor_pid(), supervisor);
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
}

/// A halley-sup that passes for a good one when it is asked, and fails as its name says.
fn failing(world: &World, how: &str) -> PathBuf {
    let source = world.path("failing.rs");
    let text = r#"use std::{env, ffi::OsString, process::ExitCode};
fn main() -> ExitCode {
    let args: Vec<OsString> = env::args_os().skip(1).collect();
    let name = env::current_exe().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
    let verb = args[0].to_str().unwrap();
    let is_asked = args.get(1).is_some_and(|arg| arg == "--fit");
    match (verb, name.as_str()) {
        ("keep-on", "keeper-ends") => ExitCode::from(3),
        ("supervisor", "supervisor-ends") if !is_asked => ExitCode::from(3),
        ("keep-on", "keeper-hangs") => loop { std::thread::park() },
        ("keep-on", "keeper-is-asked") => {
            // Before it listens to signals.
            let pid = std::process::id().to_string();
            std::process::Command::new("kill").args(["-HUP", &pid]).status().unwrap();
            halley_sup::keeper::main(&args[1..])
        }
        ("supervisor", "supervisor-hangs") if !is_asked => loop { std::thread::park() },
        ("keep-on", _) => halley_sup::keeper::main(&args[1..]),
        ("supervisor", _) => halley_sup::supervisor::main(&args[1..]),
        _ => halley_sup::cli::main(),
    }
}
"#;
    fs::write(&source, text).unwrap();
    let built = Path::new(BINARY).parent().unwrap().join("deps");
    let libraries =
        fs::read_dir(&built).unwrap().map(|entry| entry.unwrap().path()).filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            name.starts_with("libhalley_sup-") && name.ends_with(".rlib")
        });
    let newest = libraries.max_by_key(|path| fs::metadata(path).unwrap().modified().unwrap());
    let program = world.path(how);
    let output = Command::new("rustc")
        .args(["--edition", "2024", "-C", "debuginfo=0", "-L"])
        .arg(format!("dependency={}", built.display()))
        .arg("--extern")
        .arg(format!("halley_sup={}", newest.unwrap().display()))
        .arg("-o")
        .arg(&program)
        .arg(&source)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    program
}

#[test]
fn the_program_before_comes_back_when_the_new_one_does_not_get_ready() {
    let world = World::new();
    world.release(&[]).expect(0);
    world.release(&[]).expect(0);
    let keeper = world.keeper_pid();
    let load = world.load(Shape::Short);
    let ends = failing(&world, "supervisor-ends");
    let hangs = world.path("supervisor-hangs");
    fs::copy(&ends, &hangs).unwrap();
    for program in [ends, hangs] {
        let pid = world.live_pid();
        let said = upgrade(&world, &program, &["--deadline", "2s"]).expect(21);
        assert!(said.why().contains("did not get ready"), "{}", said.stdout);
        assert_eq!((program_of(keeper), world.live_pid()), (PathBuf::from(BINARY), pid));
        assert!(load.wait_for(20));
        world.release(&[]).expect(0);
    }
    upgrade(&world, &copy(&world), &[]).expect(0);
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}\n{}", ledger.losses(), world.run_log());
}

/// The supervisor of the program before takes its place.
#[test]
fn a_program_that_fails_as_keeper_is_replaced_by_the_supervisor_before() {
    let world = World::new();
    world.release(&[]).expect(0);
    let ends = failing(&world, "keeper-ends");
    let hangs = world.path("keeper-hangs");
    fs::copy(&ends, &hangs).unwrap();
    let pid = world.live_pid();
    let load = world.load(Shape::Short);
    for program in [ends, hangs] {
        let supervisor = world.supervisor_pid().unwrap();
        upgrade(&world, &program, &[]).expect(21);
        world.replaced_keeper(supervisor);
        assert_eq!((program_of(supervisor), world.live_pid()), (PathBuf::from(BINARY), pid));
    }
    world.release(&[]).expect(0);
    upgrade(&world, &copy(&world), &[]).expect(0);
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}\n{}", ledger.losses(), world.run_log());
}

#[test]
fn an_operation_is_not_interrupted_by_an_upgrade() {
    let mut world = World::asleep(free_address());
    world.configure(&config(world.address, "").replace("for = \"200ms\"", "for = \"60s\""));
    world.wake();
    let build = world.build(&[]);
    world.cli(&["release", "web", &build.to_string_lossy(), "--detach"]).expect(40);
    world.wait("it bakes", |world| world.status()["operation"]["phase"] == "bake");
    let said = world.cli(&["upgrade"]).expect(9);
    assert!(said.stderr.contains("halley-sup watch web 1"), "{}", said.stderr);
    world.cli(&["promote", "web"]).expect(0);
    world.wait("it is over", |world| world.status()["operation"].is_null());
    world.cli(&["upgrade"]).expect(0);
}

/// Between two programs there is nobody who could listen.
#[test]
fn a_signal_that_comes_before_the_new_program_listens_is_heard_by_it() {
    let world = World::new();
    world.release(&[]).expect(0);
    let keeper = world.keeper_pid();
    let program = failing(&world, "keeper-is-asked");
    let load = world.load(Shape::Short);
    upgrade(&world, &program, &[]).expect(0);
    assert_eq!(program_of(keeper), program, "{}", world.run_log());
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
}

/// Whatever comes at the very moment: an end of a child, an order to stop.
#[test]
fn what_happens_meanwhile_is_not_missed() {
    let mut world = World::new();
    world.release(&[]).expect(0);
    let begin = |world: &World| world.command(&["upgrade"]).stderr(Stdio::null()).spawn().unwrap();
    for _ in 0..3 {
        let (mut client, supervisor) = (begin(&world), world.supervisor_pid().unwrap());
        world.wait("the keeper is the new program", |_| is_gone(supervisor));
        kill(world.live_pid(), libc::SIGKILL);
        assert_eq!(world.answering(), Some(1));
        assert!(client.wait().unwrap().success());
    }
    let (mut client, supervisor) = (begin(&world), world.supervisor_pid().unwrap());
    world.wait("the keeper is the new program", |_| is_gone(supervisor));
    assert!(world.sleep(), "{}", world.run_log());
    client.wait().unwrap();
}
