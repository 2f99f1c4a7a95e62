//! A verb is found in three places of the same name: what is typed, what is sent, what is performed.

use super::File;

/// The places.
const PLACES: [&str; 3] = ["src/cli", "src/api", "src/supervisor/control/verbs"];

/// Verbs that are not in all places, with those that they are in and the reason.
const EXCEPTIONS: &[(&str, &[&str], &str)] = &[
    ("run", &["src/cli"], "becomes the keeper"),
    ("check", &["src/cli"], "reads the configuration by itself"),
    ("init", &["src/cli"], "looks at a directory by itself"),
    ("doctor", &["src/cli"], "tries the kernel by itself"),
    ("demo", &["src/cli"], "runs a stack of its own"),
    ("help", &["src/cli"], "prints the reference"),
    ("exec", &["src/cli"], "asks as env does and becomes the command"),
    ("release_set", &["src/api", "src/supervisor/control/verbs"], "is typed as release --set"),
];

/// Verbs that lack a file, and exceptions that are none.
pub fn complaints(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut verbs: Vec<&str> = PLACES.iter().flat_map(|place| in_place(files, place)).collect();
    verbs.sort_unstable();
    verbs.dedup();
    for verb in &verbs {
        let excepted = EXCEPTIONS.iter().find(|(name, ..)| name == verb);
        let wanted = excepted.map_or(&PLACES[..], |(_, places, _)| places);
        for place in PLACES {
            let is_there = in_place(files, place).contains(verb);
            if is_there != wanted.contains(&place) {
                let what =
                    if is_there { "is there against its" } else { "is not there, and there is no" };
                complaints.push(format!("{place}/{verb}.rs {what} exception"));
            }
        }
    }
    let stale = EXCEPTIONS.iter().filter(|(name, ..)| !verbs.contains(name));
    complaints.extend(stale.map(|(name, ..)| format!("there is no verb {name}")));
    complaints
}

/// Names of the verbs that have a file in a place.
fn in_place<'a>(files: &'a [File], place: &str) -> Vec<&'a str> {
    let marks = |code: &str| match place {
        "src/cli" => code.contains("impl Ask for ") || code.contains("impl Own for "),
        "src/api" => code.contains("pub struct Args"),
        _ => true,
    };
    let verbs = files.iter().filter(|file| marks(file.code.text())).filter_map(|file| {
        let name = file.path.strip_prefix(place)?.strip_prefix('/')?.strip_suffix(".rs")?;
        (!name.contains('/') && name != "mod").then_some(name)
    });
    verbs.collect()
}

#[test]
fn a_verb_that_lacks_a_file_is_seen() {
    let mut files = vec![
        ("src/cli/mod.rs", "impl Own for Nothing {}"),
        ("src/cli/pager.rs", ""),
        ("src/cli/stop.rs", "impl Ask for Stop {}"),
        ("src/api/stop.rs", "pub struct Args {}"),
        ("src/api/word.rs", "pub struct Word;"),
        ("src/supervisor/control/verbs/stop.rs", ""),
        ("src/supervisor/control/verbs/mod.rs", ""),
        ("src/cli/run.rs", "impl Own for Run {}"),
        ("src/cli/check.rs", "impl Own for Check {}"),
        ("src/cli/init.rs", "impl Own for Init {}"),
        ("src/cli/doctor.rs", "impl Own for Doctor {}"),
        ("src/cli/demo.rs", "impl Own for Demo {}"),
        ("src/cli/help.rs", "impl Own for Help {}"),
        ("src/cli/exec.rs", "impl Own for Exec {}"),
        ("src/api/release_set.rs", "pub struct Args {}"),
        ("src/supervisor/control/verbs/release_set.rs", ""),
    ];
    assert_eq!(complaints(&super::example(&files)), [""; 0]);
    files.push(("src/api/thaw.rs", "pub struct Args {}"));
    files.push(("src/api/help.rs", "pub struct Args {}"));
    files.retain(|(path, _)| *path != "src/cli/demo.rs");
    let expected = [
        "src/api/help.rs is there against its exception",
        "src/cli/thaw.rs is not there, and there is no exception",
        "src/supervisor/control/verbs/thaw.rs is not there, and there is no exception",
        "there is no verb demo",
    ];
    assert_eq!(complaints(&super::example(&files)), expected);
}
