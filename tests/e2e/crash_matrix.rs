//! `kill -9` of the keeper, or of keeper and supervisor, at every record of an operation's journal: what
//! is left is exactly one of the old that serves and the new that is committed.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use halley_sup::demo::ledger::Ledger;
use halley_sup::demo::load::Shape;
use serde_json::Value;

use crate::ledger_app::{entries, is_swept, newest_backup};
use crate::trio::Trio;
use crate::world::{World, config, free_address};

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Killed {
    Keeper,
    Both,
}

/// What is killed in the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    Release,
    /// A release that turns bad and goes back.
    Bad,
    Hold,
    Rollback,
    Restart,
}

pub const WORKS: [Work; 5] = [Work::Release, Work::Bad, Work::Hold, Work::Rollback, Work::Restart];

impl Work {
    fn world(self) -> World {
        let mut world = World::asleep(free_address());
        let text = config(world.address, "");
        let text = match self {
            Self::Hold => text
                .replace("handoff", "")
                .replace("[service.web.health]", "strategy = \"hold\"\n[service.web.health]"),
            _ => text,
        };
        world.configure(&text);
        world.wake();
        if self == Self::Bad {
            world.bake("200ms", "20s");
        }
        for _ in 0..self.n_before() {
            world.release(self.behaviour()).expect(0);
        }
        world
    }

    fn n_before(self) -> u64 {
        if self == Self::Rollback { 2 } else { 1 }
    }

    fn behaviour(self) -> &'static [&'static str] {
        if self == Self::Hold { &["alone"] } else { &[] }
    }

    fn arguments(self, world: &World) -> Vec<String> {
        let words = match self {
            Self::Rollback => vec!["rollback".to_owned(), "web".to_owned()],
            Self::Restart => vec!["restart".to_owned(), "web".to_owned()],
            Self::Release | Self::Bad | Self::Hold => {
                let mut behaviour = self.behaviour().to_vec();
                behaviour.extend((self == Self::Bad).then_some("bad-after-times=5"));
                let build = world.build(&behaviour).to_string_lossy().into_owned();
                vec!["release".to_owned(), "web".to_owned(), build]
            }
        };
        words.into_iter().chain(["--json".to_owned()]).collect()
    }

    /// What may serve afterwards.
    fn ends(self) -> BTreeSet<u64> {
        match self {
            Self::Bad | Self::Restart => [1].into(),
            _ => [1, 2].into(),
        }
    }

    fn journal(self, world: &World) -> String {
        let path = format!("ops/{:07}/journal.ndjson", self.n_before() + 1);
        fs::read_to_string(world.service_path(&path)).unwrap_or_default()
    }

    /// All records that its journal gets, but the last one.
    pub fn records(self) -> Vec<String> {
        let world = self.world();
        let arguments = self.arguments(&world);
        world.cli(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        let mut all = Vec::new();
        for line in self.journal(&world).lines() {
            let record: Value = serde_json::from_str(line).unwrap();
            let text = |key: &str| record[key].as_str().unwrap_or_default().to_owned();
            let record = format!(r#""phase":"{}","state":"{}""#, text("phase"), text("state"));
            if text("phase") != "done" && line.contains(&record) && !all.contains(&record) {
                all.push(record);
            }
        }
        all
    }
}

/// Kills when the journal has this record, and looks at what comes of it.
pub fn killed_at(work: Work, record: &str, killed: Killed) -> Ledger {
    let what = format!("{work:?} {record} {killed:?}");
    let mut world = work.world();
    let load = world.load(Shape::ShortFast);
    let arguments = work.arguments(&world);
    let mut command = world.command(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let client = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    world.wait(&what, |world| {
        let journal = work.journal(world);
        journal.contains(record) || journal.contains(r#""phase":"done""#)
    });
    match killed {
        Killed::Keeper => world.kill_keeper(),
        Killed::Both => {
            world.kill_both();
            world.wake();
        }
    }
    client.wait_with_output().unwrap();
    world.wait("it is settled", |world| {
        let status = world.status();
        status["operation"].is_null() && status["trial"].is_null() && status["state"] == "running"
    });
    let status = world.status();
    assert_eq!(status["serving"], status["last_good"], "{what}: {status}");
    let serving = status["serving"].as_u64().unwrap();
    assert!(work.ends().contains(&serving), "{what}: {status}");
    assert_eq!(world.answering(), Some(serving), "{what}");
    let ledger = load.stop();
    if work == Work::Bad {
        world.bake("20s", "200ms");
    }
    world.release(work.behaviour()).expect(0);
    let live = world.status()["serving"].as_u64();
    assert_eq!(world.answering(), live, "{what}");
    if killed == Killed::Keeper {
        assert_eq!(ledger.n_lost(), 0, "{what}: {}\n{}", ledger.losses(), world.run_log());
    }
    ledger
}

/// Those that start, steer, commit and stop; the benchmark goes through all of them.
const CHOSEN: [(Work, &str, &str, Killed); 8] = [
    (Work::Release, "start", "start", Killed::Both),
    (Work::Release, "flip", "ok", Killed::Both),
    (Work::Bad, "back_flip:0", "start", Killed::Both),
    (Work::Hold, "stop_old", "ok", Killed::Both),
    (Work::Rollback, "back_commit:0", "start", Killed::Both),
    (Work::Hold, "stop_old", "start", Killed::Keeper),
    (Work::Rollback, "back_flip:0", "start", Killed::Keeper),
    (Work::Restart, "flip", "start", Killed::Keeper),
];

fn killed_at_chosen(work: Work) {
    let records = work.records();
    for (_, phase, state, killed) in CHOSEN.into_iter().filter(|(of, ..)| *of == work) {
        let record = format!(r#""phase":"{phase}","state":"{state}""#);
        assert!(records.contains(&record), "{record}: {records:?}");
        killed_at(work, &record, killed);
    }
}

#[test]
fn a_kill_at_a_record_ends_in_old_or_new() {
    WORKS.into_iter().filter(|work| *work != Work::Hold).for_each(killed_at_chosen);
}

/// While the old one is stopped and the new one does not run yet, nobody has the listener.
#[test]
fn so_does_a_kill_while_connections_are_held() {
    killed_at_chosen(Work::Hold);
}

/// What a restore tells that it is at. Its record is a file, so it is killed by what its client hears.
pub const IN_RESTORE: [&str; 7] =
    ["restore_rehearsal", "prepare", "stop_old", "count", "backup", "restore", "gate"];

/// A stack with one release, and a directory of files.
pub fn with_files() -> World {
    let world = World::with("[service.web.backup]\ndriver = \"files\"\npath = \"tree\"");
    world.wait("shared", |world| world.service_path("shared").is_dir());
    fs::create_dir(world.service_path("shared/tree")).unwrap();
    fs::write(world.service_path("shared/tree/a"), "new").unwrap();
    world.release(&[]).expect(0);
    world
}

/// Kills in a phase of a restore; what was there is there, or what is restored, and nothing else. Returns
/// which of the two.
pub fn killed_in_restore(world: &mut World, phase: &str, killed: Killed) -> (String, Ledger) {
    let what = format!("restore {phase} {killed:?}");
    let (tree, file) = (world.service_path("shared/tree"), world.service_path("shared/tree/a"));
    fs::write(&file, "old").unwrap();
    world.cli(&["backup", "web"]).expect(0);
    let backup = newest_backup(world);
    fs::write(&file, "new").unwrap();
    let load = world.load(Shape::ShortFast);
    let mut client = world.command(&["restore", "web", "--backup", &backup, "--yes", "--json"]);
    let mut client = client.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let told = BufReader::new(client.stdout.take().unwrap());
    let mut told = told.lines().map_while(Result::ok);
    let wanted = format!("\"phase\":\"{phase}\"");
    assert!(told.any(|line| line.contains(&wanted)), "{what}: {}", world.run_log());
    match killed {
        Killed::Keeper => world.kill_keeper(),
        Killed::Both => {
            world.kill_both();
            world.wake();
        }
    }
    drop(client.kill());
    drop(client.wait());
    let mark = world.service_path("restore.json");
    world.wait(&what, |world| {
        let is_at_rest = !mark.exists() && world.status()["operation"].is_null();
        is_at_rest && world.answering() == Some(1)
    });
    world.wait("scratch is swept", is_swept);
    world.wait("nothing beside it", |_| entries(tree.parent().unwrap()) == 1);
    assert_eq!(entries(&tree), 1, "{what}");
    let ledger = load.stop();
    if killed == Killed::Keeper {
        assert_eq!(ledger.n_lost(), 0, "{what}: {}\n{}", ledger.losses(), world.run_log());
    }
    (fs::read_to_string(file).unwrap(), ledger)
}

#[test]
fn a_restore_whose_keeper_or_all_of_it_is_killed_ends_in_before_or_restored() {
    for killed in [Killed::Keeper, Killed::Both] {
        let mut world = with_files();
        for phase in IN_RESTORE {
            let (end, _) = killed_in_restore(&mut world, phase, killed);
            let ends: &[&str] = if phase == "gate" { &["old", "new"] } else { &["new"] };
            assert!(ends.contains(&end.as_str()), "{phase} {killed:?}: {end}");
        }
        world.cli(&["restore", "web", "--yes", "--any-loss"]).expect(0);
        world.release(&[]).expect(0);
        assert_eq!(
            (world.status()["state"].as_str(), world.answering()),
            (Some("running"), Some(2))
        );
    }
}

/// All old or all new.
#[test]
fn a_set_whose_keeper_or_all_of_it_is_killed_ends_in_all_new_or_all_old() {
    for killed in [Killed::Keeper, Killed::Both] {
        let mut trio = Trio::new().released();
        let loads = trio.loads();
        let client = trio.command([""; 3]).stdout(Stdio::null()).spawn().unwrap();
        let line = r#""step":"begin","index":1,"kind":"release""#;
        trio.world.wait(line, |_| trio.journal(2).contains(line));
        match killed {
            Killed::Keeper => trio.world.kill_keeper(),
            Killed::Both => {
                trio.world.kill_both();
                trio.world.wake();
            }
        }
        client.wait_with_output().unwrap();
        trio.world.wait("the set is over", |_| trio.journal(2).contains(r#""step":"done""#));
        let serving = trio.serving();
        assert!(serving == [1; 3] || serving == [2; 3], "{killed:?}: {serving:?}");
        trio.nothing_was_lost(loads);
    }
}
