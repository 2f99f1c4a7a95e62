//! A service's user, who may do as it likes in the directories that are its own, and gets no further.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use halley_sup::os::{fs as os_fs, proc};

use crate::world::{BINARY, World, config, free_address};

const NOBODY: &str = "nobody";

/// A service of nobody's, whose user can get to its directories; none without root.
fn of_nobody(wrapper: &[&str], more: &str) -> Option<World> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let mut world = World::asleep(free_address());
    fs::set_permissions(world.path(""), PermissionsExt::from_mode(0o755)).unwrap();
    let user = format!("user = \"{NOBODY}\"\n[service.web.health]");
    world.configure(&config(world.address, more).replace("[service.web.health]", &user));
    world.wake_under(wrapper);
    Some(world)
}

fn give(path: &Path) {
    let user = proc::user(NOBODY).unwrap();
    lchown(path, Some(user.uid), Some(user.gid)).unwrap();
}

const FILES: &str = "[service.web.backup]\ndriver = \"files\"\npath = \"uploads\"";

fn uploads(world: &World) -> PathBuf {
    let uploads = world.service_path("shared/uploads");
    fs::create_dir_all(&uploads).unwrap();
    fs::write(uploads.join("a"), "mine").unwrap();
    give(&uploads);
    give(&uploads.join("a"));
    uploads
}

/// Everything below with its mode, links left out.
fn modes(dir: &Path, found: &mut Vec<(PathBuf, u32)>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let meta = fs::symlink_metadata(entry.path()).unwrap();
        if !meta.is_symlink() {
            found.push((entry.path(), meta.mode() & 0o7777));
        }
        // A backup's data has the modes of what it was made from.
        if meta.is_dir() && !entry.path().ends_with("data") {
            modes(&entry.path(), found);
        }
    }
}

#[test]
fn what_is_ours_other_users_can_neither_read_nor_write_whatever_the_umask() {
    for umask in ["000", "077"] {
        let script = format!("umask {umask}; exec \"$@\"");
        let Some(world) = of_nobody(&["sh", "-c", &script, "sh"], FILES) else { return };
        uploads(&world);
        world.release(&[]).expect(0);
        world.cli(&["backup", "web"]).expect(0);
        world.release(&[]).expect(0);
        let root = world.path("root");
        let mut found = Vec::new();
        modes(&root, &mut found);
        // Those that the program and other users shall get to.
        let open = ["web/releases", "web/shared", "web/run"].map(|name| root.join(name));
        let closed = found.iter().filter(|(path, _)| !open.iter().any(|dir| path.starts_with(dir)));
        let mut n_files = 0;
        for (path, mode) in closed {
            let is_way = path.is_dir() && (path == &root.join("web") || mode & 0o066 == 0);
            assert!(is_way || mode & 0o077 == 0, "umask {umask}: {mode:o} {}", path.display());
            n_files += usize::from(path.is_file());
        }
        assert!(n_files > 10, "{n_files}");
        let mode = |name: &str| fs::metadata(root.join(name)).unwrap().mode() & 0o7777;
        assert_eq!((mode("lock"), mode("web/shared"), mode("web/run")), (0o600, 0o755, 0o755));
        // Its user reads its release.
        assert_eq!(mode("web/releases/2") & 0o055, 0o055, "{umask}");
    }
}

/// Looks at everything as another user does, and says what it gets.
const EYES: &str = r#"
import ctypes, os, socket, stat, sys
root, pids = sys.argv[1], [int(pid) for pid in sys.argv[2:]]
for at, dirs, files in os.walk(root):
    for path in [at] + [os.path.join(at, name) for name in files]:
        kind = os.lstat(path).st_mode
        if stat.S_ISLNK(kind): continue
        if os.access(path, os.W_OK): print("writes", path)
        if stat.S_ISREG(kind) and os.access(path, os.R_OK): print("reads", path)
        if stat.S_ISFIFO(kind) and os.access(path, os.R_OK): print("reads", path)
        for how in [socket.SOCK_STREAM, socket.SOCK_DGRAM] if stat.S_ISSOCK(kind) else []:
            try:
                socket.socket(socket.AF_UNIX, how).connect(path)
                print("calls", path)
            except OSError: pass
libc = ctypes.CDLL(None, use_errno=True)
def tries(what, look):
    try: look()
    except OSError: return
    print(what)
for pid in pids:
    for name in ["environ", "maps", "mem", "auxv", "io", "pagemap"]:
        tries(f"looks {pid} {name}", lambda: open(f"/proc/{pid}/{name}", "rb").read(1))
    for name in ["exe", "cwd", "root", "fd/0"]:
        tries(f"looks {pid} {name}", lambda: os.readlink(f"/proc/{pid}/{name}"))
    tries(f"looks {pid} fd", lambda: os.listdir(f"/proc/{pid}/fd"))
    if libc.ptrace(16, pid, 0, 0) == 0: print(f"traces {pid}")
print("saw it all")
"#;

/// What a user gets to see of a root and of these processes.
fn seen_by(user: &str, world: &World, pids: &[i32]) -> Vec<String> {
    let output = std::process::Command::new("setpriv")
        .args([&format!("--reuid={user}"), &format!("--regid={}", proc::user(user).unwrap().gid)])
        .args(["--clear-groups", "/usr/bin/python3", "-c", EYES])
        .arg(world.path("root"))
        .args(pids.iter().map(ToString::to_string))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    assert_eq!(lines.pop().as_deref(), Some("saw it all"), "{output:?}");
    lines
}

#[test]
fn an_env_file_is_not_read_through_a_link_of_the_services_user() {
    let Some(world) = of_nobody(&[], "") else { return };
    let own = world.path("own");
    fs::create_dir(&own).unwrap();
    give(&own);
    let (secret, env) = (world.path("secret.env"), own.join("web.env"));
    fs::write(&secret, "PASSWORD=of-somebody-else\n").unwrap();
    fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)).unwrap();
    let more = format!("env_file = {env:?}\nuser = \"{NOBODY}\"\n[service.web.health]");
    world.configure(&config(world.address, "").replace("[service.web.health]", &more));
    let said = |words: &str| {
        let said = world.cli(&["check"]).expect(2);
        assert!(said.stderr.contains(words), "{words}: {}", said.stderr);
        assert!(!said.stderr.contains("PASSWORD"), "{}", said.stderr);
    };
    symlink(&secret, &env).unwrap();
    lchown(&env, Some(proc::user(NOBODY).unwrap().uid), None).unwrap();
    said("a link of user");
    fs::remove_file(&env).unwrap();
    os_fs::make_fifo(&env, 0o666).unwrap();
    said("web.env");
    // A link to a file of its own is its own affair.
    fs::remove_file(&env).unwrap();
    fs::write(own.join("real.env"), "A=1\n").unwrap();
    give(&own.join("real.env"));
    symlink(own.join("real.env"), &env).unwrap();
    lchown(&env, Some(proc::user(NOBODY).unwrap().uid), None).unwrap();
    world.cli(&["check"]).expect(0);
}

const SECRETS: [&str; 2] = ["sesame-from-a-file", "sesame-from-a-table"];

/// Every file below that has one of the secrets.
fn with_secrets(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let meta = fs::symlink_metadata(entry.path()).unwrap();
        if meta.is_dir() {
            with_secrets(&entry.path(), found);
        } else if meta.is_file() {
            let bytes = fs::read(entry.path()).unwrap();
            let has = |secret: &&str| bytes.windows(secret.len()).any(|it| it == secret.as_bytes());
            if SECRETS.iter().any(has) {
                found.push(entry.path());
            }
        }
    }
}

/// The whole root, and every process of ours, by the eyes of a stranger and of the service's own user.
#[test]
fn a_stranger_and_a_services_user_see_nothing_of_ours() {
    let more = format!(
        "env = {{ TABLE = \"{}\" }}\nenv_file = \"web.env\"\nhandoff = \"port\"\n",
        SECRETS[1]
    );
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let mut world = World::asleep(free_address());
    fs::set_permissions(world.path(""), PermissionsExt::from_mode(0o755)).unwrap();
    fs::write(world.path("web.env"), format!("SECRET={}\n", SECRETS[0])).unwrap();
    let of_nobody = format!("user = \"{NOBODY}\"\n{more}[service.web.health]");
    let text = config(world.address, FILES).replace("[service.web.health]", &of_nobody);
    world.configure(&text);
    world.wake_under(&["sh", "-c", "umask 0; exec \"$@\"", "sh"]);
    uploads(&world);
    world.release(&["lines=10"]).expect(0);
    // Another value, and a report that says what differs.
    fs::write(world.path("web.env"), format!("SECRET={}-2\n", SECRETS[0])).unwrap();
    world.reload(&text.replace(SECRETS[1], &format!("{}-2", SECRETS[1])));
    let failed = world.release(&["unhealthy"]).expect(15).result();
    assert!(failed["next"].to_string().contains("report.md"), "{failed}");
    world.release(&[]).expect(0);
    world.cli(&["rollback", "web"]).expect(0);
    world.cli(&["backup", "web"]).expect(0);
    let programs: Vec<i32> = {
        let status = world.status();
        let all = status["instances"].as_array().unwrap().iter();
        all.map(|it| i32::try_from(it["pid"].as_i64().unwrap()).unwrap()).collect()
    };
    let mut ours = proc::tree(world.keeper_pid());
    ours.insert(world.keeper_pid());
    let ours: Vec<i32> = ours.into_iter().filter(|pid| !programs.contains(pid)).collect();
    assert!(ours.len() >= 4, "keeper, supervisor, and a forwarder a release: {ours:?}");
    let root = world.path("root/web");
    for (user, may_write) in [("daemon", false), (NOBODY, true)] {
        let mut seen = seen_by(user, &world, &ours);
        let is_open = |line: &String| {
            let (what, path) = line.split_once(' ').unwrap();
            let is_in = |name: &str| Path::new(path).starts_with(root.join(name));
            // What the program is made of, and what is its own. A backup has the owners of what it was
            // made from.
            let own = ["shared", "run", "backups"];
            (what == "reads" && (is_in("releases") || is_in("shared")))
                || (may_write && own.iter().any(|name| is_in(name)))
        };
        seen.retain(|line| !is_open(line));
        assert_eq!(seen, [""; 0], "{user}");
    }
    for pid in ours {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        assert!(!line.contains("sesame"), "{line}");
    }
    let mut found = Vec::new();
    with_secrets(&world.path("root"), &mut found);
    // The settings that a release runs with come back with it, and the configuration after a reboot; what
    // an `env_file` has is its own.
    let last_config = world.path("root/last-config.json");
    assert!(!fs::read_to_string(&last_config).unwrap().contains(SECRETS[0]));
    found.retain(|path| !path.starts_with(root.join("meta")) && *path != last_config);
    assert!(found.is_empty(), "{found:?}");
    assert!(!world.run_log().contains("sesame"), "{}", world.run_log());
    let shown = ["status", "history", "releases"].map(|verb| world.cli(&[verb, "--json"]).stdout);
    assert!(!shown.concat().contains("sesame"));
}

#[test]
fn other_processes_of_its_user_cannot_trace_a_halley_without_root() {
    let mut world = World::asleep(free_address());
    let text = config(world.address, "");
    world.configure(&text);
    let script = "chown -R 65534:65534 $HALLEY_TEST_WORLD && \
                  exec setpriv --reuid=65534 --regid=65534 --clear-groups \"$@\"";
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    world.wake_under(&["sh", "-c", script, "sh"]);
    world.release(&[]).expect(0);
    // What may not be traced belongs to root there (proc(5)).
    let owner = |pid: i32| fs::metadata(format!("/proc/{pid}/environ")).unwrap().uid();
    assert_eq!(owner(world.keeper_pid()), 0);
    assert_eq!(owner(world.supervisor_pid().unwrap()), 0);
    assert_eq!(owner(world.live_pid()), 65_534, "a program is as it is without Halley");
}

#[test]
fn a_backup_follows_no_link_of_its_user_and_waits_for_no_fifo() {
    let Some(world) = of_nobody(&[], FILES) else { return };
    let secret = world.path("secret");
    fs::create_dir(&secret).unwrap();
    fs::set_permissions(&secret, PermissionsExt::from_mode(0o700)).unwrap();
    fs::write(secret.join("key"), "secret").unwrap();
    let uploads = uploads(&world);
    os_fs::make_fifo(&uploads.join("fifo"), 0o666).unwrap();
    symlink(secret.join("key"), uploads.join("link")).unwrap();
    world.release(&[]).expect(0);
    world.cli(&["backup", "web"]).expect(0);
    // The whole directory is a link now.
    fs::rename(&uploads, world.service_path("shared/before")).unwrap();
    symlink(&secret, &uploads).unwrap();
    give(&uploads);
    let said = world.cli(&["backup", "web"]).expect(15);
    assert!(said.stderr.contains("a link of user"), "{}", said.stderr);
    let before = fs::read_dir(&secret).unwrap().count();
    assert_ne!(world.cli(&["restore", "web", "--yes"]).code, 0);
    assert_eq!(fs::read_dir(&secret).unwrap().count(), before, "nothing is written there");
    let mut found = Vec::new();
    for backup in fs::read_dir(world.service_path("backups")).unwrap().flatten() {
        modes(&backup.path().join("data"), &mut found);
    }
    assert!(!found.is_empty());
    let files = found.iter().filter(|(path, _)| path.is_file());
    let leaked = files.filter(|(path, _)| fs::read(path).unwrap() == b"secret").count();
    assert_eq!(leaked, 0);
    assert_eq!(fs::metadata(&secret).unwrap().mode() & 0o7777, 0o700);
}

#[test]
fn a_changed_user_never_takes_shared_away_from_the_release_that_serves() {
    let Some(world) = of_nobody(&[], "") else { return };
    world.release(&[]).expect(0);
    let owner = || fs::metadata(world.service_path("shared")).unwrap().uid();
    let (nobody, daemon) = (proc::user(NOBODY).unwrap().uid, proc::user("daemon").unwrap().uid);
    assert_eq!(owner(), nobody);
    let changed = |user: &str, lines: &str| {
        let more = format!("user = \"{user}\"\n{lines}\n[service.web.health]");
        world.reload(&config(world.address, "").replace("[service.web.health]", &more));
    };
    changed("daemon", "");
    let said = world.release(&["unhealthy"]).expect(10);
    assert!(said.why().contains("shared/ belongs to nobody"), "{}", said.why());
    assert_eq!(owner(), nobody);
    world.cli(&["drill", "web"]);
    assert_eq!(owner(), nobody);
    changed("daemon", "strategy = \"hold\"");
    world.release(&["alone"]).expect(0);
    assert_eq!(owner(), daemon);
    // One that fails gives it back.
    changed(NOBODY, "strategy = \"hold\"");
    world.release(&["alone", "unhealthy"]).expect(21);
    assert_eq!((owner(), world.answering()), (daemon, Some(2)));
}

#[test]
fn after_a_change_of_the_user_its_own_places_are_its_own_and_what_is_left_is_said() {
    let Some(world) = of_nobody(&[], "") else { return };
    let changed = |user: &str| {
        let more = format!(
            "user = \"{user}\"\nstrategy = \"hold\"\nwritable = [\"tmp\"]\n[service.web.health]"
        );
        world.reload(&config(world.address, "").replace("[service.web.health]", &more));
    };
    changed(NOBODY);
    world.release(&[]).expect(0);
    let owner = |path: &str| fs::metadata(world.service_path(path)).unwrap().uid();
    let (nobody, daemon) = (proc::user(NOBODY).unwrap().uid, proc::user("daemon").unwrap().uid);
    for path in ["writable/1/tmp/mine", "shared/data"] {
        fs::write(world.service_path(path), "x").unwrap();
        give(&world.service_path(path));
    }
    fs::write(world.service_path("writable/1/tmp/roots"), "x").unwrap();
    changed("daemon");
    world.cli(&["stop", "web"]).expect(0);
    world.cli(&["start", "web"]).expect(0);
    assert_eq!((owner("writable/1/tmp"), owner("writable/1/tmp/mine")), (daemon, daemon));
    assert_eq!((owner("writable/1/tmp/roots"), owner("shared/data")), (0, nobody));
    changed(NOBODY);
    give(&world.service_path("shared/data"));
    lchown(world.service_path("shared/data"), Some(daemon), None).unwrap();
    let build = world.build(&[]);
    let said = world.release_path(&build).expect(0).result();
    let warning = said["warnings"].to_string();
    let (_, command) = warning.split_once(": chown").unwrap_or_else(|| panic!("{said}"));
    let command = format!("chown{}", command.split('"').next().unwrap());
    assert!(Command::new("sh").args(["-c", &command]).status().unwrap().success(), "{command}");
    assert_eq!(owner("shared/data"), nobody);
}

/// A source of names is a library, and what a stranger's library does in this process is not known: in
/// a static binary it ends it.
#[test]
fn no_library_is_loaded_to_look_a_user_or_a_host_up() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let world = World::asleep(free_address());
    let sources = "passwd: files elsewhere\ngroup: files elsewhere\nhosts: elsewhere files\n";
    fs::write(world.path("nsswitch.conf"), sources).unwrap();
    let user = "user = \"no-such-user\"\n[service.web.health]";
    world.configure(&config(world.address, "").replace("[service.web.health]", user));
    let asked = |looks: &str| {
        let script = format!(
            "mount --bind {} /etc/nsswitch.conf && LD_DEBUG=libs exec {looks}",
            world.path("nsswitch.conf").display()
        );
        let output =
            Command::new("unshare").args(["--mount", "sh", "-c", &script]).output().unwrap();
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let library = "libnss_elsewhere";
    let check = asked(&format!("{BINARY} check --config {}", world.path("halley.toml").display()));
    assert!(check.contains("no-such-user"), "it was looked up: {check}");
    assert!(!check.contains(library), "{check}");
    // The C library itself loads it.
    assert!(asked("getent passwd no-such-user").contains(library));
}
