//! The rooms of the supervisor from the bottom up: each may use those below it, and says at its
//! door what it must never do.

use super::File;
use super::graph::Graph;

/// A room of `src/supervisor` and its rule, the lowest room first. The first and the last two are files.
const ROOMS: &[(&str, &str)] = &[
    ("spawn", "begins what runs beside; knows nothing of it"),
    ("processes", "asks the keeper or the host for a process; knows no service"),
    ("sockets", "listeners, slots, relays; knows no release"),
    ("proxy", "drivers of outside proxies; knows addresses alone"),
    ("notify", "delivers messages; does not know what they are about"),
    ("service", "state of a service; starts nothing"),
    ("tasks", "programs that run once; decides nothing from their end"),
    ("health", "asks an instance and returns the result; changes nothing"),
    ("instances", "start, restart, retire, scale; decides nothing about releases"),
    ("bake", "watches and returns a verdict; acts on none"),
    ("rollback_readiness", "whether a rollback would work; steers nothing"),
    ("data", "backup, migration, restore; ends no release"),
    ("operation", "one release from admission to conclusion"),
    ("release_set", "several releases as one; touches no process itself"),
    ("upgrade", "Halley itself is replaced; touches no service"),
    ("control", "reads a request and calls the room that performs it"),
    ("run", "boot and the main loop"),
    ("mod", "the process: its arguments, its runtime, its exit code"),
];

/// What a room's documentation must contain, so that the sentence with its limit is there.
const LIMIT: &str = "must never";

/// Arrows from a room to one that is above it.
pub fn upward(graph: &Graph) -> Vec<String> {
    let mut upward = Vec::new();
    for (path, line, used) in graph.arrows() {
        let (Some(from), Some(to)) = (place(path), place(used)) else { continue };
        if to > from {
            let ((name, rule), (above, _)) = (ROOMS[from], ROOMS[to]);
            upward.push(format!("{path}:{line}: {name} ({rule}) is below {above}: {used}"));
        }
    }
    upward
}

/// Rooms without a row, and rows without a room.
pub fn unlisted(files: &[File]) -> Vec<String> {
    let rooms: Vec<_> = files.iter().filter_map(|file| room(&file.path)).collect();
    let has_row = |name: &str| ROOMS.iter().any(|(row, _)| *row == name);
    let mut without: Vec<_> = rooms.iter().filter(|name| !has_row(name)).collect();
    without.dedup();
    let without =
        without.into_iter().map(|name| format!("{name} has no row in the table of rooms"));
    let stale = ROOMS.iter().filter(|(name, _)| !rooms.contains(name));
    without.chain(stale.map(|(name, _)| format!("the row {name} has no room"))).collect()
}

/// A door is the `mod.rs` of a room, anywhere in the crate but below a room of the supervisor.
pub fn is_door(path: &str) -> bool {
    let Some(folders) = path.strip_prefix("src/").and_then(|rest| rest.strip_suffix("/mod.rs"))
    else {
        return false;
    };
    let depth = folders.split('/').count();
    depth == 1 || (depth == 2 && folders.starts_with("supervisor/"))
}

/// What a door does not say.
pub fn silent_door(file: &File) -> Vec<String> {
    let doc: String = file.text.lines().map_while(|line| line.strip_prefix("//!")).collect();
    let mut complaints = Vec::new();
    if doc.trim().is_empty() {
        complaints.push("1: does not begin with what the room is".to_owned());
    } else if !doc.contains(LIMIT) {
        complaints.push(format!("1: no sentence with \"{LIMIT}\": what is not done here?"));
    }
    complaints
}

/// Height of the room that a file is in.
fn place(path: &str) -> Option<usize> {
    let room = room(path)?;
    ROOMS.iter().position(|(name, _)| *name == room)
}

fn room(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("src/supervisor/")?;
    rest.split('/').next().map(|name| name.trim_end_matches(".rs"))
}

#[test]
fn an_arrow_to_a_room_above_is_seen() {
    let graph = Graph::of(&super::example(&[
        ("src/supervisor/mod.rs", "use crate::supervisor::run;"),
        ("src/supervisor/run.rs", "use super::service::S;"),
        ("src/supervisor/service/mod.rs", "use crate::os;\nuse super::operation::Operation;"),
        ("src/supervisor/operation/mod.rs", "use crate::supervisor::service::Service;"),
        ("src/supervisor/sockets/relay.rs", "use crate::supervisor::sockets::slots;"),
        ("src/supervisor/sockets/slots.rs", "use super::super::VERB;"),
        ("src/os/mod.rs", "use crate::supervisor::run;"),
    ]));
    let upward = upward(&graph);
    assert_eq!(upward.len(), 2, "{upward:?}");
    assert!(upward[0].starts_with("src/supervisor/service/mod.rs:2: service ("), "{upward:?}");
    assert!(upward[0].ends_with("is below operation: src/supervisor/operation/mod.rs"));
    assert!(upward[1].contains("is below mod: src/supervisor/mod.rs"), "{upward:?}");
}

#[test]
fn a_room_needs_a_row_and_a_row_a_room() {
    let all: Vec<_> =
        ROOMS.iter().map(|(name, _)| format!("src/supervisor/{name}/mod.rs")).collect();
    let mut texts: Vec<_> = all.iter().map(|path| (path.as_str(), "")).collect();
    assert_eq!(unlisted(&super::example(&texts)), [""; 0]);
    texts[0].0 = "src/supervisor/attic/a.rs";
    texts.push(("src/supervisor/attic/b.rs", ""));
    let expected = ["attic has no row in the table of rooms", "the row spawn has no room"];
    assert_eq!(unlisted(&super::example(&texts)), expected);
}

#[test]
fn a_door_without_its_limit_is_seen() {
    for (text, n_complaints) in [
        ("//! Health.\n//!\n//! It must never change anything.\npub mod a;", 0),
        ("//! Health.\n//! It must\n//! never rest.\npub mod a;", 0),
        ("//! Health.\npub mod a; // must never", 1),
        ("pub mod a;\n//! must never", 1),
    ] {
        let file = super::example(&[("src/supervisor/health/mod.rs", text)]).remove(0);
        assert_eq!(silent_door(&file).len(), n_complaints, "{text}");
    }
    let doors = ["src/os/mod.rs", "src/supervisor/mod.rs", "src/supervisor/health/mod.rs"];
    assert!(doors.into_iter().all(is_door));
    let others = ["src/lib.rs", "src/os/fs.rs", "src/cli/render/mod.rs", "src/supervisor/run.rs"];
    assert!(!others.into_iter().any(is_door));
}
