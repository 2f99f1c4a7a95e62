//! Numbers that may only fall. A ratchet complains of a number that has risen, and of one that has
//! fallen and could rise again without notice.

use super::File;
use super::code::{Function, name_length};
use super::paths::without_tests;

/// A number and the most that it may be.
pub struct Ratchet {
    pub what: &'static str,
    pub most: usize,
    /// How far the number may fall before the ratchet has to follow.
    pub slack: usize,
}

/// Files in the largest circle of arrows.
pub const CIRCLE: Ratchet = ratchet("files in the largest circle", 3);
/// Arrows from a room of the supervisor to one above it.
pub const UPWARD: Ratchet = ratchet("upward arrows", 0);
/// Functions of `src`, its tests left out, with more lines than [`LONG_LINES`].
pub const LONG: Ratchet = ratchet("functions over 70 lines", 0);
/// Items of the supervisor that are `pub` without a limit. It has slack, so that not every change
/// of a few items has to touch it.
pub const PUBLIC: Ratchet =
    Ratchet { what: "items that are pub, where pub(crate) or less would do", most: 42, slack: 5 };

/// Results of `src`, its tests left out, whose error is a text: a caller can only print it.
pub const TEXT_ERRORS: Ratchet = ratchet("results whose error is a String", 0);

/// What a function of `src` may have.
pub const LONG_LINES: usize = 70;

/// A longer list of complaints is cut off.
const LIST_LINES: usize = 100;

const fn ratchet(what: &'static str, most: usize) -> Ratchet {
    Ratchet { what, most, slack: 0 }
}

impl Ratchet {
    /// The complaint about these, when there are more of them than allowed, or fewer.
    pub fn complaint(&self, found: &[String]) -> Option<String> {
        let (n_found, Self { what, most, slack }) = (found.len(), self);
        if n_found > *most {
            let mut list: Vec<_> = found.iter().take(LIST_LINES).map(String::as_str).collect();
            if n_found > LIST_LINES {
                list.push("…");
            }
            let list = list.join("\n");
            return Some(format!("{what}: {n_found}, and at most {most} are allowed:\n{list}"));
        }
        let has_fallen = n_found + slack < *most;
        has_fallen.then(|| format!("{what}: lower the ratchet from {most} to {n_found}"))
    }
}

/// Functions of a file that are too long, without those of its tests.
pub fn long_functions(file: &File, most: usize) -> Vec<String> {
    let n_lines = without_tests(file.code.text()).lines().count();
    let functions = file.code.functions().into_iter();
    let long = functions.filter(|function| function.line <= n_lines && function.n_lines > most);
    let text = |Function { name, line, n_lines }| {
        format!("{}:{line}: fn {name} has {n_lines} lines", file.path)
    };
    long.map(text).collect()
}

/// Items that are public without a limit: neither `pub(crate)` nor fields.
pub fn public_items(file: &File) -> Vec<String> {
    const ITEMS: &[&str] = &[
        "async", "const", "enum", "extern", "fn", "mod", "static", "struct", "trait", "type",
        "union", "unsafe", "use",
    ];
    let mut items = Vec::new();
    for (index, line) in without_tests(file.code.text()).lines().enumerate() {
        let Some(rest) = line.trim_start().strip_prefix("pub ") else { continue };
        if ITEMS.contains(&&rest[..name_length(rest)]) {
            items.push(format!("{}:{}: {}", file.path, index + 1, line.trim()));
        }
    }
    items
}

/// `Result<_, String>`, also over several lines.
pub fn text_errors(file: &File) -> Vec<String> {
    let code = without_tests(file.code.text());
    let is_text =
        |(at, _): &(usize, &str)| last_argument(&code[at + "Result<".len()..]) == "String";
    let found = code.match_indices("Result<").filter(is_text);
    found
        .map(|(at, _)| {
            let line = code[..at].matches('\n').count();
            let text = code.lines().nth(line).unwrap_or_default().trim();
            format!("{}:{}: {text}", file.path, line + 1)
        })
        .collect()
}

/// The last of several arguments of a type, whose list `text` begins in; empty when there is one.
fn last_argument(text: &str) -> &str {
    let mut depth = 0_usize;
    let mut from = None;
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        match c {
            '<' | '(' | '[' => depth += 1,
            '>' if before == '-' => {}
            '>' | ')' | ']' if depth == 0 => {
                let last = from.map_or("", |from| &text[from..at]);
                return last.trim().trim_end_matches(',');
            }
            '>' | ')' | ']' => depth -= 1,
            // A comma may also stand behind the last one.
            ',' if depth == 0 && !text[at + 1..].trim_start().starts_with('>') => {
                from = Some(at + 1)
            }
            _ => {}
        }
        before = c;
    }
    ""
}

#[test]
fn a_ratchet_holds_in_both_directions() {
    let found = |n: usize| vec!["a.rs -> b.rs".to_owned(); n];
    let strict = ratchet("arrows", 2);
    assert_eq!(strict.complaint(&found(2)), None);
    let risen = "arrows: 3, and at most 2 are allowed:\na.rs -> b.rs\na.rs -> b.rs\na.rs -> b.rs";
    assert_eq!(strict.complaint(&found(3)).as_deref(), Some(risen));
    let long = strict.complaint(&found(LIST_LINES + 1)).unwrap();
    assert!(long.lines().count() == LIST_LINES + 2 && long.ends_with("\n…"), "{long}");
    let fallen = "arrows: lower the ratchet from 2 to 1";
    assert_eq!(strict.complaint(&found(1)).as_deref(), Some(fallen));
    let slack = Ratchet { slack: 1, ..strict };
    assert_eq!(slack.complaint(&found(1)), None);
    assert!(slack.complaint(&found(0)).is_some() && slack.complaint(&found(3)).is_some());
}

#[test]
fn a_long_function_is_seen_outside_of_tests_alone() {
    let text = "fn a() {\n}\nfn b() {\n\n}\nmod tests {\nfn c() {\n\n}\n}\n";
    let file = super::example(&[("src/a.rs", text)]).remove(0);
    assert_eq!(long_functions(&file, 2), ["src/a.rs:3: fn b has 3 lines"]);
}

#[test]
fn public_items_are_counted_without_fields_and_limits() {
    let text = "pub mod a;\npub(crate) mod b;\n/// pub fn no\npub struct S {\n    pub x: u8,\n}\n\
                impl S {\n    pub async fn f() {}\n    pub(super) fn g() {}\n}\n\
                mod tests {\n    pub fn h() {}\n}\n";
    let file = super::example(&[("src/a.rs", text)]).remove(0);
    let expected =
        ["src/a.rs:1: pub mod a;", "src/a.rs:4: pub struct S {", "src/a.rs:8: pub async fn f() {}"];
    assert_eq!(public_items(&file), expected);
}

#[test]
fn a_result_whose_error_is_a_text_is_seen_in_every_spelling() {
    let text = "fn a() -> Result<(), String> {\n}\nfn b() -> Result<Vec<(u8, String)>, E> {\n}\n\
                // Result<u8, String>\ntype C = Result<\n    Box<dyn Fn(u8) -> u8>,\n    String,\n>;\n\
                fn d() -> io::Result<String> {\n}\nfn e() -> Result<u8, (u8, String)> {\n}\n\
                mod tests {\n    fn f() -> Result<u8, String> {\n    }\n}\n";
    let file = super::example(&[("src/a.rs", text)]).remove(0);
    let expected = ["src/a.rs:1: fn a() -> Result<(), String> {", "src/a.rs:6: type C = Result<"];
    assert_eq!(text_errors(&file), expected);
}
