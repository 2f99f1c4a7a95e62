//! The house rules that the compiler does not hold: arrows between rooms and between files, where
//! `unsafe` and clocks may stand, sizes, forbidden words, and that the docs and the code agree.
//!
//! Each rule is a function from text to complaints, with an example of what it catches: a rule that
//! cannot complain is no rule.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on must stop")]

mod arrows;
mod beneath;
mod code;
mod docs;
mod graph;
mod job;
mod paths;
mod ratchets;
mod rooms;
mod verbs;
mod words;

use std::fs;
use std::path::{Path, PathBuf};

use code::Code;
use graph::Graph;
use ratchets::Ratchet;

/// One source file: its path from the top of the repository, its text, and its code alone.
struct File {
    path: String,
    text: String,
    code: Code,
}

#[test]
fn rooms_use_only_the_rooms_they_may() {
    complain(&source(&["src"]), arrows::complaints);
}

#[test]
fn every_exception_in_the_table_of_arrows_is_used() {
    assert_eq!(arrows::unused(&source(&["src"])), [""; 0]);
}

#[test]
fn a_verb_has_its_file_in_each_place() {
    assert_eq!(verbs::complaints(&source(&["src"])), [""; 0]);
}

#[test]
fn the_largest_circle_of_files_only_shrinks() {
    let graph = Graph::of(&source(&["src"]));
    let circles = graph.circles();
    let largest = circles.first().map(|files| files.iter().map(|file| (*file).to_owned()));
    let largest: Vec<_> = largest.into_iter().flatten().collect();
    hold(&ratchets::CIRCLE, &largest);
}

#[test]
fn arrows_to_rooms_above_only_fall() {
    let files = source(&["src"]);
    assert_eq!(rooms::unlisted(&files), [""; 0]);
    hold(&ratchets::UPWARD, &rooms::upward(&Graph::of(&files)));
}

#[test]
fn every_room_says_what_it_must_never_do() {
    let mut doors = source(&["src"]);
    doors.retain(|file| rooms::is_door(&file.path));
    complain(&doors, rooms::silent_door);
}

#[test]
fn what_an_operation_owns_is_passed_nowhere_whole() {
    complain(&source(&["src/supervisor"]), job::complaints);
}

#[test]
fn no_path_is_followed_where_another_user_may_exchange_it() {
    let files = source(&["src"]);
    complain(&files, beneath::complaints);
    assert_eq!(beneath::unused(&files), [""; 0]);
}

#[test]
fn unsafe_stands_in_os_alone() {
    // The test programs misbehave in ways that need raw calls; they are not part of Halley.
    let may = ["src/os/", "tests/programs/"];
    complain(&source_but(&["src", "tests"], &may), |file| file.code.words_found(&["unsafe"]));
}

#[test]
fn the_core_touches_nothing() {
    const WORLD: &[&str] = &[
        "std::fs",
        "std::net",
        "std::process",
        "std::env",
        "std::io",
        "std::thread",
        "std::os",
        "Instant",
        "SystemTime",
        "tokio",
        "rustix",
        "nix",
        "libc",
        "serde",
    ];
    complain(&source(&["src/core"]), |file| file.code.words_found(WORLD));
}

#[test]
fn types_are_read_and_written_by_the_room_for_it_alone() {
    // They read what is no type of Halley's, into values.
    let may =
        ["src/json/", "src/demo/show.rs", "src/store/release.rs", "src/supervisor/proxy/caddy.rs"];
    const SERDES: &[&str] = &[
        "serde_json::from_reader",
        "serde_json::from_slice",
        "serde_json::from_str",
        "serde_json::from_value",
        "serde_json::to_string",
        "serde_json::to_string_pretty",
        "serde_json::to_value",
        "serde_json::to_vec",
        "serde_json::to_vec_pretty",
        "serde_json::to_writer",
        "serde_json::Deserializer",
        "serde(flatten",
        "serde(tag",
        "serde(untagged",
    ];
    complain(&source_but(&["src"], &may), |file| {
        Code::of(paths::without_tests(&file.text)).words_found(SERDES)
    });
}

#[test]
fn nothing_in_src_sleeps() {
    // The demo's service is slow on purpose, and its clients pause like people.
    let files = source_but(&["src"], &["src/demo/"]);
    complain(&files, |file| file.code.words_found(&["thread::sleep"]));
}

#[test]
fn files_have_at_most_500_lines() {
    complain(&source(&["src", "tests"]), |file| too_long(file.text.lines().count(), 500));
}

#[test]
fn functions_have_at_most_90_lines() {
    complain(&source(&["src", "tests"]), |file| {
        let functions = file.code.functions();
        let long = functions.iter().filter(|function| function.n_lines > 90);
        long.map(|function| format!("{}: fn {} is too long", function.line, function.name))
            .collect()
    });
}

#[test]
fn functions_of_src_over_70_lines_only_fall() {
    let long = |file: &File| ratchets::long_functions(file, ratchets::LONG_LINES);
    let long: Vec<_> = source(&["src"]).iter().flat_map(long).collect();
    hold(&ratchets::LONG, &long);
}

#[test]
fn results_whose_error_is_a_text_only_fall() {
    let errors: Vec<_> = source(&["src"]).iter().flat_map(ratchets::text_errors).collect();
    hold(&ratchets::TEXT_ERRORS, &errors);
}

#[test]
fn public_items_of_the_supervisor_only_fall() {
    let public: Vec<_> =
        source(&["src/supervisor"]).iter().flat_map(ratchets::public_items).collect();
    hold(&ratchets::PUBLIC, &public);
}

#[test]
fn nothing_is_left_for_later_and_no_test_is_switched_off() {
    complain(&source(&["src", "tests"]), words::complaints);
}

#[test]
fn every_exception_from_a_lint_has_a_reason() {
    complain(&source(&["src", "tests"]), |file| words::exceptions_without_reason(&file.text));
}

#[test]
fn a_size_above_the_limit_is_complained_about() {
    assert_eq!((too_long(500, 500).len(), too_long(501, 500).len()), (0, 1));
}

fn too_long(n_lines: usize, most: usize) -> Vec<String> {
    let long = n_lines > most;
    long.then(|| format!("{n_lines} lines: some noun wants a file of its own"))
        .into_iter()
        .collect()
}

/// Fails with every complaint of a rule about these files.
fn complain(files: &[File], rule: impl Fn(&File) -> Vec<String>) {
    assert!(!files.is_empty(), "no files were looked at");
    let complaints: Vec<_> = files
        .iter()
        .flat_map(|file| {
            rule(file).into_iter().map(|complaint| format!("{}:{complaint}", file.path))
        })
        .collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// Fails with the complaint of a ratchet about what was found.
fn hold(ratchet: &Ratchet, found: &[String]) {
    let complaint = ratchet.complaint(found);
    assert!(complaint.is_none(), "\n{}\n", complaint.unwrap_or_default());
}

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below these folders, without those that may.
fn source_but(folders: &[&str], may: &[&str]) -> Vec<File> {
    let mut files = source(folders);
    files.retain(|file| !may.iter().any(|prefix| file.path.starts_with(prefix)));
    files
}

/// Every Rust file below these folders.
fn source(folders: &[&str]) -> Vec<File> {
    let mut paths = Vec::new();
    for folder in folders {
        collect(&top().join(folder), &mut paths);
    }
    paths.sort();
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        let path = path.strip_prefix(top()).unwrap().to_str().unwrap().to_owned();
        File { path, code: Code::of(&text), text }
    };
    paths.iter().map(read).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

/// Files that a test of a rule makes up: their paths and their texts.
fn example(texts: &[(&str, &str)]) -> Vec<File> {
    let file = |(path, text): &(&str, &str)| {
        let (path, text) = ((*path).to_owned(), (*text).to_owned());
        File { path, code: Code::of(&text), text }
    };
    texts.iter().map(file).collect()
}
