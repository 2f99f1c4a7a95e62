//! The scripts around the binary, each tried.
#![allow(clippy::unwrap_used, clippy::print_stderr, dead_code, reason = "tests")]

#[path = "e2e/world.rs"]
mod world;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use world::{BINARY, World};

fn script(name: &str) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(root.join("scripts").join(name));
    command.stdin(Stdio::null());
    command
}

#[track_caller]
fn text(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn install_puts_everything_in_place_and_a_second_time_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let install = || {
        let output = script("install.sh")
            .arg(BINARY)
            .env("DESTDIR", dir.path())
            .env("PREFIX", "/opt/halley")
            .output()
            .unwrap();
        text(&output)
    };
    let first = install();
    assert_eq!(first.matches("installed").count(), 3, "{first}");
    let binary = dir.path().join("opt/halley/bin/halley-sup");
    assert_eq!(fs::metadata(&binary).unwrap().permissions().mode() & 0o777, 0o755);
    let unit = dir.path().join("etc/systemd/system/halley-sup.service");
    let unit = fs::read_to_string(unit).unwrap();
    assert!(unit.contains("ExecStart=/opt/halley/bin/halley-sup run"), "{unit}");
    let config = dir.path().join("etc/halley/halley.toml");
    fs::write(&config, "# mine\n").unwrap();
    let second = install();
    assert_eq!(second.matches("unchanged").count(), 2, "{second}");
    assert_eq!(fs::read_to_string(&config).unwrap(), "# mine\n");
    let checked = Command::new(binary).args(["check", "--config"]).arg(&config).output().unwrap();
    assert!(text(&checked).contains("ok, 0 services"));
}

/// An sshd of the test's own on loopback, with a key of its own.
struct Sshd {
    dir: PathBuf,
    port: u16,
    daemon: std::process::Child,
}

impl Sshd {
    fn start(world: &World) -> Self {
        let dir = world.path("ssh");
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
        for key in ["host", "client"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(dir.join(key))
                .stdin(Stdio::null())
                .status()
                .unwrap();
            assert!(made.success());
        }
        fs::copy(dir.join("client.pub"), dir.join("authorized")).unwrap();
        let port = world::free_address().port();
        let text = dir.to_string_lossy().into_owned();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {text}/host\nAuthorizedKeysFile {text}/authorized\nPidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin yes\nSubsystem sftp internal-sftp\n"
        );
        fs::write(dir.join("sshd.conf"), config).unwrap();
        // Where Debian's sshd changes root to before it knows who calls.
        if nix::unistd::geteuid().is_root() {
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let daemon = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(dir.join("sshd.conf"))
            .stdin(Stdio::null())
            .stderr(fs::File::create(dir.join("log")).unwrap())
            .spawn()
            .unwrap();
        let sshd = Self { dir, port, daemon };
        world.wait("sshd listens", |_| {
            std::net::TcpStream::connect(("127.0.0.1", sshd.port)).is_ok()
        });
        sshd
    }

    fn options(&self) -> String {
        let dir = self.dir.to_string_lossy();
        format!(
            "-i {dir}/client -o Port={} -o StrictHostKeyChecking=no -o UserKnownHostsFile={dir}/known -o BatchMode=yes -o LogLevel=ERROR",
            self.port
        )
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        world::kill(i32::try_from(self.daemon.id()).unwrap(), libc::SIGTERM);
        drop(self.daemon.wait());
    }
}

#[test]
fn ci_release_brings_a_build_over_ssh_and_passes_the_exit_code_on() {
    let world = World::new();
    let sshd = Sshd::start(&world);
    let config = world.path("halley.toml").to_string_lossy().into_owned();
    let ci = |archive: &str| {
        let mut command = script("ci-release.sh");
        command.args(["127.0.0.1", "web", archive]);
        command.env("SSH", format!("ssh {}", sshd.options()));
        command.env("SCP", format!("scp {}", sshd.options()));
        command.env("HALLEY", format!("HALLEY_CONFIG={config} {BINARY}"));
        command
    };
    let pack = |behaviour: &[&str], name: &str| {
        let build = world.build(behaviour);
        let path = world.path(name).to_string_lossy().into_owned();
        let made = Command::new("tar")
            .args(["-C", &build.to_string_lossy(), "-czf", &path, "."])
            .status()
            .unwrap();
        assert!(made.success());
        path
    };
    let output = ci(&pack(&[], "one.tgz")).output().unwrap();
    assert!(text(&output).contains("web: release 1 is live"));
    let stream = fs::File::open(pack(&[], "two.tgz")).unwrap();
    let output = ci("-").stdin(stream).output().unwrap();
    assert!(text(&output).contains("web: release 2 is live"));
    let output = ci(&pack(&["unhealthy"], "three.tgz")).output().unwrap();
    assert_eq!(output.status.code(), Some(20));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("still: release 2 is serving"), "{said}");
    let output = ci("/no/such/archive").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let history = world.cli(&["history", "--json"]).stdout;
    assert!(history.contains("@127.0.0.1"), "who asked, from where: {history}");
}

/// A folder with an `ssh` and an `scp` that only note what they are asked for.
fn noting_ssh() -> (tempfile::TempDir, impl Fn(&[&str]) -> (Option<i32>, String)) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let program = "#!/bin/sh\nprintf '%s|' \"$0\" \"$@\" >> \"${0%/*}/asked\"\n\
                   case $* in *mktemp*) echo /tmp/halley-release.abcdef ;; esac\n";
    for name in ["ssh", "scp"] {
        fs::write(path.join(name), program).unwrap();
        fs::set_permissions(path.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let ci = move |args: &[&str]| {
        let mut command = script("ci-release.sh");
        command.args(args).current_dir(&path);
        command.env("SSH", path.join("ssh")).env("SCP", path.join("scp")).env_remove("HALLEY");
        let output = command.output().unwrap();
        let asked = fs::read_to_string(path.join("asked")).unwrap_or_default();
        (output.status.code(), asked.replace(&format!("{}/", path.display()), ""))
    };
    (dir, ci)
}

#[test]
fn ci_release_asks_nobody_for_what_would_need_quoting() {
    let (dir, ci) = noting_ssh();
    fs::write(dir.path().join("a.tar"), "x").unwrap();
    for args in [
        &["-oProxyCommand=touch x", "web", "a.tar"][..],
        &["", "web", "a.tar"],
        &["host", "web; touch x", "a.tar"],
        &["host", "-rf", "a.tar"],
        &["host", "", "a.tar"],
        &["host", "web", "none.tar"],
        &["host", "web", "."],
        &["host", "web"],
    ] {
        assert_eq!(ci(args), (Some(2), String::new()), "{args:?}");
    }
}

#[test]
fn ci_release_takes_an_archive_of_any_name_and_leaves_nothing_behind() {
    let (dir, ci) = noting_ssh();
    let name = "it's a: $(b).tgz";
    fs::write(dir.path().join(name), "x").unwrap();
    let (code, asked) = ci(&["host", "web", name]);
    assert_eq!(code, Some(0));
    let wanted = format!(
        "ssh|-n|host|mktemp|/tmp/halley-release.XXXXXX|\
         scp|-q|--|./{name}|host:/tmp/halley-release.abcdef|\
         ssh|-n|host|halley-sup release web /tmp/halley-release.abcdef|\
         ssh|-n|host|rm|-f|/tmp/halley-release.abcdef|"
    );
    assert_eq!(asked, wanted);
}

#[test]
fn install_takes_a_binary_by_a_path_of_the_callers() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("built"), "program").unwrap();
    let mut install = script("install.sh");
    install.arg("built").current_dir(dir.path()).env("DESTDIR", dir.path().join("dest"));
    text(&install.env("PREFIX", "/usr").output().unwrap());
    let binary = dir.path().join("dest/usr/bin/halley-sup");
    assert_eq!(fs::read_to_string(&binary).unwrap(), "program");
}

#[test]
fn the_unit_is_one_that_systemd_understands() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("units/halley-sup.service");
    let text = fs::read_to_string(&unit).unwrap();
    for line in ["Type=notify", "KillMode=process", "Restart=always", "OOMPolicy=continue"] {
        assert!(text.lines().any(|found| found == line), "{line}");
    }
    // It wants the program to be there, so it is shown the one of this build.
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("halley-sup.service");
    fs::write(&copy, text.replace("/usr/local/bin/halley-sup", BINARY)).unwrap();
    let verify = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&copy).output();
    // A host without systemd has none to ask.
    if let Ok(output) = verify {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && !said.contains("halley-sup.service"), "{said}");
    }
}

/// Ended with its test, however that ends.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        world::kill(i32::try_from(self.0.id()).unwrap(), libc::SIGKILL);
        self.0.wait().unwrap();
    }
}

/// `Type=notify`: the keeper says `READY=1` once the control socket can be asked.
#[test]
fn the_service_manager_is_told_when_the_stack_is_up_and_when_it_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    fs::write(dir.path().join("halley.toml"), "root = \"root\"\n").unwrap();
    let keeper = Command::new(BINARY)
        .args(["run", "--config"])
        .arg(dir.path().join("halley.toml"))
        .env("NOTIFY_SOCKET", &path)
        .stderr(Stdio::null())
        .spawn();
    let mut keeper = Ended(keeper.unwrap());
    // What it has stored comes in between.
    let hear = || loop {
        let mut buffer = [0; 512];
        let n = socket.recv(&mut buffer).unwrap();
        let heard = String::from_utf8_lossy(&buffer[..n]).into_owned();
        if !heard.starts_with("FDSTORE") {
            return heard;
        }
    };
    assert_eq!(hear(), "READY=1");
    let asked = Command::new(BINARY)
        .args(["status", "--config"])
        .arg(dir.path().join("halley.toml"))
        .output()
        .unwrap();
    assert!(asked.status.success());
    world::kill(i32::try_from(keeper.0.id()).unwrap(), libc::SIGTERM);
    let said = loop {
        let said = hear();
        if !said.starts_with("STATUS=") {
            break said;
        }
    };
    assert_eq!(said, "STOPPING=1");
    assert!(keeper.0.wait().unwrap().success());
}

/// Building the real one takes minutes, so the check is tried on small programs here, and
/// `scripts/build.sh` applies it to each binary that it makes.
#[test]
fn a_build_that_is_not_static_or_too_large_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let check = |path: &Path| {
        let output = script("check-static.sh").arg(path).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let source = dir.path().join("a.rs");
    fs::write(&source, "fn main() {}").unwrap();
    let build = |name: &str, flags: &[&str]| {
        let path = dir.path().join(name);
        let mut rustc = Command::new("rustc");
        rustc.args(["-C", "strip=symbols"]).args(flags).arg("-o").arg(&path).arg(&source);
        text(&rustc.output().unwrap());
        path
    };
    let shared = build("shared", &["-C", "target-feature=-crt-static"]);
    let (is_good, said) = check(&shared);
    assert!(!is_good && said.contains("not static"), "{said}");
    let unmoving = ["-C", "target-feature=+crt-static", "-C", "relocation-model=static"];
    for flags in [&["-C", "target-feature=+crt-static"][..], &unmoving] {
        let whole = build("whole", flags);
        let (is_good, said) = check(&whole);
        assert!(is_good && said.contains("static, "), "{said}");
        let file = fs::OpenOptions::new().write(true).open(&whole).unwrap();
        file.set_len(5_000_001).unwrap();
        drop(file);
        let (is_good, said) = check(&whole);
        assert!(!is_good && said.contains("5000001 bytes, more than 5000000"), "{said}");
    }
    let broken = dir.path().join("broken");
    fs::write(&broken, "no program").unwrap();
    assert!(!check(&broken).0);
}

/// Those that start fast, of three kinds: one that is held, two that call each other over a unix socket,
/// and a database that turns clients away while it recovers.
#[test]
fn real_programs_run_by_the_recipes_of_the_reference() {
    let names = ["redis", "php-fpm", "postgresql"];
    let runs = names.map(|name| {
        let mut command = script("real-programs.sh");
        command.arg(name).env("HALLEY_BINARY", BINARY).env("HALLEY_HASTE", "1");
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    });
    for (name, run) in names.into_iter().zip(runs) {
        let output = run.wait_with_output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{log}");
        let table = text(&output);
        let row = table.lines().find(|line| line.starts_with(&format!("| {name} |")));
        assert!(row.is_some_and(|row| row.contains("| ok | ok | ok | ok |")), "{table}{log}");
    }
}
