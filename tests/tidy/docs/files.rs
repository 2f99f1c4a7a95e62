//! Files of the repository that the docs name: each is there.

use std::path::Path;

/// Folders at the top of the repository that hold what a page may name.
const FOLDERS: [&str; 4] = ["src/", "tests/", "scripts/", "units/"];

/// Paths in code spans that lead nowhere. One with a placeholder in it is no path.
pub fn missing(top: &Path, text: &str) -> Vec<String> {
    let named = spans(text).filter(|span| FOLDERS.iter().any(|folder| span.starts_with(folder)));
    let paths = named.filter(|span| !span.contains([' ', '<', '*']));
    paths
        .filter(|path| !top.join(path).exists())
        .map(|path| format!("there is no {path}"))
        .collect()
}

/// Words that a page gives to the benchmark and that name no figure of it.
pub fn unknown_figures(bench: &str, text: &str) -> Vec<String> {
    let words = spans(text).filter_map(|span| span.strip_prefix("scripts/bench.sh "));
    let words = words.flat_map(|words| words.split_whitespace());
    words
        .filter(|word| !bench.contains(&format!("(\"{word}\", ")))
        .map(|word| format!("scripts/bench.sh has no {word}"))
        .collect()
}

/// Code spans of each line; those that go on over a line's end are none of paths.
fn spans(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

#[test]
fn a_file_that_is_not_there_is_seen() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = "A `src/lib.rs` and `tests/tidy`.\n`scripts/test.sh -x`, `src/<verb>.rs`, `a/b.rs`, \
                `src/attic.rs` src/no.rs `tests/no`";
    assert_eq!(missing(top, text), ["there is no src/attic.rs", "there is no tests/no"]);
}

#[test]
fn a_figure_that_is_not_printed_is_seen() {
    let bench = "        (\"data\", data::kills),\n";
    let text = "`scripts/bench.sh data rest`, `scripts/bench.sh`";
    assert_eq!(unknown_figures(bench, text), ["scripts/bench.sh has no rest"]);
}
