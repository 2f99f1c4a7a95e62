//! Input that is no good: a clear error, and nothing is lost or changed.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use crate::world::{World, free_address};

fn check(text: &str) -> (i32, String) {
    let world = World::asleep(free_address());
    world.configure(text);
    let said = world.cli(&["check"]);
    (said.code, said.stderr)
}

#[test]
fn all_problems_of_a_configuration_are_told_at_once_with_their_lines() {
    let (code, text) = check(
        r#"root = "root"
[service.web]
lisen = ["tcp://127.0.0.1:80"]
command = "./web"
[service.web.health]
intervall = "1s"
timeout = "soon"
[service.api]
command = ["./api"]
after = ["wbe"]
instances = "two"
"#,
    );
    assert_eq!(code, 2);
    for wanted in [
        "halley.toml:3: service.web.lisen: unknown key; did you mean listen?",
        "halley.toml:4: service.web.command: it is a text and should be a list of texts",
        "halley.toml:6: service.web.health.intervall: unknown key; did you mean interval?",
        "halley.toml:7: service.web.health.timeout: not a duration: \"soon\"",
        "service.api.after: there is no service wbe; did you mean web?",
        "halley.toml:11: service.api.instances: it is a text and should be a whole number",
        "6 problems; nothing was changed",
    ] {
        assert!(text.contains(wanted), "{wanted}\n--\n{text}");
    }
}

#[test]
fn two_services_on_one_address_are_told_apart_before_anything_starts() {
    for (a, b) in [
        ("tcp://127.0.0.1:8080", "tcp://127.0.0.1:8080"),
        ("tcp://0.0.0.0:8080", "tcp://127.0.0.1:8080"),
        ("tcp://[::]:8080", "tcp://127.0.0.1:8080"),
    ] {
        let (code, text) = check(&format!(
            "[service.a]\nlisten = [\"{a}\"]\ncommand = [\"./a\"]\n\
             [service.b]\nlisten = [\"{b}\"]\ncommand = [\"./b\"]\n"
        ));
        assert_eq!(code, 2, "{a} {b}");
        assert!(text.contains("is taken by service a"), "{text}");
    }
    let (code, _) = check(
        "[service.a]\nlisten = [\"tcp://127.0.0.1:8080\"]\ncommand = [\"./a\"]\n\
         [service.b]\nlisten = [\"tcp://127.0.0.2:8080\"]\ncommand = [\"./b\"]\n",
    );
    assert_eq!(code, 0);
}

#[test]
fn services_that_wait_for_each_other_are_named() {
    let (code, text) = check(
        "[service.a]\ncommand = [\"./a\"]\nafter = [\"b\"]\n\
         [service.b]\ncommand = [\"./b\"]\nafter = [\"a\"]\n",
    );
    assert_eq!(code, 2);
    assert!(text.contains("these services start after each other, in a circle: a, b"), "{text}");
}

/// A release that is refused before anything was started.
#[track_caller]
fn rejected(world: &World, path: &std::path::Path, code: i32, words: &str) {
    let said = world.release_path(path).expect(code);
    let why = said.result()["trouble"]["why"].as_str().unwrap_or_default().to_owned();
    assert!(why.contains(words), "{why}");
    assert_eq!(world.answering(), Some(1));
    let leftovers = |name| fs::read_dir(world.service_path(name)).unwrap().count();
    assert_eq!((leftovers("staging"), leftovers("incoming")), (0, 0));
}

#[test]
fn artifacts_that_are_no_good_are_refused_with_the_reason() {
    let world = World::new();
    world.release(&[]).expect(0);
    let build = world.build(&[]);
    let tar = world.path("good.tar");
    let made = std::process::Command::new("tar")
        .args(["-C", &build.to_string_lossy(), "-cf", &tar.to_string_lossy(), "."])
        .status()
        .unwrap();
    assert!(made.success());
    let bytes = fs::read(&tar).unwrap();
    let cut = world.path("cut.tar");
    fs::write(&cut, &bytes[..1024]).unwrap();
    rejected(&world, &cut, 11, "it ends");
    let empty = world.path("empty.tar");
    fs::write(&empty, b"").unwrap();
    rejected(&world, &empty, 11, "is empty");
    let zeros = world.path("zeros.tar");
    fs::write(&zeros, vec![0; 10240]).unwrap();
    rejected(&world, &zeros, 11, "is empty");
    let text = world.path("text.tar");
    fs::write(&text, "this is no archive at all, and long enough to be told".repeat(40)).unwrap();
    rejected(&world, &text, 11, "is damaged");
    let fifo = world.path("fifo");
    fs::create_dir(&fifo).unwrap();
    fs::write(fifo.join("a"), "a").unwrap();
    halley_sup::os::fs::make_fifo(&fifo.join("pipe"), 0o600).unwrap();
    rejected(&world, &fifo, 11, "contains pipe: it is a FIFO");
    let link = world.path("link");
    fs::create_dir(&link).unwrap();
    fs::write(link.join("a"), "a").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", link.join("passwd")).unwrap();
    rejected(&world, &link, 11, "a symlink to /etc/passwd, which is absolute");
}

#[test]
fn release_toml_is_checked_like_the_configuration() {
    let world = World::with("");
    world.release(&[]).expect(0);
    let build = world.build(&[]);
    fs::write(build.join("release.toml"), "comand = [\"x\"]\nmigrate = [\"./m\"]\n").unwrap();
    let said = world.release_path(&build).expect(11).result();
    let why = said["trouble"]["why"].as_str().unwrap().to_owned();
    assert!(why.contains("release.toml:1: comand: unknown key; did you mean command?"), "{why}");
    assert!(why.contains("release.toml:2: migrate: it is a list and should be a table"), "{why}");
}

#[test]
fn all_that_preflight_finds_is_told_at_once() {
    let world = World::with("");
    world.release(&[]).expect(0);
    let missing = world.build_of(&["./bin/web"]);
    let said = world.release_path(&missing).expect(10).result();
    assert!(said["trouble"]["why"].as_str().unwrap().contains("the artifact holds no such file"));
    let foreign = world.build_of(&["./web"]);
    let mut header = vec![0_u8; 64];
    header[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    header[18] = 243;
    fs::write(foreign.join("web"), header).unwrap();
    fs::set_permissions(foreign.join("web"), fs::Permissions::from_mode(0o755)).unwrap();
    let said = world.release_path(&foreign).expect(10).result();
    let why = said["trouble"]["why"].as_str().unwrap().to_owned();
    assert!(why.contains("it is built for riscv, this machine is"), "{why}");
    let none = world.build(&[]);
    fs::write(none.join("release.toml"), "version = \"1\"\n").unwrap();
    let said = world.release_path(&none).expect(10).result();
    assert!(said["trouble"]["why"].as_str().unwrap().contains("no command"));
}

#[test]
fn a_stranger_on_the_port_is_named_and_the_port_is_taken_when_it_is_free() {
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let world = World::at(stranger.local_addr().unwrap(), "");
    let said = world.release(&[]).expect(10).result();
    let why = said["trouble"]["why"].as_str().unwrap().to_owned();
    assert!(why.contains(&format!("(pid {})", std::process::id())), "{why}");
    drop(stranger);
    world.release(&[]).expect(0);
}

#[test]
fn a_source_that_is_not_there_changes_nothing() {
    let world = World::new();
    let said = world.cli(&["release", "web", "/no/such/build"]).expect(2);
    assert!(said.stderr.contains("why:   /no/such/build: No such file"), "{}", said.stderr);
    assert!(said.stderr.contains("still: nothing was changed"), "{}", said.stderr);
    let said = world.cli(&["release", "wbe", "/tmp"]).expect(2);
    assert!(said.stderr.contains("did you mean web?"), "{}", said.stderr);
}

#[test]
fn without_a_supervisor_the_client_says_what_is_still_true() {
    let world = World::asleep(free_address());
    world.configure(&crate::world::config(world.address, ""));
    let said = world.cli(&["status"]).expect(3);
    assert!(said.stderr.contains("running services keep serving without it"), "{}", said.stderr);
    assert!(said.stderr.contains("next:  systemctl status halley-sup"), "{}", said.stderr);
}

#[test]
fn a_second_halley_on_one_root_is_refused_and_the_first_stays() {
    let world = World::new();
    let said = world.cli(&["run"]).expect(9);
    assert!(said.stderr.contains("halley-sup run, pid"), "{}", said.stderr);
    world.release(&[]).expect(0);
}

#[test]
fn a_state_that_cannot_be_read_is_never_replaced() {
    let mut world = World::new();
    world.release(&[]).expect(0);
    world.sleep();
    let path = world.service_path("state.json");
    fs::write(&path, "{ this was a state").unwrap();
    world.wake();
    let status = world.status();
    assert_eq!(status["state"], "down");
    assert!(status["why"].as_str().unwrap().contains("state.json"), "{status}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "{ this was a state");
}

#[test]
fn the_control_socket_is_its_owners_alone() {
    let world = World::new();
    let mode = fs::metadata(world.path("root/control.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// The ssh connection breaks off in the middle: what came is a cut archive, nothing else.
#[test]
fn a_source_that_vanishes_in_the_middle_changes_nothing() {
    use std::io::Write;
    let world = World::new();
    world.release(&[]).expect(0);
    let build = world.build(&[]);
    fs::write(build.join("large"), vec![7; 300_000]).unwrap();
    let tar = world.path("large.tar");
    let made = std::process::Command::new("tar")
        .args(["-C", &build.to_string_lossy(), "-cf", &tar.to_string_lossy(), "."])
        .status()
        .unwrap();
    assert!(made.success());
    let mut command = world.command(&["release", "web", "-", "--json"]);
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut client = command.spawn().unwrap();
    let bytes = fs::read(tar).unwrap();
    client.stdin.take().unwrap().write_all(&bytes[..bytes.len() / 2]).unwrap();
    let output = client.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(11), "{text}");
    assert!(text.contains("it ends too early"), "{text}");
    assert_eq!(world.answering(), Some(1));
}
