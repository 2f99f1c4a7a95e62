//! What an operation owns is passed nowhere whole: a function that is handed all of it may read and
//! write all of it, and its signature says nothing.

use super::File;
use super::code::{has_word, is_name_char, name_length};
use super::paths::without_tests;

/// The file of the type that owns all values of an operation.
const OWNER: &str = "src/supervisor/operation/job.rs";
/// The loop, which holds the one value of that type.
const RUNNER: &str = "src/supervisor/operation/runner.rs";
/// The type.
const WHOLE: &str = "Job";
/// The values that it owns.
const PARTS: &[&str] = &["Assignment", "Intake", "ColdRungs", "Watching", "HookState", "Findings"];

/// Places of a file where the whole is passed, is open to others, or is put together again under
/// another name.
pub fn complaints(file: &File) -> Vec<String> {
    let code = without_tests(file.code.text());
    let mut complaints = Vec::new();
    if file.path != OWNER && file.path != RUNNER {
        let lines = code.lines().enumerate().filter(|(_, line)| passes(line));
        complaints.extend(lines.map(|(at, _)| {
            format!("{}: {WHOLE} stands here whole: take the values that are needed", at + 1)
        }));
    }
    for Type { name, line, body } in types(code) {
        let is_owner = file.path == OWNER && name == WHOLE;
        let parts: Vec<_> = PARTS.iter().filter(|part| has_word(body, part)).collect();
        if is_owner && parts.len() < PARTS.len() {
            complaints.push(format!("{line}: {WHOLE} owns no longer all of {PARTS:?}"));
        }
        if is_owner && has_word(body, "pub") {
            complaints.push(format!("{line}: a field of {WHOLE} is open to other files"));
        }
        if !is_owner && parts.len() > 1 {
            complaints.push(format!("{line}: {name} puts {parts:?} together; {WHOLE} alone may"));
        }
    }
    complaints
}

/// Whether a line names the whole other than to import it or to make it.
fn passes(line: &str) -> bool {
    let is_import = line.trim_start().trim_start_matches("pub(crate) ").starts_with("use ");
    let made = format!("{WHOLE}::");
    let rest = if is_import { String::new() } else { without_made(line, &made) };
    has_word(&rest, WHOLE)
}

fn without_made(line: &str, made: &str) -> String {
    let mut rest = String::new();
    let mut text = line;
    while let Some(at) = text.find(made) {
        let is_whole_word = !text[..at].ends_with(is_name_char);
        rest.push_str(&text[..if is_whole_word { at } else { at + made.len() }]);
        text = &text[at + made.len()..];
    }
    rest + text
}

/// A struct, an enum or an alias, with its text up to its end.
struct Type<'a> {
    name: &'a str,
    line: usize,
    body: &'a str,
}

fn types(code: &str) -> Vec<Type<'_>> {
    let mut types = Vec::new();
    for word in ["struct ", "enum ", "type "] {
        for (at, _) in code.match_indices(word) {
            let rest = &code[at + word.len()..];
            let n_name = name_length(rest);
            if code[..at].ends_with(is_name_char) || n_name == 0 {
                continue;
            }
            let (name, rest) = rest.split_at(n_name);
            let end = if word == "type " || !rest.trim_start().starts_with(['{', '<']) {
                rest.find(';')
            } else {
                rest.find("\n}")
            };
            let line = code[..at].matches('\n').count() + 1;
            types.push(Type { name, line, body: &rest[..end.unwrap_or(rest.len())] });
        }
    }
    types
}

#[test]
fn a_whole_that_is_passed_is_seen() {
    let whole = "take the values that are needed";
    let all = "assignment: Assignment, intake: Intake, rungs: ColdRungs, watching: Watching, \
               hooks: HookState, findings: Findings";
    for (path, text, complaint) in [
        ("phases/hold.rs", "use super::job::Job;\nfn f(job: &mut Job) {}", whole),
        ("phases/hold.rs", "fn f(\n    job: &super::super::job::Job,\n) {}", whole),
        ("admission.rs", "fn f() -> Option<Job> { None }", whole),
        ("admission.rs", "use x::Job;\nfn f() { g(Job::new(a)); Job::abort(b); }", ""),
        ("admission.rs", "fn f(job: JobId) {}\n// a Job", ""),
        ("runner.rs", "fn f(job: &mut Job) {}", ""),
        ("job.rs", &format!("struct Job {{\n    {all}\n}}"), ""),
        ("job.rs", &format!("struct Job {{\n    pub {all}\n}}"), "open to other files"),
        ("job.rs", "struct Job {\n    assignment: Assignment\n}", "no longer all"),
        ("hooks.rs", &format!("struct Context<'a> {{\n    {all}\n}}"), "Context puts"),
        ("hooks.rs", "struct Pair(&mut Intake, &mut Findings);", "Pair puts"),
        ("hooks.rs", "type Pair<'a> = (&'a Intake, &'a Findings);", "Pair puts"),
        ("hooks.rs", "struct Noting {\n    state: HookState,\n}\nfn f(f: &Findings) {}", ""),
    ] {
        let path = format!("src/supervisor/operation/{path}");
        let found = complaints(&super::example(&[(&path, text)])[0]).join("; ");
        assert_eq!(found.is_empty(), complaint.is_empty(), "{path}: {text}: {found}");
        assert!(found.contains(complaint), "{path}: {text}: {found}");
    }
}
