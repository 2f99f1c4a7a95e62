//! The driver `files`: what comes back from a backup, what is left out of it, and what is listed as
//! lost.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::ledger_app::newest_backup;
use crate::world::World;

const BACKUP: &str = "[service.web.backup]\ndriver = \"files\"\npath = \"tree\"";

/// Extended attributes as hexadecimal text; the tools for them are not everywhere.
const ATTRIBUTES: &str = "import os, sys\n\
    def put(path, name, value): os.setxattr(path, name, bytes.fromhex(value))\n\
    def get(path, name): print(os.getxattr(path, name).hex())\n\
    globals()[sys.argv[1]](*sys.argv[2:])";

/// What there is, the shell that makes it in the tree, and the shell that shows it.
const ROUND_TRIPS: [(&str, &str, &str); 17] = [
    ("content", "echo one > plain", "cat plain"),
    ("an empty file", "touch none", "stat -c %s none"),
    (
        "time of a file, to the nanosecond",
        "touch -d '2001-02-03 04:05:06.123456789' plain",
        "stat -c %y plain",
    ),
    (
        "time of a directory",
        "mkdir dated; touch dated/a; touch -d @1000000000 dated",
        "stat -c %y dated",
    ),
    ("modes", "echo x > closed; chmod 0400 closed", "stat -c %a closed"),
    ("owners and set-user-ID", "echo x > su; chown 7:8 su; chmod 6755 su", "stat -c '%a %u:%g' su"),
    (
        "a directory with set-group-ID",
        "mkdir group; chgrp 7 group; chmod 2770 group",
        "stat -c '%a %g' group",
    ),
    (
        "a directory that nobody may write to",
        "mkdir shut; echo x > shut/a; chmod 0555 shut",
        "stat -c %a shut; cat shut/a",
    ),
    (
        "two names of one file",
        "mkdir links; echo x > links/z; ln links/z links/a; ln links/z other",
        "stat -c %h other; test links/a -ef other && test links/z -ef other && echo one",
    ),
    (
        "a symlink that leads nowhere",
        "ln -s ../no/where dangling; touch -h -d @1000000000 dangling; chown -h 7:8 dangling",
        "readlink dangling; stat -c '%Y %u:%g' dangling",
    ),
    ("a symlink to a directory", "ln -s group to-group", "readlink to-group"),
    ("empty directories", "mkdir -p empty/er", "find empty"),
    (
        "holes",
        "truncate -s 32M sparse; printf end >> sparse; truncate -s 40M sparse",
        "stat -c %s sparse; test $(stat -c %b sparse) -lt 1000 && echo holes; sha256sum < sparse",
    ),
    (
        "names with a new line, spaces and quotes",
        "printf x > \"$(printf 'a\\nb')\"; printf y > ' \"  '",
        "find . -maxdepth 1 -type f -print0 | sort -z | sha256sum",
    ),
    (
        "a name that is no text",
        "printf z > \"$(printf 'not\\377text')\"; ln -s \"$(printf '\\376')\" \"$(printf '\\375')\"",
        "cat \"$(printf 'not\\377text')\"; readlink \"$(printf '\\375')\" | sha256sum",
    ),
    (
        "attributes, access lists",
        "echo x > listed; python3 -c \"$ATTRIBUTES\" put listed user.note 6869; \
         python3 -c \"$ATTRIBUTES\" put listed system.posix_acl_access \
         0200000001000600ffffffff020004000700000004000400ffffffff10000400ffffffff20000000ffffffff",
        "python3 -c \"$ATTRIBUTES\" get listed user.note; \
         python3 -c \"$ATTRIBUTES\" get listed system.posix_acl_access",
    ),
    (
        "what a program may do",
        "echo x > able; chmod 755 able; python3 -c \"$ATTRIBUTES\" put able security.capability \
         0100000200040000000000000000000000000000",
        "python3 -c \"$ATTRIBUTES\" get able security.capability",
    ),
];

fn sh(dir: &Path, script: &str) -> String {
    let said = Command::new("sh")
        .args(["-ec", script])
        .current_dir(dir)
        .env("ATTRIBUTES", ATTRIBUTES)
        .output()
        .unwrap();
    assert!(said.status.success(), "{script}: {}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8_lossy(&said.stdout).into_owned()
}

fn world() -> World {
    let world = World::with(BACKUP);
    world.wait("shared", |world| world.service_path("shared").is_dir());
    fs::create_dir(world.service_path("shared/tree")).unwrap();
    world
}

#[test]
fn what_is_in_a_tree_comes_back_as_it_was() {
    let world = world();
    let tree = world.service_path("shared/tree");
    for (_, make, _) in ROUND_TRIPS {
        sh(&tree, make);
    }
    let before = ROUND_TRIPS.map(|(_, _, show)| sh(&tree, show));
    world.release(&[]).expect(0);
    world.cli(&["backup", "web"]).expect(0);
    sh(&tree, "chmod -R u+w .; find . -mindepth 1 -delete; echo other > plain");
    world.cli(&["restore", "web", "--yes"]).expect(0);
    for ((what, _, show), before) in ROUND_TRIPS.iter().zip(before) {
        assert_eq!(sh(&tree, show), before, "{what}");
    }
    // What is beside them is nothing of the tree.
    assert_eq!(fs::read_dir(world.service_path("shared")).unwrap().count(), 1);
}

#[test]
fn what_holds_no_data_is_left_out_and_named() {
    let world = world();
    let tree = world.service_path("shared/tree");
    sh(&tree, "echo x > a; mkdir run; mkfifo run/fifo; mknod device c 1 3");
    let socket = std::os::unix::net::UnixListener::bind(tree.join("socket")).unwrap();
    let said = world.release(&[]).expect(0);
    let left_out = "left out (FIFO, socket or device): device, run/fifo, socket";
    assert!(said.stdout.contains(left_out), "{}", said.stdout);
    let said = world.cli(&["backup", "web", "--json"]).expect(0);
    assert!(said.stdout.contains(left_out), "{}", said.stdout);
    let listed = world.cli(&["backup", "web", "--list", "--json"]).expect(0).result();
    assert_eq!(listed["left_out"], serde_json::json!(["device", "run/fifo", "socket"]));
    drop(socket);
    world.cli(&["restore", "web", "--yes"]).expect(0);
    let left = sh(&tree, "find . | sort");
    assert_eq!(left, ".\n./a\n./run\n");
}

/// A program that waits for a FIFO's writer waits for ever: nobody has opened it when the client is
/// answered.
#[test]
fn a_fifo_in_a_backup_makes_it_a_damaged_one_and_nobody_waits_for_it() {
    let world = world();
    let tree = world.service_path("shared/tree");
    sh(&tree, "echo one > a");
    world.release(&[]).expect(0);
    world.cli(&["backup", "web"]).expect(0);
    let data = world.service_path(&format!("backups/{}/data/tree", newest_backup(&world)));
    sh(&data, "rm a; mkfifo a");
    let said = world.cli(&["restore", "web", "--dry-run", "--json"]).expect(15);
    assert!(said.why().contains("is damaged"), "{}", said.why());
    // Also beside what was copied.
    sh(&data, "rm a; echo one > a; mkfifo ../b");
    let said = world.cli(&["restore", "web", "--yes", "--json"]).expect(15);
    assert!(said.why().contains("is damaged"), "{}", said.why());
    sh(&data, "rm ../b");
    world.cli(&["restore", "web", "--yes", "--json"]).expect(0);
}

#[test]
fn what_is_new_or_was_changed_in_place_is_listed_as_lost() {
    let world = world();
    let tree = world.service_path("shared/tree");
    sh(
        &tree,
        "mkdir d; echo one > d/longer; echo one > d/rewritten; echo one > d/touched; \
         echo one > d/same; ln -s one d/link; printf x > \"$(printf 'd/a\\nb')\"; echo x > gone",
    );
    world.release(&[]).expect(0);
    world.cli(&["backup", "web"]).expect(0);
    sh(
        &tree,
        "echo new > d/other; ln -s x d/other-link; mkfifo d/fifo; echo more >> d/longer; echo two > d/rewritten; touch -d @1000 d/touched d/rewritten; \
         ln -sfn two d/link; printf y > \"$(printf 'd/a\\nb')\"; \
         touch -d @1000 \"$(printf 'd/a\\nb')\"; rm gone",
    );
    let said = world.cli(&["restore", "web", "--dry-run", "--json"]).expect(0);
    let plan = said.stdout.lines().find(|line| line.contains("\"lost\"")).unwrap();
    let plan: serde_json::Value = serde_json::from_str(plan).unwrap();
    let lost: Vec<&str> =
        plan["lost"].as_array().unwrap().iter().filter_map(|line| line.as_str()).collect();
    let of = |what: &str| -> Vec<&str> {
        lost.iter().filter_map(|line| line.strip_suffix(what)?.strip_suffix(": ")).collect()
    };
    let changed = of("changed since");
    assert_eq!(changed, [r#""d/a\nb""#, "d/link", "d/longer", "d/rewritten"], "{lost:?}");
    assert_eq!(of("new since"), ["d/other", "d/other-link"], "{lost:?}");
    assert_eq!(of("no backup holds it (FIFO, socket or device)"), ["d/fifo"], "{lost:?}");
}

/// Sessions, caches, uploads under way: what is there when a directory is listed is gone when it is opened.
#[test]
fn files_that_come_and_go_while_they_are_copied_are_no_failure() {
    let world = world();
    let tree = world.service_path("shared/tree");
    sh(&tree, "echo one > kept; mkdir sessions");
    world.release(&[]).expect(0);
    let sessions = tree.join("sessions");
    let churn = "import os, sys\nos.chdir(sys.argv[1])\nn = 0\nwhile True:\n    \
                 open(str(n), 'w').write('x' * 3000)\n    n += 1\n    \
                 if n > 1000: os.unlink(str(n - 1000))\n    \
                 if n == 1000: open('../full', 'w')\n";
    let churn = Command::new("/usr/bin/python3").args(["-c", churn]).arg(&sessions).spawn();
    let mut churn = churn.unwrap();
    world.wait("there are many", |_| tree.join("full").exists());
    let backups: Vec<_> = (0..3).map(|_| world.cli(&["backup", "web", "--json"])).collect();
    let released = world.release(&[]);
    let alive = churn.try_wait().unwrap().is_none();
    churn.kill().unwrap();
    churn.wait().unwrap();
    assert!(alive, "nothing came and went");
    backups.into_iter().for_each(|said| drop(said.expect(0)));
    released.expect(0);
    sh(&tree, "echo two > kept");
    world.cli(&["restore", "web", "--yes"]).expect(0);
    assert_eq!(sh(&tree, "cat kept; find sessions -type f ! -size 3000c"), "one\n");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let mut world = World::asleep(crate::world::free_address());
    world.configure(&crate::world::config(world.address, BACKUP));
    // As nobody, who can make the backup and not read the file.
    let script = "chown -R 65534:65534 $HALLEY_TEST_WORLD && \
                  exec setpriv --reuid=65534 --regid=65534 --clear-groups \"$@\"";
    world.wake_under(&["sh", "-c", script, "sh"]);
    world.wait("shared", |world| world.service_path("shared").is_dir());
    let tree = world.service_path("shared/tree");
    fs::create_dir(&tree).unwrap();
    sh(&tree, "mkdir d; echo x > d/readable; echo x > d/secret; chmod 600 d/secret");
    world.release(&[]).expect(15);
    sh(&tree, "chmod 644 d/secret");
    world.release(&[]).expect(0);
    sh(&tree, "chmod 600 d/secret");
    let said = world.cli(&["backup", "web", "--json"]).expect(15);
    assert!(said.why().contains(r#""d/secret": Permission denied"#), "{}", said.why());
    sh(&tree, "chmod 644 d/secret; mkdir -m 700 closed");
    let said = world.cli(&["backup", "web", "--json"]).expect(15);
    assert!(said.why().contains(r#"closed": Permission denied"#), "{}", said.why());
}
