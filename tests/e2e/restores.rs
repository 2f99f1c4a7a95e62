//! Restores that do not end well: what was there comes back by renames, nothing that was not announced
//! is lost, and what happened is told.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::ledger_app::{
    BACKUP, Build, Store, Writers, add, count, database, entries, get, is_swept, killed_in_restore,
    patient, save_rows, serve_rows, world, world_of,
};
use crate::mount::Mount;
use crate::world::World;

fn inode(path: &Path) -> u64 {
    path.metadata().unwrap().ino()
}

/// A service with one row in its backup, two more in its database, and a release that does not run on
/// the backup.
fn world_that_cannot_go_back() -> (World, String) {
    let world = patient(BACKUP, "8s");
    let old = save_rows(&world, Store::Sqlite, 1);
    let lax = "[schema]\nprovides = \"1\"\naccepts = [\"0\", \"1\"]";
    let build = Build { version: 1, needs: "id,c1", schema: lax, ..Build::default() };
    world.release_path(&build.write(&world)).expect(0);
    add(&world, 2);
    (world, old)
}

#[test]
fn the_very_file_comes_back_also_when_it_was_not_saved() {
    let (world, old) = world_that_cannot_go_back();
    let before = inode(&database(&world));
    let said = world.cli(&["restore", "web", "--backup", &old, "--yes", "--json"]).expect(20);
    assert!(said.why().contains("the previous data is back"), "{}", said.why());
    world.wait("it answers", |world| get(world.address, "/count").is_ok());
    assert_eq!((inode(&database(&world)), count(&world)), (before, "3".to_owned()));
    let backups = world.service_path("backups");
    let n_before = entries(&backups);
    let words = ["restore", "web", "--backup", &old, "--yes", "--unsaved", "--json"];
    // Nothing is stopped where not even a copy can be made.
    let scratch = world.service_path("scratch");
    let mount = Mount::read_only(&scratch);
    world.cli(&words).expect(15);
    drop(mount);
    // It cannot be backed up: no backup has it.
    let mount = Mount::read_only(&backups);
    let said = world.cli(&words).expect(20);
    assert!(said.stdout.contains("ignored (--unsaved)"), "{}", said.stdout);
    assert!(said.why().contains("the previous data is back"), "{}", said.why());
    drop(mount);
    assert_eq!(entries(&backups), n_before);
    world.wait("it answers", |world| get(world.address, "/count").is_ok());
    assert_eq!((inode(&database(&world)), count(&world)), (before, "3".to_owned()));
    assert!(is_swept(&world));
    assert_eq!(entries(&world.service_path("shared")), 1);
}

#[test]
fn a_supervisor_that_is_killed_in_any_step_loses_nothing() {
    let world = world(BACKUP);
    let old = save_rows(&world, Store::Sqlite, 1);
    add(&world, 2);
    let mut n_told_before = 0;
    for phase in ["restore_rehearsal", "prepare", "stop_old", "count", "backup", "restore", "gate"]
    {
        let expected = count(&world);
        let before = inode(&database(&world));
        killed_in_restore(&world, &old, phase);
        if phase == "gate" {
            // It was proven before the kill.
            assert_eq!(count(&world), "1");
        } else {
            assert_eq!((count(&world), inode(&database(&world))), (expected, before), "{phase}");
        }
        world.wait("scratch is swept", is_swept);
        world.wait("nothing beside it", |world| entries(&world.service_path("shared")) == 1);
        let history = world.cli(&["history", "--json"]).stdout;
        let n_told = history.matches("halley-sup went down in the middle of it").count();
        // With the last it was over.
        assert_eq!(n_told > n_told_before, phase != "gate", "{phase}: {history}");
        n_told_before = n_told;
        let last: Value = serde_json::from_str(history.lines().next().unwrap()).unwrap();
        let outcome = if phase == "gate" { "restored" } else { "not_restored" };
        assert_eq!((&last["outcome"], &last["release"]), (&outcome.into(), &1.into()), "{phase}");
        assert_ne!(last["ms"], 0, "{phase}: {last}");
    }
    // The last cut was after the proof, the ones before are an alarm until a restore goes through.
    world.cli(&["restore", "web", "--backup", &old, "--yes"]).expect(0);
    assert_eq!(world.status()["state"], "running");
}

#[test]
fn who_asked_for_a_restore_that_is_cut_off_is_told_the_truth() {
    let world = world(&waiting_restore());
    save_rows(&world, Store::Sqlite, 1);
    fs::write(world.service_path("hold"), "").unwrap();
    let mut command = world.command(&["restore", "web", "--yes"]);
    let client = command.stderr(Stdio::piped()).spawn().unwrap();
    world.wait("half of it", |world| world.service_path("half").exists());
    world.kill_supervisor();
    let said = client.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(!said.contains("nothing was changed"), "{said}");
    assert!(said.contains("what it had begun is undone before"), "{said}");
    fs::remove_file(world.service_path("hold")).unwrap();
    world.wait("it answers", |world| get(world.address, "/count").is_ok());
    let status = world.status();
    let alarm = status["alarm"]["what"].as_str().unwrap_or_default();
    assert!(alarm.contains("was cut off"), "{status}");
    world.cli(&["restore", "web", "--yes"]).expect(0);
    assert!(world.status()["alarm"].is_null());
}

#[test]
fn a_restore_by_command_leaves_nobody_behind() {
    let take = "cp $HALLEY_SHARED/app.db $HALLEY_BACKUP_DIR/dump";
    // It gives up, and what it began would replace live data later.
    let restore = "[ -n \"$HALLEY_REHEARSAL\" ] || [ -e $HALLEY_SHARED/../behind ] || { setsid sleep 1000 & \
                   echo $! > $HALLEY_SHARED/../behind; exit 3; }; \
                   cp $HALLEY_BACKUP_DIR/dump $HALLEY_SHARED/app.db";
    let world = world(&format!(
        "[service.web.backup]\ndriver = \"command\"\ntake = [\"/bin/sh\", \"-c\", {take:?}]\n\
         restore = [\"/bin/sh\", \"-c\", {restore:?}]"
    ));
    save_rows(&world, Store::Sqlite, 1);
    let said = world.cli(&["restore", "web", "--yes", "--json"]);
    let why = said.expect(15).why();
    assert!(why.contains("backup.restore: exit 3"), "{why}");
    assert_eq!(count(&world), "1");
    let behind = fs::read_to_string(world.service_path("behind")).unwrap();
    assert!(!Path::new("/proc").join(behind.trim()).exists(), "process {behind} goes on");
}

#[test]
fn a_client_hears_of_a_restore_that_can_neither_go_on_nor_back() {
    let take = "cp $HALLEY_SHARED/app.db $HALLEY_BACKUP_DIR/dump";
    // What was set aside cannot be moved back.
    let restore = "[ -z \"$HALLEY_REHEARSAL\" ] && \
                   chattr +i $HALLEY_SHARED/../.shared.before-restore && exit 3; \
                   cp $HALLEY_BACKUP_DIR/dump $HALLEY_SHARED/app.db";
    let backup = format!(
        "[service.web.backup]\ndriver = \"command\"\ntake = [\"/bin/sh\", \"-c\", {take:?}]\n\
         restore = [\"/bin/sh\", \"-c\", {restore:?}]"
    );
    let world = patient(&backup, "3s");
    save_rows(&world, Store::Sqlite, 1);
    add(&world, 1);
    let aside = Immutable(world.service_path(".shared.before-restore"));
    let said = world.cli(&["restore", "web", "--yes", "--json"]).expect(15);
    assert!(said.why().contains("undoing a restore"), "{}", said.why());
    // Held, until it can be moved.
    assert!(world.service_path("restore.json").exists());
    let again = world.cli(&["restore", "web", "--yes", "--json"]).expect(15).why();
    assert!(again.contains("an earlier restore is not undone yet"), "{again}");
    drop(aside);
    world.wait("it answers", |world| get(world.address, "/count").is_ok());
    assert_eq!(count(&world), "2");
}

/// What a restore makes immutable, until the test is over.
struct Immutable(std::path::PathBuf);

impl Drop for Immutable {
    fn drop(&mut self) {
        drop(Command::new("chattr").arg("-i").arg(&self.0).status());
    }
}

#[test]
fn a_service_that_is_stopped_while_its_backup_is_rehearsed_stays_down() {
    // What a rehearsal sees of the world is the backups, and the copy.
    let restore = "if [ -n \"$HALLEY_REHEARSAL\" ]; then touch $HALLEY_SHARED/reached; \
                   while [ -e $HALLEY_BACKUP_DIR/../../hold ]; do sleep 0.1; done; fi; \
                   cp $HALLEY_BACKUP_DIR/dump $HALLEY_SHARED/app.db";
    let take = "cp $HALLEY_SHARED/app.db $HALLEY_BACKUP_DIR/dump";
    let world = world(&format!(
        "[service.web.backup]\ndriver = \"command\"\ntake = [\"/bin/sh\", \"-c\", {take:?}]\n\
         restore = [\"/bin/sh\", \"-c\", {restore:?}]"
    ));
    save_rows(&world, Store::Sqlite, 1);
    add(&world, 1);
    let hold = world.service_path("backups/hold");
    fs::write(&hold, "").unwrap();
    let mut command = world.command(&["restore", "web", "--yes"]);
    let client = command.stderr(Stdio::piped()).spawn().unwrap();
    world.wait("it is rehearsed", |world| {
        let scratch = world.service_path("scratch");
        let found = Command::new("find").arg(scratch).args(["-name", "reached"]).output().unwrap();
        !found.stdout.is_empty()
    });
    world.cli(&["stop", "web"]).expect(0);
    fs::remove_file(&hold).unwrap();
    let said = client.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert_eq!(said.status.code(), Some(10), "{text}");
    assert!(text.contains("it was stopped before connections were held"), "{text}");
    assert_eq!((world.status()["state"].as_str(), world.live_pid()), (Some("stopped"), 0));
    world.cli(&["start", "web"]).expect(0);
    assert_eq!(count(&world), "2");
}

/// Its restore of live data waits as long as there is a file `hold`.
fn waiting_restore() -> String {
    let restore = "if [ -z \"$HALLEY_REHEARSAL\" ] && [ -e $HALLEY_SHARED/../hold ]; then \
                   echo x > $HALLEY_SHARED/app.db; touch $HALLEY_SHARED/../half; sleep 1000; fi; \
                   cp $HALLEY_BACKUP_DIR/dump $HALLEY_SHARED/app.db";
    let take = "cp $HALLEY_SHARED/app.db $HALLEY_BACKUP_DIR/dump";
    format!(
        "[service.web.backup]\ndriver = \"command\"\ntake = [\"/bin/sh\", \"-c\", {take:?}]\n\
         restore = [\"/bin/sh\", \"-c\", {restore:?}]"
    )
}

#[test]
fn with_a_mark_that_cannot_be_removed_nobody_is_let_in() {
    let world = world(BACKUP);
    let old = save_rows(&world, Store::Sqlite, 1);
    add(&world, 2);
    let mark = world.service_path("restore.json");
    let mut command = world.command(&["restore", "web", "--backup", &old, "--yes", "--json"]);
    let mut client = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = std::io::BufReader::new(client.stdout.take().unwrap());
    let mut lines = std::io::BufRead::lines(lines).map_while(Result::ok);
    assert!(lines.any(|line| line.contains("\"phase\":\"restore\"")));
    let mount = Mount::of(&["--bind", &mark.to_string_lossy()], &mark);
    world.wait("it is said", |world| {
        let why = world.status()["why"].to_string();
        why.contains("the record of the restore cannot be removed")
    });
    assert_eq!(world.live_pid(), 0);
    drop(mount);
    world.wait("it answers", |world| get(world.address, "/count").is_ok());
    assert_eq!(count(&world), "3");
    assert!(!mark.exists());
    drop(client.wait());
}

#[test]
fn what_is_lost_is_what_was_announced() {
    let world = world(BACKUP);
    let old = save_rows(&world, Store::Sqlite, 1);
    let writers = Writers::start(world.address);
    world.wait("rows come in", |_| writers.n_acked() > 5);
    let said = world.cli(&["restore", "web", "--backup", &old, "--yes", "--json"]).expect(10);
    assert!(said.why().contains("more would be lost than was announced: rows:"), "{}", said.why());
    assert!(said.why().contains("the data is as it was"), "{}", said.why());
    let next = said.result()["next"][0].to_string();
    assert!(next.contains("--any-loss"), "{next}");
    let (n_acked, errors) = writers.stop();
    assert_eq!(errors, [""; 0], "{}", world.run_log());
    assert_eq!(count(&world), (n_acked + 1).to_string());
    let writers = Writers::start(world.address);
    let words = ["restore", "web", "--backup", &old, "--yes", "--any-loss", "--json"];
    let said = world.cli(&words).expect(0);
    let (_, errors) = writers.stop();
    assert_eq!(errors, [""; 0], "{}", world.run_log());
    assert!(said.stdout.contains("would be lost: rows: "), "{}", said.stdout);
}

#[test]
fn an_alarm_that_a_restore_has_solved_is_gone() {
    let world = world(BACKUP);
    serve_rows(&world, Store::Sqlite, 1);
    let lax = "[schema]\nprovides = \"1\"";
    let build = Build { version: 1, quirks: &["live:break"], schema: lax, ..Build::default() };
    world.release_path(&build.write(&world)).expect(18);
    assert_eq!(world.status()["state"], "degraded");
    let said = world.cli(&["restore", "web", "--dry-run"]).expect(0);
    for text in ["release 1, schema", "taken before a release", "chosen: it is"] {
        assert!(said.stdout.contains(text), "{text}: {}", said.stdout);
    }
    world.cli(&["restore", "web", "--yes", "--json"]).expect(0);
    let status = world.status();
    assert_eq!((&status["state"], &status["alarm"]), (&"running".into(), &serde_json::Value::Null));
    assert!(status["frozen"].is_null(), "{status}");
    assert_eq!(count(&world), "1");
}

/// Sets or reads an extended attribute, or an access list.
fn attribute(path: &Path, name: &str, value: Option<&str>) -> String {
    let script = "import os, sys\npath, name = sys.argv[1:3]\n\
                  if len(sys.argv) > 3: os.setxattr(path, name, bytes.fromhex(sys.argv[3]))\n\
                  print(os.getxattr(path, name).hex())";
    let mut command = Command::new("python3");
    command.args(["-c", script]).arg(path).arg(name).args(value);
    let said = command.output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8_lossy(&said.stdout).trim().to_owned()
}

/// rw for the owner, r for user 7, a mask: as the kernel keeps it (linux/posix_acl_xattr.h).
const ACCESS_LIST: &str = "02000000\
    01000600ffffffff0200040007000000\
    04000400ffffffff10000400ffffffff20000000ffffffff";

#[test]
fn a_linked_file_is_replaced_where_it_is_and_stays_whose_it_was() {
    let world = world(BACKUP);
    let real = world.path("elsewhere");
    fs::create_dir(&real).unwrap();
    world.wait("shared", |world| world.service_path("shared").is_dir());
    std::os::unix::fs::symlink(real.join("real.db"), database(&world)).unwrap();
    serve_rows(&world, Store::Sqlite, 1);
    let real = real.join("real.db");
    // A program that drops its privileges itself.
    std::os::unix::fs::chown(&real, Some(77), Some(78)).unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    attribute(&real, "user.note", Some("6869"));
    attribute(&real, "system.posix_acl_access", Some(ACCESS_LIST));
    world.cli(&["backup", "web"]).expect(0);
    add(&world, 2);
    let before = inode(&real);
    world.cli(&["restore", "web", "--yes"]).expect(0);
    assert_eq!(count(&world), "1");
    assert!(database(&world).is_symlink());
    assert_ne!(inode(&real), before, "it was the real file");
    let meta = real.metadata().unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (77, 78, 0o640));
    assert_eq!(attribute(&real, "user.note", None), "6869");
    assert_eq!(attribute(&real, "system.posix_acl_access", None), ACCESS_LIST);
    let beside = entries(real.parent().unwrap());
    assert_eq!(beside, 1);
}

/// The names beside it must fit as well.
#[test]
fn a_file_with_the_longest_name_is_restored_and_nothing_is_left_beside_it() {
    let world = world(BACKUP);
    world.wait("shared", |world| world.service_path("shared").is_dir());
    let (real, long) = (world.path("elsewhere"), "x".repeat(247));
    fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(real.join(&long), database(&world)).unwrap();
    save_rows(&world, Store::Sqlite, 1);
    add(&world, 1);
    world.cli(&["restore", "web", "--yes"]).expect(0);
    assert_eq!((count(&world), entries(&real)), ("1".to_owned(), 1));
    assert!(is_swept(&world));
}

#[test]
fn a_full_disk_stops_nothing() {
    let world = world(BACKUP);
    world.wait("shared", |world| world.service_path("shared").is_dir());
    let shared = world.service_path("shared");
    let _mount = Mount::tmpfs(&shared, "1m");
    save_rows(&world, Store::Sqlite, 1);
    add(&world, 1);
    let pid = world.live_pid();
    let left = halley_sup::os::fs::free(&shared).unwrap().bytes;
    fs::write(shared.join("full"), vec![0; usize::try_from(left).unwrap() - 4096]).unwrap();
    let said = world.cli(&["restore", "web", "--yes", "--json"]).expect(13);
    assert!(said.why().contains("needs"), "{}", said.why());
    assert_eq!(world.live_pid(), pid, "it was not stopped");
    fs::remove_file(shared.join("full")).unwrap();
    world.cli(&["restore", "web", "--yes", "--json"]).expect(0);
    assert_eq!(count(&world), "1");
}

#[test]
fn a_mount_point_is_not_renamed_and_nothing_is_stopped() {
    let world = world("[service.web.backup]\ndriver = \"files\"\npath = \"uploads\"");
    world.release_path(&Build::default().write(&world)).expect(0);
    let uploads = world.service_path("shared/uploads");
    fs::create_dir(&uploads).unwrap();
    let _mount = Mount::tmpfs(&uploads, "1m");
    fs::write(uploads.join("a"), "one").unwrap();
    world.cli(&["backup", "web"]).expect(0);
    fs::write(uploads.join("a"), "two").unwrap();
    let pid = world.live_pid();
    let said = world.cli(&["restore", "web", "--yes", "--json"]).expect(15);
    assert!(said.why().contains("something is mounted there"), "{}", said.why());
    assert_eq!(world.live_pid(), pid, "it was not stopped");
    assert_eq!(fs::read_to_string(uploads.join("a")).unwrap(), "two");
}

#[test]
fn a_restore_that_is_cut_off_is_in_a_notification() {
    let lines = |world: &World| {
        let told = world.path("told");
        format!(
            "{BACKUP}\n[notify.file]\ncommand = [\"/bin/sh\", \"-c\", \"cat >> {0}; echo >> {0}\"]\n\
             events = [\"failed\"]\n",
            told.display()
        )
    };
    let world = world_of(lines, "12s", "");
    let old = save_rows(&world, Store::Sqlite, 1);
    add(&world, 1);
    killed_in_restore(&world, &old, "backup");
    let told = || fs::read_to_string(world.path("told")).unwrap_or_default();
    world.wait("it is told", |_| told().contains("was cut off"));
    let lines: Vec<serde_json::Value> =
        told().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let cut_off = format!("web: the restore of backup {old} was cut off");
    let events = lines.iter().filter(|line| line.to_string().contains(&cut_off));
    let events: Vec<&serde_json::Value> = events.map(|line| &line["event"]).collect();
    assert_eq!(events, ["failed"], "{lines:?}");
}

#[test]
fn live_data_that_cannot_be_saved_is_replaced_only_when_that_is_asked_for() {
    let world = world(BACKUP);
    save_rows(&world, Store::Sqlite, 1);
    add(&world, 2);
    let backups = world.service_path("backups");
    let n_before = entries(&backups);
    let mount = Mount::read_only(&backups);
    let said = world.cli(&["restore", "web", "--yes", "--json"]).expect(15);
    let why = said.why();
    assert!(why.contains("the live data cannot be backed up"), "{why}");
    assert!(why.contains("--unsaved restores without"), "{why}");
    world.wait("it answers", |world| get(world.address, "/count").is_ok());
    assert_eq!(count(&world), "3");
    let said = world.cli(&["restore", "web", "--yes", "--unsaved", "--json"]).expect(0);
    assert!(said.stdout.contains("ignored (--unsaved)"), "{}", said.stdout);
    drop(mount);
    assert_eq!((count(&world), entries(&backups)), ("1".to_owned(), n_before));
    assert!(is_swept(&world));
}

/// No release runs on the data as it is, so that a rollback is tried again and again: the backup is the
/// way out.
#[test]
fn a_restore_ends_a_rollback_that_cannot_succeed() {
    let world = patient(&format!("{BACKUP}\n[service.web.keep]\nstandby = \"0s\""), "3s");
    let old = save_rows(&world, Store::Sqlite, 2);
    world.release_path(&Build::default().write(&world)).expect(0);
    world.wait("only the live one is left", World::is_alone);
    fs::write(database(&world), "no database").unwrap();
    crate::world::kill(world.live_pid(), libc::SIGKILL);
    let mut client = world.command(&["rollback", "web"]).spawn().unwrap();
    world.wait("it is loud", |world| !world.status()["alarm"].is_null());
    client.kill().unwrap();
    client.wait().unwrap();
    let words = ["restore", "web", "--backup", &old, "--json"];
    world.cli(&[&words[..], &["--dry-run"]].concat()).expect(0);
    assert_eq!(world.status()["operation"]["kind"], "rollback", "a look ends nothing");
    world.cli(&[&words[..], &["--yes", "--unsaved", "--any-loss"]].concat()).expect(0);
    assert_eq!(count(&world), "2");
    let status = world.status();
    let (state, operation) = (&status["state"], &status["operation"]);
    assert_eq!(
        (state, operation, &status["alarm"]),
        (&"running".into(), &Value::Null, &Value::Null)
    );
}
