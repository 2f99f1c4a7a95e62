//! Plain words: pronouns for people instead of the noun, and telling instead of the field's verb.

/// Words that the docs and the help do without.
const NOT_PLAIN: &[&str] =
    &["nobody", "somebody", "whoever", "whom", "caller", "callers", "said", "told", "anybody"];

/// Where a text says one of them, outside of code.
pub fn complaints(page: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut is_code = false;
    for (index, line) in page.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
            continue;
        }
        let prose = line.split('`').step_by(2).collect::<Vec<_>>().join(" ").to_lowercase();
        // The target of a link is the name of a file or a test.
        let prose = if line.starts_with('[') { "" } else { prose.as_str() };
        let words = prose.split(|c: char| !c.is_alphanumeric());
        let found = words.filter(|word| !is_code && NOT_PLAIN.contains(word));
        complaints.extend(found.map(|word| format!("{}: {word}", index + 1)));
    }
    complaints
}

#[test]
fn a_word_that_is_not_plain_is_seen_and_a_value_is_not() {
    let page = "Callers wait.\nThe outcome is `told`.\n```\nnobody\n```\nAs was said, not sad.\n\
                [1]: tests/a.rs#somebody\n";
    assert_eq!(complaints(page), ["1: callers", "6: said"]);
}
