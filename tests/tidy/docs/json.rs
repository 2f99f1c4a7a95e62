//! Keys of the JSON output: what the protocol sends to a client is in the page about it.

use crate::File;

/// What a client sends; it is never printed.
const REQUESTS: &[&str] = &["Request", "Verb", "Args", "SetArgs", "Part"];

/// What holds a list that is printed as its entries, one a line.
const LISTS: &[&str] = &["operations", "releases", "backups"];

/// Keys that the answers of a source file have and the page does not name.
pub fn missing(page: &str, file: &File) -> Vec<String> {
    let is_named =
        |key: &str| page.contains(&format!("`{key}`")) || page.contains(&format!("\"{key}\":"));
    let mut item = "";
    let mut missing = Vec::new();
    for line in file.code.text().lines() {
        let mut words = line.split([' ', '(', '<', '{']).filter(|word| !word.is_empty()).peekable();
        words.next_if_eq(&"pub");
        match words.next() {
            Some("struct" | "enum") => item = words.next().unwrap_or_default(),
            Some(word) if line.starts_with("    ") && !REQUESTS.contains(&item) => {
                let key = word.strip_suffix(':').filter(|key| !key.is_empty());
                let absent = key.filter(|key| !LISTS.contains(key) && !is_named(key));
                missing.extend(absent.map(|key| format!("{item}: {key}")));
            }
            _ => {}
        }
    }
    missing
}

#[test]
fn a_key_that_the_page_does_not_name_is_missed() {
    let text = "/// Doc: of it.\npub struct A {\n    /// x: y\n    pub one: u8,\n    pub two: Option<u8>,\n}\n\
                pub enum Event {\n    B {\n        three: String,\n    },\n    C(Box<A>),\n}\n\
                pub enum Verb {\n    D {\n        four: u8,\n    },\n}\n";
    let code = crate::Code::of(text);
    let file = File { path: "src/api/a.rs".to_owned(), code, text: text.to_owned() };
    assert_eq!(missing("`one`", &file), ["A: two", "Event: three"]);
    assert_eq!(missing("`one` {\"two\":1} `three`", &file), [""; 0]);
}
