//! What becomes of an artifact on its way into a release: times, modes, names that lead out of it; and what
//! a program may change in it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use halley_sup::os::proc;

use crate::way_back::{meddle, own_program};
use crate::world::{BINARY, World, config, free_address};

/// A world whose service has these keys.
fn with_keys(keys: &str) -> World {
    let mut world = World::asleep(free_address());
    let keys = format!("{keys}\n[service.web.health]");
    world.configure(&config(world.address, "").replacen("[service.web.health]", &keys, 1));
    // A service of another user gets to its directories.
    fs::set_permissions(world.path(""), PermissionsExt::from_mode(0o755)).unwrap();
    world.wake();
    world
}

fn tar(build: &Path, archive: &Path) {
    let dir = build.to_string_lossy().into_owned();
    let to = archive.to_string_lossy().into_owned();
    assert!(Command::new("tar").args(["-C", &dir, "-cf", &to, "."]).status().unwrap().success());
}

#[test]
fn a_program_that_writes_into_its_own_tree_does_not_keep_its_next_release_out() {
    let world = World::new();
    let writes = "echo x > state.txt; echo 'exit 7' > VERSION; mkdir cache";
    for _ in 0..3 {
        world.release_path(&own_program(&world, writes)).expect(0);
    }
    assert_eq!(world.status()["rollback"]["ready"], true);
    let tree = world.service_path("releases/3");
    let names = fs::read_dir(&tree).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.count(), 3);
    world.cli(&["rollback", "web"]).expect(0);
}

#[test]
fn what_was_changed_in_a_tree_that_works_is_named_and_the_next_release_goes_out() {
    let world = World::new();
    world.release_path(&own_program(&world, "")).expect(0);
    meddle(&world, 1, |run| fs::write(run.with_file_name("VERSION"), "another").unwrap());
    let said = world.release(&[]).expect(0);
    let warnings = said.result()["warnings"].to_string();
    assert!(warnings.contains("its tree differs from its hashes: VERSION"), "{warnings}");
    let rollback = world.status()["rollback"].to_string();
    assert!(rollback.contains("\"ready\":false") && rollback.contains("VERSION"), "{rollback}");
    world.cli(&["drill", "web"]).expect(14);
}

#[test]
fn what_was_compiled_before_is_still_newer_than_its_source() {
    let world = World::new();
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_007);
    let build = own_program(&world, "");
    let file = fs::File::options().write(true).open(build.join("VERSION")).unwrap();
    file.set_modified(then).unwrap();
    let archive = world.path("build.tar");
    tar(&build, &archive);
    for (n, source) in [(1, &build), (2, &archive)] {
        world.release_path(source).expect(0);
        let meta = fs::metadata(world.service_path(&format!("releases/{n}/VERSION"))).unwrap();
        assert_eq!(meta.modified().unwrap(), then, "{}", source.display());
    }
}

#[test]
fn writable_directories_are_of_the_release_and_go_with_it() {
    let world =
        with_keys("writable = [\"tmp\", \"var/log\"]\nkeep = { releases = 1, standby = \"0s\" }");
    let build = own_program(&world, "set -e; echo $HALLEY_RELEASE > tmp/n; cp tmp/n var/log/n");
    fs::create_dir(build.join("tmp")).unwrap();
    fs::write(build.join("tmp/seed"), "from the artifact").unwrap();
    for n in 1..=3 {
        world.release_path(&build).expect(0);
        let read = |name: &str| {
            fs::read_to_string(world.service_path(&format!("releases/{n}/{name}"))).unwrap()
        };
        assert_eq!((read("tmp/n"), read("var/log/n")), (format!("{n}\n"), format!("{n}\n")));
        assert_eq!(read("tmp/seed"), "from the artifact");
    }
    assert!(
        !world.service_path("writable/1").exists() && world.service_path("writable/3").exists()
    );
}

#[test]
fn what_is_tried_on_a_copy_may_write_to_its_writable_directories_and_leaves_nothing_there() {
    let keys = "writable = [\"tmp\"]\nbackup = { driver = \"files\", path = \"data\" }";
    let world = with_keys(keys);
    fs::create_dir(world.service_path("shared/data")).unwrap();
    fs::write(world.service_path("shared/data/a"), "a").unwrap();
    let build = own_program(&world, "set -e; echo \"x$HALLEY_REHEARSAL\" >> tmp/n");
    let release = fs::read_to_string(build.join("release.toml")).unwrap();
    let migrate =
        "[migrate]\ncommand = [\"/bin/sh\", \"-c\", \"echo b >> $HALLEY_SHARED/data/a\"]\n";
    fs::write(build.join("release.toml"), format!("{release}{migrate}")).unwrap();
    for n in 1..3 {
        world.release_path(&build).expect(0);
        let own = fs::read_to_string(world.service_path(&format!("writable/{n}/tmp/n"))).unwrap();
        assert_eq!(own, "x\n");
    }
}

#[test]
fn linked_names_lead_to_what_outlives_the_release() {
    let world = with_keys("links = [\"uploads\", \"config/master.key\"]");
    let build = own_program(&world, "cat config/master.key >> uploads/seen");
    fs::create_dir(build.join("uploads")).unwrap();
    fs::write(build.join("uploads/.keep"), "").unwrap();
    let why = world.release_path(&build).expect(10).why();
    let key = world.service_path("shared/config/master.key");
    assert!(why.contains(&format!("{} is not there", key.display())), "{why}");
    // A refusal and a dry run change nothing.
    fs::create_dir(key.parent().unwrap()).unwrap();
    fs::write(&key, "").unwrap();
    world.cli(&["release", "web", &build.to_string_lossy(), "--dry-run"]).expect(0);
    assert!(!world.service_path("shared/uploads").exists());
    fs::write(&key, "key\n").unwrap();
    world.release_path(&build).expect(0);
    world.release_path(&build).expect(0);
    world.cli(&["rollback", "web"]).expect(0);
    let seen = fs::read_to_string(world.service_path("shared/uploads/seen")).unwrap();
    assert!(seen.starts_with("key\nkey\n"), "{seen}");
}

#[test]
fn absolute_links_lead_where_the_host_allows_it() {
    let world = with_keys("absolute_links = [\"/usr\", \"/opt/python\"]");
    let linked = |to: &Path| -> PathBuf {
        let build = own_program(&world, "");
        symlink(to, build.join("link")).unwrap();
        build
    };
    let shared = world.service_path("shared/media");
    for good in [Path::new("/usr/bin/env"), Path::new("/opt/python/bin/python3"), &shared] {
        world.release_path(&linked(good)).expect(0);
    }
    for bad in ["/etc/passwd", "/usr/../etc/passwd", "/usrx/a", "/opt"] {
        let why = world.release_path(&linked(Path::new(bad))).expect(11).why();
        assert!(why.contains("absolute_links") || why.contains(".. after a name"), "{why}");
    }
}

#[test]
fn no_mode_is_widened_and_the_services_user_reads_its_release() {
    let Some(nobody) = proc::user("nobody").filter(|_| nix::unistd::geteuid().is_root()) else {
        return;
    };
    let world = with_keys("user = \"nobody\"");
    let owner = |name: &str| fs::metadata(world.service_path(name)).unwrap().uid();
    assert_eq!(owner("shared"), nobody.uid, "from its making on");
    let build = own_program(&world, "set -e; cat secret keys/a > $HALLEY_SHARED/seen");
    fs::create_dir(build.join("keys")).unwrap();
    fs::write(build.join("secret"), "one").unwrap();
    fs::write(build.join("keys/a"), "two").unwrap();
    let close = |name: &str, mode| {
        fs::set_permissions(build.join(name), PermissionsExt::from_mode(mode)).unwrap();
    };
    close("secret", 0o600);
    close("keys", 0o700);
    let release = fs::read_to_string(build.join("release.toml")).unwrap();
    let migrate =
        "[migrate]\ncommand = [\"/bin/sh\", \"-c\", \"echo x > $HALLEY_SHARED/migrated\"]\n";
    fs::write(build.join("release.toml"), format!("{release}{migrate}")).unwrap();
    let archive = world.path("build.tar");
    tar(&build, &archive);
    for (n, source) in [(1, &build), (2, &archive)] {
        world.release_path(source).expect(0);
        let seen = world.service_path("shared/seen");
        assert_eq!(fs::read_to_string(&seen).unwrap(), "onetwo");
        fs::remove_file(seen).unwrap();
        let mode = |name: &str| {
            let path = world.service_path(&format!("releases/{n}/{name}"));
            fs::metadata(path).unwrap().mode() & 0o777
        };
        assert_eq!((mode("secret"), mode("keys"), mode("keys/a")), (0o440, 0o550, 0o444));
        assert_eq!((mode("run"), mode("VERSION")), (0o555, 0o444));
    }
    assert_eq!(owner("shared/migrated"), nobody.uid);
}

#[test]
fn a_program_is_looked_up_in_the_path_that_it_will_have() {
    let world = with_keys("env = { PATH = \"tools:/usr/bin:/bin\" }");
    let build = own_program(&world, "");
    fs::create_dir(build.join("tools")).unwrap();
    fs::rename(build.join("run"), build.join("tools/web-server")).unwrap();
    let hook = "command = [\"web-server\"]\nhooks = { before_start = [\"own-hook\"] }\n";
    fs::write(build.join("release.toml"), hook).unwrap();
    let why = world.release_path(&build).expect(10).why();
    assert!(why.contains("own-hook is not there"), "{why}");
    fs::write(build.join("tools/own-hook"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(build.join("tools/own-hook"), PermissionsExt::from_mode(0o755)).unwrap();
    world.release_path(&build).expect(0);
    fs::write(build.join("release.toml"), "command = [\"no-such-server\"]\n").unwrap();
    let why = world.release_path(&build).expect(10).why();
    assert!(why.contains("no such program in PATH (tools:/usr/bin:/bin)"), "{why}");
}

#[test]
fn a_script_whose_interpreter_is_outside_of_the_release_is_named_with_what_to_write() {
    let world = World::new();
    let venv = world.path("venv/bin");
    fs::create_dir_all(&venv).unwrap();
    symlink("/bin/sh", venv.join("python")).unwrap();
    let build = world.build_of(&["./bin/web"]);
    fs::create_dir(build.join("bin")).unwrap();
    let script = |interpreter: &Path| {
        let script = format!("#!{}\nexec {BINARY} demo-service\n", interpreter.display());
        fs::write(build.join("bin/web"), script).unwrap();
        fs::set_permissions(build.join("bin/web"), PermissionsExt::from_mode(0o755)).unwrap();
    };
    script(&venv.join("python"));
    let said = world.release_path(&build).expect(0).result();
    let warnings = said["warnings"][0].as_str().unwrap_or_default();
    assert!(warnings.contains("outside of the release"), "{said}");
    let recipe = "command = [\"./bin/python\", \"./bin/web\"]";
    assert!(warnings.contains(recipe), "{warnings}");
    script(Path::new("/gone/python"));
    let why = world.release_path(&build).expect(10).why();
    assert!(why.contains("/gone/python is not there") && why.contains(recipe), "{why}");
    // What is told is then accepted.
    symlink("/usr/bin/env", build.join("bin/env")).unwrap();
    symlink("../bin/sh", build.join("bin/python")).unwrap();
    symlink("/usr/bin/sh", build.join("bin/sh")).unwrap();
    fs::write(build.join("release.toml"), recipe).unwrap();
    world.release_path(&build).expect(0);
}

/// Links into `shared/` are allowed, and what is behind one there is whatever the service's user puts there.
#[test]
fn a_release_toml_that_leads_into_shared_is_not_read() {
    let world = World::new();
    world.release(&[]).expect(0);
    let (secret, there) = (world.path("secret"), world.service_path("shared/settings"));
    fs::write(&secret, "hunter3 = 1\n").unwrap();
    let build = world.build(&[]);
    fs::remove_file(build.join("release.toml")).unwrap();
    symlink(&there, build.join("release.toml")).unwrap();
    symlink(&secret, &there).unwrap();
    let said = world.release_path(&build);
    assert!(said.code == 10 || said.code == 11, "{}", said.stdout);
    assert!(said.why().contains("it is a link; put the file itself"), "{}", said.stdout);
    fs::remove_file(&there).unwrap();
    assert!(Command::new("mkfifo").arg(&there).status().unwrap().success());
    let again = world.release_path(&build);
    assert_eq!(again.code, said.code, "{}", again.stdout);
    assert_eq!(world.answering(), Some(1));
}

/// Nobody but a stranger makes a directory of such a number.
#[test]
fn a_number_that_has_none_after_it_stops_no_release() {
    let world = World::new();
    world.release(&[]).expect(0);
    for dir in ["ops", "releases"] {
        fs::create_dir(world.service_path(dir).join(u64::MAX.to_string())).unwrap();
    }
    assert_eq!(world.release(&[]).expect(0).result()["serving"], 2);
}
