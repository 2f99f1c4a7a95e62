//! The configuration that the command line was given, in the commands that it prints: what is to be typed
//! next is to reach the same Halley. Every line that is printed comes through here, and no refusal thinks
//! of it by itself.

use std::borrow::Cow;
use std::path::Path;
use std::sync::OnceLock;

use crate::json;

/// Before each command that is printed.
const PROGRAM: &str = "halley-sup ";

/// What is put behind the verb.
static GIVEN: OnceLock<Given> = OnceLock::new();

/// An option, for the shell that it is typed in.
#[derive(Debug)]
struct Given {
    option: String,
    takes_it: fn(&str) -> bool,
}

/// Where the text is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// By a person.
    Person,
    /// As JSON.
    Machine,
}

/// Notes the file that is named by `--config` or `HALLEY_CONFIG`; `takes_it` says which verbs know the
/// option.
pub fn note(config: &Path, takes_it: fn(&str) -> bool) {
    let option = format!(" --config {}", quoted(&config.to_string_lossy()));
    drop(GIVEN.set(Given { option, takes_it }));
}

/// A text with the option in each of its commands.
pub fn complete(text: &str, reader: Reader) -> Cow<'_, str> {
    match GIVEN.get() {
        Some(given) => given.complete(text, reader),
        None => Cow::Borrowed(text),
    }
}

impl Given {
    fn complete<'a>(&self, text: &'a str, reader: Reader) -> Cow<'a, str> {
        if !text.contains(PROGRAM) {
            return Cow::Borrowed(text);
        }
        let option = match reader {
            Reader::Person => self.option.clone(),
            Reader::Machine => {
                let escaped = json::to_string(&self.option).unwrap_or_default();
                escaped.trim_matches('"').to_owned()
            }
        };
        let mut whole = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once(PROGRAM) {
            let letters = |c: char| !c.is_ascii_lowercase();
            let (verb, behind) = after.split_at(after.find(letters).unwrap_or(after.len()));
            whole.extend([before, PROGRAM, verb]);
            let line = behind.split(['\n', '"', '\\']).next().unwrap_or_default();
            // "halley-sup run" within a sentence is the name of what runs.
            let is_name = verb == "run" && !line.is_empty();
            if (self.takes_it)(verb) && !is_name && !line.contains("--config") {
                whole.push_str(&option);
            }
            rest = behind;
        }
        whole.push_str(rest);
        Cow::Owned(whole)
    }
}

/// A word as a shell reads it.
pub fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, reader: Reader, expected: &str) {
        let option = " --config 'my \"h.toml'".to_owned();
        let given = Given { option, takes_it: |verb| ["status", "run", "release"].contains(&verb) };
        assert_eq!(given.complete(text, reader), expected);
    }

    #[test]
    fn each_command_of_a_text_gets_the_option() {
        let c = " --config 'my \"h.toml'";
        for (text, expected) in [
            ("halley-sup status web", format!("halley-sup status{c} web")),
            (
                "x | halley-sup release web -\nhalley-sup run",
                format!("x | halley-sup release{c} web -\nhalley-sup run{c}"),
            ),
            ("by halley-sup status, then", format!("by halley-sup status{c}, then")),
            ("halley-sup was upgraded", "halley-sup was upgraded".to_owned()),
            ("halley-sup run, pid 4", "halley-sup run, pid 4".to_owned()),
            ("halley-sup status --config a", "halley-sup status --config a".to_owned()),
            ("systemctl status halley-sup", "systemctl status halley-sup".to_owned()),
        ] {
            check(text, Reader::Person, &expected);
        }
        let json = r#"{"next":["halley-sup status","halley-sup run"],"why":"x"}"#;
        let c = r#" --config 'my \"h.toml'"#;
        let expected =
            format!(r#"{{"next":["halley-sup status{c}","halley-sup run{c}"],"why":"x"}}"#);
        check(json, Reader::Machine, &expected);
    }

    #[test]
    fn a_word_is_read_back_by_a_shell() {
        for (word, expected) in
            [("./build", "./build"), ("my app", "'my app'"), ("it's", r"'it'\''s'"), ("", "''")]
        {
            assert_eq!(quoted(word), expected);
        }
    }
}
