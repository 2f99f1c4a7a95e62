//! A configuration that was spoilt while the stack runs takes nothing away.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::world::{World, config, free_address, kill};

#[test]
fn a_supervisor_comes_up_with_the_last_good_configuration_and_takes_the_mended_one_at_reload() {
    let world = World::new();
    let good = config(world.address, "[service.web.env]\nMENDED = \"1\"");
    world.release(&[]).expect(0);
    world.configure(&config(world.address, "[service.web.helth]\nhttp = \"/\"\n"));
    let before = world.supervisor_pid();
    world.kill_supervisor();
    world.wait("another supervisor answers", |world| {
        world.supervisor_pid().is_some_and(|pid| Some(pid) != before)
            && world.cli(&["status"]).code == 0
    });
    let warnings =
        |world: &World| world.cli(&["status", "--json"]).expect(0).result()["warnings"].to_string();
    assert!(warnings(&world).contains("helth"), "{}", warnings(&world));
    assert!(world.run_log().contains("the configuration cannot be used"), "{}", world.run_log());
    world.cli(&["check"]).expect(2);
    // It does all that it is there for.
    let pid = world.live_pid();
    kill(pid, libc::SIGKILL);
    assert_eq!(world.answering(), Some(1));
    world.wait("it was started again", |world| ![0, pid].contains(&world.live_pid()));
    world.release(&[]).expect(0);
    world.cli(&["rollback", "web"]).expect(0);
    world.reload(&good);
    let warnings = warnings(&world);
    assert!(
        !warnings.contains("helth") && warnings.contains("halley-sup restart web"),
        "{warnings}"
    );
}

/// Spoils the configuration in this file so.
type Spoil = fn(&Path);

#[test]
fn whatever_is_wrong_with_the_files_what_runs_can_be_asked_stopped_and_rolled_back() {
    let world = World::new();
    for _ in 0..2 {
        world.release(&[]).expect(0);
    }
    let main = world.path("halley.toml");
    let good = fs::read_to_string(&main).unwrap();
    let spoils: [(&str, Spoil); 8] = [
        ("a broken line", |file| append(file, b"[service.web\n")),
        ("an unknown key", |file| append(file, b"[service.api]\nlisen = 1\n")),
        ("no text", |file| append(file, b"# caf\xe9\n")),
        ("nonsense", |file| fs::write(file, "]]] = [[[\n\"\"\"").unwrap()),
        ("nothing", |file| fs::write(file, "").unwrap()),
        ("no file", |file| fs::remove_file(file).unwrap()),
        ("another root", |file| fs::write(file, "root = \"elsewhere\"\n").unwrap()),
        ("another file", |file| {
            let folder = file.with_file_name("services.d");
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("api.toml"), "[service.api\nlisten = \n").unwrap();
        }),
    ];
    for (what, spoil) in spoils {
        spoil(&main);
        for verb in ["status", "history", "releases", "logs", "stop", "start", "rollback"] {
            let said = world.cli(&if verb == "rollback" {
                vec![verb, "web", "--to", if world.answering() == Some(2) { "1" } else { "2" }]
            } else {
                vec![verb, "web"]
            });
            assert_eq!(said.code, 0, "{what}: {verb}: {}", said.stderr);
            if verb == "start" {
                world.wait("it serves", |world| world.answering().is_some());
            }
        }
        fs::write(&main, &good).unwrap();
    }
}

fn append(file: &Path, bytes: &[u8]) {
    let text = [fs::read(file).unwrap(), bytes.to_vec()].concat();
    fs::write(file, text).unwrap();
}

#[test]
fn an_env_file_that_is_gone_is_a_matter_of_its_service_alone() {
    let (address, other) = (free_address(), free_address());
    let mut world = World::asleep(address);
    let env_file = world.path("api.env");
    fs::write(&env_file, "SECRET=one\n").unwrap();
    let api = format!(
        "[service.api]\nlisten = [\"tcp://{other}\"]\nenv_file = \"api.env\"\n\
         health = {{ http = \"/healthz\", interval = \"30ms\", rise = 1, min_healthy = \"0s\" }}\n\
         bake = {{ for = \"100ms\" }}\nstop = {{ linger = \"0s\", drain = \"0s\" }}\n"
    );
    let good = config(address, &api);
    world.configure(&good);
    world.wake();
    let build = world.build(&[]);
    let api_release =
        |world: &World| world.cli(&["release", "api", &build.to_string_lossy(), "--json"]);
    world.release(&[]).expect(0);
    api_release(&world).expect(0);
    fs::remove_file(&env_file).unwrap();
    let said = world.cli(&["check"]).expect(2);
    assert!(said.stderr.contains("service.api.env_file"), "{}", said.stderr);
    // The other one is reloaded, too.
    world.reload(
        &good.replace("[service.web.health]", "env = { NEW = \"1\" }\n[service.web.health]"),
    );
    world.cli(&["restart", "web"]).expect(0);
    let has = |world: &World, service: &str, wanted: &str| {
        let status = world.status_of(service);
        let live = status["instances"].as_array().unwrap().iter().find(|it| it["role"] == "live");
        let pid = live.and_then(|it| it["pid"].as_i64()).unwrap_or(0);
        let env = fs::read_to_string(format!("/proc/{pid}/environ")).unwrap_or_default();
        env.split('\0').any(|pair| pair == wanted)
    };
    assert!(has(&world, "web", "NEW=1"));
    let secret = |world: &World| has(world, "api", "SECRET=one");
    // Nor does it stand in the way of a boot, and the service has what it had.
    world.power_cut();
    world.wake();
    world.wait("both serve", |world| {
        world.answering().is_some() && World::answering_at(other).is_some()
    });
    assert!(secret(&world));
    world.cli(&["restart", "api"]).expect(0);
    assert!(secret(&world));
    let warnings = world.cli(&["status", "--json"]).expect(0).result()["warnings"].to_string();
    assert!(warnings.contains("api keeps the environment that it had"), "{warnings}");
    assert!(!warnings.contains("halley-sup restart api"), "{warnings}");
    world.release(&[]).expect(0);
    let why = api_release(&world).expect(10).why();
    assert!(why.contains("its env_file cannot be used") && why.contains("api.env"), "{why}");
    fs::write(&env_file, "SECRET=two\n").unwrap();
    world.reload(&good);
    api_release(&world).expect(0);
    assert!(!secret(&world));
}

#[test]
fn a_boot_with_a_broken_line_runs_on_with_the_last_good_configuration() {
    let mut world = World::new();
    world.release(&[]).expect(0);
    let main = world.path("halley.toml");
    let good = fs::read_to_string(&main).unwrap();
    let spoils: [(&str, Spoil); 5] = [
        ("a broken line", |file| append(file, b"[service.web\n")),
        ("a broken line before the root", |file| {
            let text = fs::read_to_string(file).unwrap();
            fs::write(file, format!("]]] = [[[\n{text}")).unwrap();
        }),
        ("an unknown key", |file| append(file, b"[service.api]\nlisen = 1\n")),
        ("no text", |file| append(file, b"# caf\xe9\n")),
        ("another file", |file| {
            let folder = file.with_file_name("services.d");
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("api.toml"), "[service.api\nlisten = \n").unwrap();
        }),
    ];
    for (n, (what, spoil)) in spoils.into_iter().enumerate() {
        match n % 2 {
            0 => world.power_cut(),
            _ => assert!(world.sleep()),
        }
        spoil(&main);
        world.wake();
        world.wait(what, |world| world.answering() == Some(1));
        let status = world.cli(&["status", "--json"]).expect(0).result();
        let warnings = status["warnings"].to_string();
        assert!(warnings.contains("the last good one stays in use"), "{what}: {warnings}");
        assert!(warnings.contains(".toml"), "{what}: {warnings}");
        assert!(world.cli(&["doctor"]).stdout.contains("next: halley-sup check"), "{what}");
        let said = world.cli(&["reload"]).expect(2);
        assert!(said.stderr.contains(".toml") && said.stderr.contains("still:"), "{}", said.stderr);
        // It crashes, and is started again, with its supervisor away as well.
        world.kill_supervisor();
        let pid = world.live_pid();
        kill(pid, libc::SIGKILL);
        world.wait("it was started again", |world| ![0, pid].contains(&world.live_pid()));
        fs::write(&main, &good).unwrap();
        drop(fs::remove_dir_all(world.path("services.d")));
        let said = world.cli(&["reload"]).expect(0);
        assert!(said.stderr.contains("the files say what is in use"), "{}", said.stderr);
        let warnings = world.cli(&["status", "--json"]).expect(0).result()["warnings"].to_string();
        assert!(!warnings.contains("last good"), "{what}: {warnings}");
    }
    let kept = fs::metadata(world.path("root/last-config.json")).unwrap();
    assert_eq!(kept.mode() & 0o7777, 0o600);
}

#[test]
fn a_first_start_with_a_broken_file_ends_with_2_and_so_does_one_of_another_configuration() {
    let mut world = World::asleep(free_address());
    let good = config(world.address, "");
    world.configure(&format!("{good}[service.api]\nlisen = 1\n"));
    world.cli(&["run"]).expect(2);
    // What is kept of another file is another Halley's.
    world.configure(&good);
    world.wake();
    assert!(world.sleep());
    let other = world.path("other.toml");
    fs::write(&other, format!("{good}[service.api]\nlisen = 1\n")).unwrap();
    let said = std::process::Command::new(crate::world::BINARY)
        .args(["run", "--config"])
        .arg(&other)
        .output()
        .unwrap();
    assert_eq!(said.status.code(), Some(2), "{said:?}");
}

#[test]
fn a_reload_says_what_changed_and_touches_nothing_else() {
    let world = World::with("[service.web.env]\nA = \"1\"");
    world.release(&[]).expect(0);
    let pid_of_web = |world: &World| world.status_of("web")["instances"][0]["pid"].clone();
    let pid = pid_of_web(&world);
    let diff = |world: &World| world.cli(&["check", "--diff"]).expect(0);
    assert!(diff(&world).stderr.contains("the files say what is in use"));
    let other = free_address();
    let api = format!("[service.api]\nlisten = [\"tcp://{other}\"]\n");
    world.configure(&config(world.address, &format!("[service.web.env]\nA = \"2\"\n{api}")));
    // Without its value, which may be secret.
    let change = "~ service.web.env.A\n";
    for (said, is_applied) in [(diff(&world), false), (world.cli(&["reload"]).expect(0), true)] {
        assert!(said.stdout.contains(change), "{}", said.stdout);
        assert!(said.stdout.contains("+ service.api.listen = "), "{}", said.stdout);
        assert_eq!(said.stderr.contains("configuration reloaded"), is_applied, "{}", said.stderr);
    }
    assert!(diff(&world).stdout.is_empty());
    assert_eq!(world.status_of("api")["name"], "api");
    assert_eq!(pid_of_web(&world), pid);
    // Refused as a whole.
    world.configure(&config(world.address, &format!("{api}[service.web.bad]\nx = 1\n")));
    let said = world.cli(&["reload", "--json"]).expect(2);
    let why = said.why();
    assert!(why.contains("halley.toml:") && why.contains("service.web.bad"), "{why}");
    world.cli(&["check", "--diff"]).expect(2);
    world.cli(&["reload", "--dry-run"]).expect(2);
    assert_eq!((pid_of_web(&world), world.answering()), (pid, Some(1)));
}
