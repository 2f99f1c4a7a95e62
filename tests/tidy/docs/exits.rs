//! Exit codes: those of the page are those that the code gives.

use std::collections::BTreeSet;

use crate::File;

/// What stands before a code in the source; strings are blank there.
const BEFORE: &[&str] = &[
    "exit: ",
    "exit: Some(",
    "exit::code(",
    "exit.get_or_insert(",
    "exit.unwrap_or(",
    "PhaseResult::refused(",
    "refuse(job, ",
    "push((",
    "( , ",
    "Err((",
    "why| (",
    "SUPERSEDED { ",
];
/// What stands after one.
const AFTER: &[&str] = &[", &[", ").await;", ").await,"];

/// The codes in the first column of the page's table.
pub fn documented(page: &str) -> BTreeSet<u8> {
    page.lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(' ').next()?.parse().ok())
        .collect()
}

/// The codes that a source file gives, without its tests.
pub fn given(file: &File) -> BTreeSet<u8> {
    let code = file.code.text();
    let code = code.split("mod tests {").next().unwrap_or(code);
    let mut found = BTreeSet::new();
    for before in BEFORE {
        found.extend(code.split(before).skip(1).filter_map(leading_number));
    }
    for after in AFTER {
        let texts: Vec<_> = code.split(after).collect();
        let before = texts.split_last().map_or(&[][..], |(_, texts)| texts);
        found.extend(before.iter().filter_map(|text| trailing_number(text)));
    }
    // Named codes have a file of their own.
    if file.path.ends_with("/exit.rs") {
        found.extend(code.split(" = ").skip(1).filter_map(leading_number));
    }
    found
}

fn leading_number(text: &str) -> Option<u8> {
    let n_digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..n_digits].parse().ok()
}

fn trailing_number(text: &str) -> Option<u8> {
    let start = text.rfind(|c: char| !c.is_ascii_digit()).map_or(0, |at| at + 1);
    text[..start].ends_with(", ").then(|| text[start..].parse().ok())?
}

#[test]
fn codes_are_read_from_the_page_and_from_the_code() {
    let page = "| exit | meaning |\n|---|---|\n| 0 | done |\n| 21 | back |\nexit 7\n";
    assert_eq!(documented(page), BTreeSet::from([0, 21]));
    for (path, text, expected) in [
        ("src/a.rs", "Trouble { exit: 9, }", vec![9]),
        ("src/a.rs", "return refuse(job, 11, \"x\");", vec![11]),
        ("src/a.rs", "refusal(service, \"x\", why, 31, &[\"status\"])", vec![31]),
        ("src/a.rs", "client.refuse(\"x\", 4).await;", vec![4]),
        ("src/a.rs", "=> (\"gate_failed\", 20),", vec![20]),
        ("src/a.rs", "// exit: 9\nlet x = \"exit: 9\"; let n = 12;", vec![]),
        ("src/a.rs", "mod tests { exit: 9 }", vec![]),
        ("src/cli/exit.rs", "pub const BUSY: u8 = 9;", vec![9]),
        ("src/cli/exits.rs", "pub const BUSY: u8 = 9;", vec![]),
    ] {
        let file =
            File { path: path.to_owned(), code: crate::Code::of(text), text: text.to_owned() };
        assert_eq!(given(&file), expected.into_iter().collect(), "{text}");
    }
}
