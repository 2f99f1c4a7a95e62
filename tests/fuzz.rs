//! What others write, changed at random: no reader panics, takes much memory, or blames no place; and
//! what is read, is read the same once it is written again. More cases: `PROPTEST_CASES=100000`.
//!
//! The seeds are in `tests/data`: small files that are all read.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use halley_sup::api::Request;
use halley_sup::config::{self, env_file, release};
use halley_sup::core::analysis::exposition;
use halley_sup::core::ids::OpId;
use halley_sup::core::kernel::Kernel;
use halley_sup::decode;
use halley_sup::decode::wire::{Ear, Said};
use halley_sup::json;
use halley_sup::keeper::protocol::Ask;
use halley_sup::store::journal;
use halley_sup::store::layout::{Layout, ServiceLayout};
use halley_sup::store::state::State;
use proptest::prelude::*;

/// In the suite; `PROPTEST_CASES` asks for more.
const N_CASES: u32 = 64;
/// Of what is told about a seed of less than a kilobyte.
const TOLD_BYTES_MAX: usize = 64 * 1024;

fn cases() -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    ProptestConfig {
        cases: asked.unwrap_or(N_CASES),
        failure_persistence: None,
        ..Default::default()
    }
}

fn seed(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)).unwrap()
}

/// One change of a text.
#[derive(Debug, Clone)]
enum Change {
    Put(usize, u8),
    Cut(usize, usize),
    Again(usize, usize),
    Insert(usize, &'static str),
}

/// What readers stumble over.
const WORDS: [&str; 16] = [
    "\n",
    "\0",
    "\"",
    "\\",
    "[",
    "{",
    "}}",
    "=",
    "\u{feff}",
    "\u{1b}[2J",
    "-1",
    "1e999",
    "18446744073709551616",
    "null",
    "é",
    "[[a]]\na.b = {",
];

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let at = || 0..2000_usize;
    let one = prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Change::Put(at, byte)),
        (at(), 0..80_usize).prop_map(|(at, n)| Change::Cut(at, n)),
        (at(), 0..300_usize).prop_map(|(at, n)| Change::Again(at, n)),
        (at(), prop::sample::select(&WORDS[..])).prop_map(|(at, word)| Change::Insert(at, word)),
    ];
    prop::collection::vec(one, 0..6)
}

fn changed(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        let n = bytes.len();
        let spot = |at: usize| at % (n + 1);
        match *change {
            Change::Put(at, byte) if n > 0 => bytes[at % n] = byte,
            Change::Put(..) => {}
            Change::Cut(at, n_cut) => drop(bytes.drain(spot(at)..(spot(at) + n_cut).min(n))),
            Change::Again(at, n_more) => {
                let part = bytes[spot(at)..(spot(at) + n_more).min(n)].to_vec();
                bytes.splice(spot(at)..spot(at), part);
            }
            Change::Insert(at, word) => drop(bytes.splice(spot(at)..spot(at), word.bytes())),
        }
    }
    bytes
}

fn changed_text(name: &str, changes: &[Change]) -> String {
    String::from_utf8_lossy(&changed(seed(name), changes)).into_owned()
}

/// Each problem names the file, and all together are no flood.
fn are_told<P: std::fmt::Display>(problems: &[P], name: &str) {
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert!(!told.is_empty() && told.iter().all(|text| text.contains(name)), "{told:?}");
    let n: usize = told.iter().map(String::len).sum();
    assert!(n < TOLD_BYTES_MAX, "{n} bytes are told");
}

fn configuration(dir: &Path, text: &str) -> Result<config::model::Config, Vec<config::Problem>> {
    let path = dir.join("halley.toml");
    fs::write(&path, text).unwrap();
    config::load_for(&path, Kernel { can_intercept: true, somaxconn: 4096 })
}

thread_local! {
    /// A test's directory, for all of its cases: in memory, where a sync waits for no disk.
    static DIR: (tempfile::TempDir, ServiceLayout) = {
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let paths = Layout::new(dir.path()).service(&"web".parse().unwrap());
        paths.create().unwrap();
        (dir, paths)
    };
}

/// Where a service keeps its files.
fn paths() -> ServiceLayout {
    DIR.with(|(_, paths)| paths.clone())
}

/// A small archive: a program, a directory, links.
fn archive() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(600);
    header.set_mode(0o755);
    tar.append_data(&mut header, "bin/web", [b'w'; 600].as_slice()).unwrap();
    header.set_size(0);
    header.set_entry_type(tar::EntryType::Symlink);
    tar.append_link(&mut header, "web", "bin/web").unwrap();
    header.set_entry_type(tar::EntryType::Link);
    tar.append_link(&mut header, format!("long/{}", "n".repeat(150)), "bin/web").unwrap();
    tar.into_inner().unwrap()
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_configuration(changes in changes()) {
        if let Err(problems) = configuration(paths().dir(), &changed_text("seeds/halley.toml", &changes)) {
            are_told(&problems, "halley.toml");
        }
    }

    #[test]
    fn an_artifacts_settings(changes in changes()) {
        let text = String::from_utf8(seed("seeds/halley.toml")).unwrap();
        let config = configuration(paths().dir(), &text).unwrap();
        let base = &config.services.values().next().unwrap().settings;
        let text = changed_text("seeds/release.toml", &changes);
        if let Err(problems) = release::overlay(base, &[], true, Path::new("release.toml"), &text) {
            are_told(&problems, "release.toml");
        }
    }

    #[test]
    fn an_env_file(changes in changes()) {
        let text = changed_text("seeds/web.env", &changes);
        let (vars, errors) = env_file::parse(&text);
        let n_lines = text.lines().count();
        prop_assert!(vars.len() + errors.len() <= n_lines);
        prop_assert!(errors.iter().all(|(line, _)| (1..=n_lines).contains(line)));
        prop_assert!(vars.iter().all(|(name, value)| env_file::is_name(name) && !value.contains('\0')));
    }

    #[test]
    fn requests_of_clients(changes in changes()) {
        for line in changed_text("requests-v1.ndjson", &changes).lines() {
            let Ok(request) = json::from_slice::<Request>(line.as_bytes()) else { continue };
            let again = json::to_vec(&request).unwrap();
            prop_assert_eq!(json::from_slice::<Request>(&again).unwrap(), request);
        }
    }

    #[test]
    fn what_a_keeper_is_asked(changes in changes()) {
        for line in changed_text("seeds/asks.ndjson", &changes).lines() {
            let Ok(ask) = json::from_slice::<Ask>(line.as_bytes()) else { continue };
            let again = json::to_vec(&ask).unwrap();
            prop_assert_eq!(json::from_slice::<Ask>(&again).unwrap(), ask);
        }
    }

    #[test]
    fn a_journal(changes in changes()) {
        let paths = paths();
        let path: PathBuf = journal::path(&paths, OpId(107));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, changed(seed("journal-v1.ndjson"), &changes)).unwrap();
        match journal::read(&paths, OpId(107)) {
            Ok(_) => {}
            Err(error) => are_told(&[error], "journal.ndjson"),
        }
    }

    #[test]
    fn a_state(changes in changes()) {
        let paths = paths();
        fs::write(paths.state(), changed(seed("state-v1.json"), &changes)).unwrap();
        match State::load(&paths) {
            Ok(state) => {
                state.save(&paths).unwrap();
                prop_assert_eq!(State::load(&paths).unwrap(), state);
            }
            Err(error) => are_told(&[error], "state.json"),
        }
    }

    #[test]
    fn metrics(changes in changes()) {
        let text = changed_text("seeds/metrics.txt", &changes);
        for line in exposition::parse(&text).flatten() {
            prop_assert_eq!(line.label("no such label"), "");
        }
    }

    /// And of what is heard, what was not said is an error.
    #[test]
    fn an_archive_and_what_its_decoder_says(in_tar in changes(), in_words in changes()) {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, &changed(archive(), &in_tar)).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let mut words = Vec::new();
        decode::say(file, &mut words).unwrap();
        let mut ear = Ear::new(words.as_slice());
        let mut whole = false;
        while let Ok(said) = ear.hear() {
            whole = matches!(said, Said::End | Said::Fault(_));
            if whole || ear.read_to_end(&mut Vec::new()).is_err() {
                whole |= ear.fault().is_some();
                break;
            }
        }
        prop_assert!(whole, "the last word of an honest decoder");
        let words = changed(words, &in_words);
        let mut ear = Ear::new(words.as_slice());
        let mut content = Vec::new();
        while let Ok(Said::Entry(_)) = ear.hear() {
            if ear.read_to_end(&mut content).is_err() {
                break;
            }
        }
        prop_assert!(content.len() <= words.len());
    }
}

#[test]
fn every_seed_is_read() {
    let text = |name: &str| String::from_utf8(seed(name)).unwrap();
    let config = configuration(paths().dir(), &text("seeds/halley.toml")).unwrap();
    let base = &config.services.values().next().unwrap().settings;
    let (file, own) = (Path::new("release.toml"), text("seeds/release.toml"));
    release::overlay(base, &[], true, file, &own).unwrap();
    assert_eq!(env_file::parse(&text("seeds/web.env")).1.len(), 0);
    for line in text("seeds/asks.ndjson").lines() {
        json::from_slice::<Ask>(line.as_bytes()).unwrap();
    }
    for line in text("requests-v1.ndjson").lines() {
        json::from_slice::<Request>(line.as_bytes()).unwrap();
    }
    let metrics = text("seeds/metrics.txt");
    assert!(exposition::parse(&metrics).all(|line| line.is_ok()));
}
