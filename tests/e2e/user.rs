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
