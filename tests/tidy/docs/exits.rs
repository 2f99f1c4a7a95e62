//! Exit codes: those of the page are those of the enum, and no number stands in the place of one.

use std::collections::BTreeSet;

use crate::File;
use crate::code::is_name_char;

/// What may stand between the word `exit` and its number.
const BETWEEN: &[&str] = &[
    ": ",
    ": Some(",
    ": u8 = ",
    " = ",
    " == ",
    " != ",
    " == Some(",
    " != Some(",
    "::code(",
    "::of_answer(",
    ".get_or_insert(",
    ".unwrap_or(",
    "_code: ",
];
/// Calls whose exit code is an argument behind others, on the same line.
const CALLS: &[&str] = &["refusal(", "refused(", "refuse("];

/// The codes in the first column of the page's table.
pub fn documented(page: &str) -> BTreeSet<u8> {
    page.lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(' ').next()?.parse().ok())
        .collect()
}

/// Lines that give an exit code by its number. Tests may: they hold what scripts see.
pub fn bare_numbers(file: &File) -> Vec<String> {
    let code = file.code.text();
    let code = code.split("mod tests {").next().unwrap_or(code);
    let mut complaints = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let is_bare = line.match_indices("exit").any(|(at, word)| {
            let rest = &line[at + word.len()..];
            let is_word = !line[..at].ends_with(is_name_char);
            is_word && BETWEEN.iter().any(|between| is_number_after(rest, between))
        });
        let is_argument = CALLS.iter().filter_map(|call| line.split_once(call)).any(|(_, rest)| {
            rest.split([',', '(', ')']).any(|argument| argument.trim().parse::<u8>().is_ok())
        });
        if is_bare || is_argument {
            complaints.push(format!("{}: an exit code is a value of `Exit`", index + 1));
        }
    }
    complaints
}

fn is_number_after(text: &str, before: &str) -> bool {
    text.strip_prefix(before).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

#[test]
fn codes_are_read_from_the_page() {
    let page = "| exit | meaning |\n|---|---|\n| 0 | done |\n| 21 | back |\nexit 7\n";
    assert_eq!(documented(page), BTreeSet::from([0, 21]));
}

#[test]
fn a_number_in_the_place_of_an_exit_code_is_seen() {
    for (text, n_complaints) in [
        ("Trouble { exit: 9, }", 1),
        ("PhaseResult { exit: Some(17), ..x }", 1),
        ("if outcome.exit == 0 {", 1),
        ("job.exit.get_or_insert(10);", 1),
        ("exit::code(130)", 1),
        ("PhaseResult::refused(15, why)", 1),
        ("refusal(service, \"x\", why, 31, &[\"status\"])", 1),
        ("client.refuse(\"x\", 4).await;", 1),
        ("refusal(service, \"x\", why, Exit::Busy, &[\"status\"])", 0),
        ("Trouble { exit: Exit::Busy.code(), }", 0),
        ("// exit: 9\nlet x = \"exit: 9\"; let n_exit = 12; exits: 3", 0),
        ("mod tests { exit: 9 }", 0),
    ] {
        let file = crate::example(&[("src/a.rs", text)]).remove(0);
        assert_eq!(bare_numbers(&file).len(), n_complaints, "{text}");
    }
}
