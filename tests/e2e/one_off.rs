//! `exec` and `env`: a command of the operator's where the service's programs run.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::world::{BINARY, Said, World, config, free_address};

/// Two releases with an environment of a secret, run by nobody where root can.
fn world() -> World {
    let mut world = World::asleep(free_address());
    let env = "env = { DATABASE_URL = \"postgres://app:pw@db/app\", MODE = \"a b\", API_TOKEN = \"t0ken\" }";
    let user = if nix::unistd::geteuid().is_root() { "user = \"nobody\"\n" } else { "" };
    let text = config(world.address, "")
        .replace("[service.web.health]", &format!("{user}{env}\n[service.web.health]"));
    world.configure(&text);
    world.wake();
    world.release(&[]).expect(0);
    world.release(&[]).expect(0);
    world
}

/// What stands behind `--` is the command's.
fn exec(world: &World, args: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(["exec", "--config"]).arg(world.path("halley.toml")).args(args);
    command
}

fn said(mut command: Command) -> Said {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Said {
        code: output.status.code().unwrap_or(-1),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

#[test]
fn a_command_runs_in_the_releases_tree_as_the_services_user_with_its_environment() {
    let world = world();
    let sh = |script: &str| said(exec(&world, &["web", "--", "sh", "-c", script]));
    let tree = world.service_path("releases/2").canonicalize().unwrap();
    assert_eq!(sh("pwd -P").expect(0).stdout.trim(), tree.to_str().unwrap());
    let shown = sh("echo $DATABASE_URL $MODE $HALLEY_RELEASE ${LISTEN_FDS:-none}").expect(0);
    assert_eq!(shown.stdout.trim(), "postgres://app:pw@db/app a b 2 none");
    if nix::unistd::geteuid().is_root() {
        assert_eq!(sh("id -un").expect(0).stdout.trim(), "nobody");
        // What it may write is what the service may: not the tree.
        assert_ne!(sh("touch made-by-exec").code, 0);
        sh("touch $HALLEY_SHARED/made-by-exec").expect(0);
    }
    // Its own exit code and its own input.
    assert_eq!(sh("exit 7").code, 7);
    let mut command = exec(&world, &["web", "--", "cat"]);
    let mut cat = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    cat.stdin.take().unwrap().write_all(b"through").unwrap();
    assert_eq!(cat.wait_with_output().unwrap().stdout, b"through");
    let of_one = ["web", "--release", "1", "--", "sh", "-c", "echo $HALLEY_RELEASE"];
    assert_eq!(said(exec(&world, &of_one)).expect(0).stdout.trim(), "1");
}

/// A console has no more rights than the service, and changes no release.
#[test]
fn a_command_has_the_limits_of_the_service_and_a_read_only_tree() {
    let mut world = World::asleep(free_address());
    let limits = "[service.web.limits]\nopen_files = 300\numask = \"0027\"\nno_new_privs = true";
    world.configure(&config(world.address, limits));
    world.wake();
    world.release(&[]).expect(0);
    let sh = |script: &str| said(exec(&world, &["web", "--", "sh", "-c", script]));
    let shown = sh("ulimit -n; umask; grep NoNewPrivs /proc/self/status | cut -f2").expect(0);
    assert_eq!(shown.stdout.split_whitespace().collect::<Vec<_>>(), ["300", "0027", "1"]);
    let untouched = sh("touch made-by-exec");
    assert_ne!(untouched.code, 0, "{untouched:?}");
    assert!(!world.service_path("releases/1/made-by-exec").exists());
}

#[test]
fn a_command_that_cannot_run_says_why() {
    let world = world();
    for (args, code, why) in [
        (["web", "--", "no-such-program"].as_slice(), 2, "no such program in PATH"),
        (&["web", "--", "./no/such"], 2, "no such file"),
        (&["web", "--release", "9", "--", "true"], 2, "9"),
        (&["wbe", "--", "true"], 2, "web"),
        (&["web"], 2, "COMMAND"),
    ] {
        let said = said(exec(&world, args)).expect(code);
        assert!(said.stderr.contains(why), "{args:?}: {}", said.stderr);
    }
}

#[test]
fn the_environment_is_shown_without_its_secrets() {
    let world = world();
    let said = world.cli(&["env", "web"]).expect(0).stdout;
    let lines: Vec<&str> = said.lines().collect();
    for line in
        ["API_TOKEN=***", "DATABASE_URL=postgres://app:***@db/app", "HALLEY_RELEASE=2", "MODE=a b"]
    {
        assert!(lines.contains(&line), "{line}: {said}");
    }
    assert!(lines.is_sorted(), "{said}");
    let json = world.cli(&["env", "web", "--json"]).expect(0);
    assert!(!json.stdout.contains("t0ken") && !json.stdout.contains("pw@"), "{}", json.stdout);
    let said = world.cli(&["env", "web", "--show"]).expect(0).stdout;
    assert!(said.contains("API_TOKEN=t0ken"), "{said}");
}
