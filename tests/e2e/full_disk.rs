//! A full disk: a release is refused, and everything that leads out works. Each test has a file system of
//! its own, which it fills to the last byte or the last inode.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use halley_sup::core::ids::OpId;
use halley_sup::demo::load::{Load, Shape};
use halley_sup::store::journal::{self, Intent, Journal, Record};
use halley_sup::store::layout::Layout;
use halley_sup::store::reserve;

use crate::world::{World, config, free_address, kill};

/// A small file system that ends with the test.
pub struct Disk(tempfile::TempDir);

impl Disk {
    pub fn tmpfs(options: &str) -> Self {
        Self::mounted(tempfile::tempdir().unwrap(), &["-t", "tmpfs", "-o", options, "none"])
    }

    pub fn ext4() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().with_extension("img");
        File::create(&image).unwrap().set_len(48 << 20).unwrap();
        let made = Command::new("mkfs.ext4")
            .args(["-q", "-m", "0", "-N", "2000"])
            .arg(&image)
            .status()
            .unwrap();
        assert!(made.success());
        let disk = Self::mounted(dir, &["-o", "loop", &image.to_string_lossy()]);
        fs::remove_file(image).unwrap();
        disk
    }

    fn mounted(dir: tempfile::TempDir, words: &[&str]) -> Self {
        assert!(Command::new("mount").args(words).arg(dir.path()).status().unwrap().success());
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes the last byte, and the last inode.
    pub fn fill(&self) {
        let file = File::options().append(true).create(true).open(self.path().join("hungry"));
        if let Ok(mut file) = file {
            for size in [1 << 20, 1 << 12, 1] {
                while file.write_all(&vec![1; size]).is_ok() {}
            }
        }
        let files = self.path().join("many");
        drop(fs::create_dir(&files));
        let n_files = fs::read_dir(&files).map_or(0, Iterator::count);
        (n_files..).take_while(|n| File::create(files.join(n.to_string())).is_ok()).for_each(drop);
    }

    /// As a kernel leaves a file system that it has found an error on.
    fn turn_read_only(&self) {
        let aborted = Command::new("mount").args(["-o", "remount,abort"]).arg(self.path()).status();
        assert!(aborted.is_ok_and(|status| status.success()));
        assert!(File::create(self.path().join("any")).is_err(), "it is still written to");
    }

    pub fn empty(&self) {
        drop(fs::remove_file(self.path().join("hungry")));
        drop(fs::remove_dir_all(self.path().join("many")));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("-l").arg(self.path()).status();
        assert!(done.is_ok_and(|status| status.success()));
    }
}

/// A stack whose root is on the disk.
pub fn world_on(disk: &Disk) -> World {
    let mut world = World::asleep(free_address());
    std::os::unix::fs::symlink(disk.path(), world.path("root")).unwrap();
    world.configure(&config(world.address, ""));
    world.wake();
    world
}

fn every_way_out_works_on(disk: &Disk) {
    let mut world = world_on(disk);
    for _ in 0..3 {
        world.release(&[]).expect(0);
    }
    let load = world.load(Shape::Short);
    disk.fill();
    let said = world.release(&[]).expect(13);
    assert!(said.result()["next"].as_array().is_some_and(|next| !next.is_empty()), "{said:?}");
    let rollback = ["rollback", "web", "--json"];
    // Warm, then cold, each on a disk that has not one byte more.
    disk.fill();
    assert_eq!(world.cli(&rollback).expect(0).result()["serving"], 2);
    disk.fill();
    assert_eq!(world.cli(&rollback).expect(0).result()["serving"], 1);
    disk.fill();
    let before = world.live_pid();
    world.cli(&["restart", "web", "--json"]).expect(0);
    assert_ne!(world.live_pid(), before);
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
    disk.fill();
    world.release(&[]).expect(13);
    assert_eq!(world.status()["serving"], 1);
    for verb in ["stop", "start"] {
        disk.fill();
        world.cli(&[verb, "web", "--json"]).expect(0);
    }
    assert!(world.cli(&["logs", "web"]).code == 0 && world.cli(&["history"]).code == 0);
    disk.fill();
    world.power_cut();
    world.wake();
    world.wait("it is up again", |world| world.answering() == Some(1));
    disk.empty();
    world.release(&["lines=1"]).expect(0);
    let reserve = fs::read_dir(world.service_path("reserve")).unwrap().count();
    assert_eq!(reserve, 48, "the reserve is whole again");
    assert!(!world.run_log().contains("damaged"), "{}", world.run_log());
    // What the full disk did not take is in the history all the same, and once.
    world.wait("the history is whole", |world| {
        let history = fs::read_to_string(world.path("root/history.ndjson")).unwrap_or_default();
        let count = |kind: &str| history.matches(&format!("\"kind\":\"{kind}\"")).count();
        (count("rollback"), count("restart")) == (2, 1)
    });
}

/// Two releases of a world whose disk turned read-only beside its callers.
fn turned_read_only(disk: &Disk) -> (World, Load) {
    let world = world_on(disk);
    for _ in 0..2 {
        world.release(&[]).expect(0);
    }
    let load = world.load(Shape::Short);
    disk.turn_read_only();
    (world, load)
}

#[test]
fn a_disk_that_turns_read_only_fails_a_release_and_takes_nothing_that_serves_away() {
    let disk = Disk::ext4();
    let (world, load) = turned_read_only(&disk);
    let said = world.release(&[]);
    assert!([1, 13].contains(&said.code), "{said:?}");
    assert_eq!(world.status()["serving"], 2);
    // A process that dies is started again, a supervisor that dies comes back. What the process was
    // answering dies with it.
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
    let live = world.live_pid();
    kill(live, libc::SIGKILL);
    world.wait("it is started again", |world| ![0, live].contains(&world.live_pid()));
    world.wait("it answers", |world| world.answering() == Some(2));
    let load = world.load(Shape::Short);
    let before = world.supervisor_pid();
    world.kill_supervisor();
    world.wait("another supervisor manages it", |world| {
        world.supervisor_pid().is_some_and(|pid| Some(pid) != before)
            && world.cli(&["status"]).code == 0
            && world.status()["serving"] == 2
    });
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
    world.cli(&["logs", "web"]).expect(0);
    world.cli(&["history", "web"]).expect(0);
    let stopped = world.cli(&["stop", "web", "--json"]).expect(0).result();
    assert!(
        stopped["warnings"][0].as_str().unwrap().contains("a reboot would start it"),
        "{stopped}"
    );
}

/// What it needs while it runs is in the runtime directory then.
#[test]
fn a_boot_on_a_read_only_disk_serves_and_says_why_nothing_can_be_changed() {
    let disk = Disk::ext4();
    let mut world = world_on(&disk);
    for _ in 0..2 {
        world.release(&[]).expect(0);
    }
    assert!(world.sleep());
    let mount = |how: &str| {
        let mounted = Command::new("mount").args(["-o", how]).arg(disk.path()).status();
        assert!(mounted.is_ok_and(|status| status.success()), "{how}");
    };
    mount("remount,ro");
    world.wake();
    world.wait("it serves", |world| world.answering() == Some(2));
    assert_eq!(world.status()["serving"], 2);
    let warned = world.cli(&["status", "--json"]).expect(0).result()["warnings"].to_string();
    assert!(warned.contains("is read-only"), "{warned}");
    // What it writes is read, and a process that ends comes again.
    let live = world.live_pid();
    kill(live, libc::SIGKILL);
    world.wait("it is started again", |world| ![0, live].contains(&world.live_pid()));
    world.wait("it answers", |world| world.answering() == Some(2));
    world.kill_supervisor();
    world.wait("it is managed again", |world| world.status()["state"] == "running");
    // A rollback moves the callers, and waits for the disk with its commit.
    let mut client = waiting_rollback(&world);
    assert_eq!(world.answering(), Some(1));
    // Another one finds that the root is taken.
    let second = world.command(&["run"]).output().unwrap();
    assert_eq!(second.status.code(), Some(9), "{second:?}");
    mount("remount,rw");
    let second = world.command(&["run"]).output().unwrap();
    assert_eq!(second.status.code(), Some(9), "{second:?}");
    world.wait("it is committed", |world| world.status()["last_good"] == 1);
    assert!(client.wait().unwrap().success());
    assert!(world.sleep());
    world.wake();
    let back = world.cli(&["rollback", "web", "--to", "2", "--json"]).expect(0);
    assert_eq!(back.result()["serving"], 2);
    drop(halley_sup::os::fs::remove_tree(&halley_sup::os::fs::refuge(&world.path("root"))));
}

/// The client of a rollback that has moved the callers, and whose commit waits for the disk.
fn waiting_rollback(world: &World) -> Child {
    let mut client = world.command(&["rollback", "web"]);
    let client = client.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    world.wait("it is back", |world| world.status()["serving"] == 1);
    world.wait("it is said what waits", |world| {
        world.status()["why"].as_str().is_some_and(|why| why.contains("Read-only"))
    });
    client
}

#[test]
fn a_disk_that_turns_read_only_takes_no_rollback_away() {
    let disk = Disk::ext4();
    let (world, load) = turned_read_only(&disk);
    let mut client = waiting_rollback(&world);
    assert_eq!(world.answering(), Some(1));
    let refused = world.cli(&["restart", "web"]).expect(9);
    assert!(refused.stderr.contains("Read-only"), "{}", refused.stderr);
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
    client.kill().unwrap();
    client.wait().unwrap();
}

#[test]
fn a_disk_without_a_byte_takes_no_way_out_away() {
    every_way_out_works_on(&Disk::tmpfs("size=24m,nr_inodes=4000"));
}

#[test]
fn a_disk_without_an_inode_takes_no_way_out_away() {
    every_way_out_works_on(&Disk::tmpfs("size=24m,nr_inodes=2000"));
}

#[test]
fn a_full_ext4_takes_no_way_out_away() {
    every_way_out_works_on(&Disk::ext4());
}

#[test]
fn a_stop_needs_no_disk_at_all_and_says_what_is_missing() {
    let disk = Disk::tmpfs("size=24m,nr_inodes=4000");
    let world = world_on(&disk);
    world.release(&[]).expect(0);
    fs::remove_dir_all(world.service_path("reserve")).unwrap();
    disk.fill();
    let said = world.cli(&["stop", "web", "--json"]).expect(0).result();
    assert!(said["warnings"][0].as_str().unwrap().contains("a reboot would start it"), "{said}");
    assert_eq!(world.status()["state"], "stopped");
    disk.empty();
    // What was not written is written with the next record.
    world.cli(&["freeze", "web"]).expect(0);
    let state = fs::read_to_string(world.service_path("state.json")).unwrap();
    assert!(state.contains("\"stopped\": true"), "{state}");
    world.cli(&["start", "web", "--json"]).expect(0);
}

fn intent() -> Intent {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/journal-v1.ndjson");
    let text = fs::read_to_string(fixture).unwrap();
    serde_json::from_str(text.lines().next().unwrap()).unwrap()
}

#[test]
fn a_line_that_a_full_disk_cuts_is_not_there_and_the_next_one_is() {
    let disk = Disk::tmpfs("size=1m,nr_inodes=200");
    let paths = Layout::new(disk.path()).service(&"web".parse().unwrap());
    paths.create().unwrap();
    let op = OpId(107);
    let mut journal = Journal::create(&paths, &intent()).unwrap();
    disk.fill();
    let record = |n: usize| Record::start(&format!("gate{n}{}", "x".repeat(300)), "asked", None);
    let n_before = (0..).take_while(|n| journal.announce(&record(*n)).is_ok()).count();
    assert!(n_before > 10, "room was taken beforehand");
    assert!(journal.announce(&record(n_before)).is_err());
    let n_read = || journal::read(&paths, op).unwrap().unwrap().1.len();
    assert_eq!(n_read(), n_before);
    assert!(fs::read_to_string(journal::path(&paths, op)).unwrap().ends_with("}\n"));
    disk.empty();
    journal.announce(&record(n_before)).unwrap();
    assert_eq!(n_read(), n_before + 1);
    // The room that was not used is given back with the end.
    reserve::fill(&paths.reserve());
    drop(journal);
    let mut journal = Journal::reopen(&paths, op).unwrap();
    journal.announce(&record(n_before + 1)).unwrap();
    assert_eq!(n_read(), n_before + 2);
}

#[test]
fn a_journal_with_half_a_line_in_the_middle_is_read_and_gone_on_with() {
    let world = World::new();
    world.release(&[]).expect(0);
    world.release(&[]).expect(0);
    let path = world.service_path("ops/0000002/journal.ndjson");
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let half = |line: &str| line[..line.len() / 2].to_owned();
    // As a full disk has left it: half a line, the next one behind it; and one on a line of its own.
    let last = lines.len() - 1;
    let mut torn: Vec<String> = lines[..last - 1].iter().map(|line| (*line).to_owned()).collect();
    torn.push(half(lines[last - 1]) + lines[last - 1]);
    torn.push(half(lines[last]));
    torn.push(half(lines[last]) + lines[last]);
    fs::write(&path, torn.join("\n") + "\n").unwrap();
    world.kill_supervisor();
    world.wait("it is managed again", |world| world.status()["state"] == "running");
    world.wait("it is said", |world| world.run_log().contains("half a line"));
    world.cli(&["rollback", "web", "--json"]).expect(0);
}
