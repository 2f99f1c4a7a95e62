//! Words that mean "not finished", and lints switched off in silence.

use super::File;
use super::code::has_word;

/// Words that a comment may not have. Written apart, so that this file passes its own rule.
const IN_COMMENTS: [&str; 2] = [concat!("FIX", "ME"), concat!("XX", "X")];
/// Macros and attributes that the code may not have.
const IN_CODE: [&str; 4] = ["todo!", "dbg!", "unimplemented!", "#[ignore"];

pub fn complaints(file: &File) -> Vec<String> {
    let mut complaints = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        let found = IN_COMMENTS.iter().filter(|word| has_word(line, word));
        complaints.extend(found.map(|word| format!("{}: {word}", index + 1)));
    }
    for (index, line) in file.code.text().lines().enumerate() {
        let found = IN_CODE.iter().filter(|word| line.contains(**word));
        complaints.extend(found.map(|word| format!("{}: {word}", index + 1)));
    }
    complaints
}

/// Attributes that switch a lint off or change it without saying why.
pub fn exceptions_without_reason(text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for word in ["allow(", "expect("] {
        for (at, _) in text.match_indices(word) {
            let is_attribute = text[..at].ends_with("#[") || text[..at].ends_with("#![");
            let attribute = text[at..].split(']').next().unwrap_or_default();
            if is_attribute && !attribute.contains("reason = \"") {
                let line = text[..at].matches('\n').count() + 1;
                complaints.push(format!("{line}: {word}…) without a reason"));
            }
        }
    }
    complaints
}

#[test]
fn what_is_left_for_later_is_seen() {
    for (text, n_complaints) in [
        (format!("// {} later", IN_COMMENTS[0]), 1),
        (format!("// {}", IN_COMMENTS[1]), 1),
        (format!("// {}{}", IN_COMMENTS[1], IN_COMMENTS[1]), 0),
        ("fn a() { todo!() }".to_owned(), 1),
        ("// todo!() is not code".to_owned(), 0),
        ("#[test]\n#[ignore]\nfn a() { dbg!(1); }".to_owned(), 2),
    ] {
        let file = File { path: "a.rs".to_owned(), code: super::Code::of(&text), text };
        assert_eq!(complaints(&file).len(), n_complaints, "{}", file.text);
    }
}

#[test]
fn an_exception_needs_a_reason() {
    let (open, inner) = (concat!("#", "[allow("), concat!("#", "![expect("));
    for (text, n_complaints) in [
        (format!("{open}dead_code)]"), 1),
        (format!("{open}dead_code, reason = \"why\")]"), 0),
        (format!("{open}\n  dead_code,\n  reason = \"why\"\n)]"), 0),
        (format!("{inner}unused)]"), 1),
        ("x.expect(\"y\")".to_owned(), 0),
    ] {
        assert_eq!(exceptions_without_reason(&text).len(), n_complaints, "{text}");
    }
}
