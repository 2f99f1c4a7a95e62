//! Plain words: pronouns for people instead of the noun, and telling instead of the field's verb.

use crate::File;
use crate::code;

/// Words that the docs, the help and the sentences of the code do without.
const NOT_PLAIN: &[&str] =
    &["nobody", "somebody", "whoever", "whom", "caller", "callers", "said", "told", "anybody"];
/// What else a sentence of the code does without: phrases that make the reader guess.
const RIDDLES: &[&str] = &[
    "a word",
    "goes on",
    "go on",
    "went well",
    "well again",
    "one could",
    "you could",
    "may look",
    "left alone",
    "let go",
    "says",
    "loud",
    "minded",
    "better times",
    "called off",
    "broke off",
    "turned bad",
    "is gone back",
];

/// Where a text says one of them, outside of code.
pub fn complaints(page: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut is_code = false;
    for (index, line) in page.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
            continue;
        }
        let prose = line.split('`').step_by(2).collect::<Vec<_>>().join(" ").to_ascii_lowercase();
        // The target of a link is the name of a file or a test.
        let prose = if line.starts_with('[') { "" } else { prose.as_str() };
        let words = prose.split(|c: char| !c.is_alphanumeric());
        let found = words.filter(|word| !is_code && NOT_PLAIN.contains(word));
        complaints.extend(found.map(|word| format!("{}: {word}", index + 1)));
    }
    complaints
}

/// Where a sentence that the code prints says one of them. A text without a space is a key, a name
/// or a value; a test's own texts are not printed.
pub fn in_sentences(file: &File) -> Vec<String> {
    let mut complaints = Vec::new();
    for (line, literal) in code::literals(printed(&file.text)) {
        let sentence = without_values(&literal).to_ascii_lowercase();
        if !sentence.trim().contains(' ') {
            continue;
        }
        let found = NOT_PLAIN.iter().chain(RIDDLES).filter(|word| code::has_word(&sentence, word));
        complaints.extend(found.map(|word| format!("{line}: {word:?} in {literal:?}")));
    }
    complaints
}

/// A file up to its tests.
fn printed(text: &str) -> &str {
    text.find("#[cfg(test)]\nmod ").map_or(text, |at| &text[..at])
}

/// A format string without the names in its braces, its escapes as the spaces that they are.
fn without_values(literal: &str) -> String {
    let spaced = literal.replace("\\n", " ").replace("\\t", " ");
    let mut rest = spaced.as_str();
    let mut text = String::new();
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        rest = after.split_once('}').map_or("", |(_, after)| after);
    }
    text + rest
}

#[test]
fn a_riddle_in_a_printed_sentence_is_seen_and_a_key_or_a_test_is_not() {
    let text = r#"
        // Callers wait, "nobody waits".
        fn a(said: &str) { say("told", format!("{said} {:?}: it is bad", "caller/1")) }
        fn b() { say("Callers \
            wait") + "it has let\tgo, and nobody told" }
        fn c() { r"waits for a word" + "it goes\nonce" + '"' + "said it" }
#[cfg(test)]
mod tests { fn d() { say("nobody waits") } }"#;
    let file = crate::example(&[("a.rs", text)]).remove(0);
    let expected = [
        "4: \"callers\" in ",
        "5: \"nobody\" in ",
        "5: \"told\" in ",
        "5: \"let go\" in ",
        "6: \"a word\" in ",
        "6: \"said\" in ",
    ];
    let found = in_sentences(&file);
    assert_eq!(found.len(), expected.len(), "{found:?}");
    assert!(found.iter().zip(expected).all(|(found, text)| found.starts_with(text)), "{found:?}");
}

#[test]
fn a_word_that_is_not_plain_is_seen_and_a_value_is_not() {
    let page = "Callers wait.\nThe outcome is `told`.\n```\nnobody\n```\nAs was said, not sad.\n\
                [1]: tests/a.rs#somebody\n";
    assert_eq!(complaints(page), ["1: callers", "6: said"]);
}
