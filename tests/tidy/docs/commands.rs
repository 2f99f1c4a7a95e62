//! Commands that the docs name, against the help of the binary itself, both ways.

use std::collections::{BTreeMap, BTreeSet};

/// Each verb with its options, as the binary's help lists them.
pub struct Commands(BTreeMap<String, BTreeSet<String>>);

impl Commands {
    /// From the top's help, and the help of each verb.
    pub fn read(help: impl Fn(&[&str]) -> String) -> Self {
        let top = help(&["--help"]);
        let mut commands = BTreeMap::from([(String::new(), options(&top))]);
        for verb in verbs(&top) {
            commands.insert(verb.to_owned(), options(&help(&[verb, "--help"])));
        }
        Self(commands)
    }

    pub fn n_verbs(&self) -> usize {
        self.0.len() - 1
    }

    /// Verbs, and options of a verb's own, that no row of the page names: `| `release SERVICE
    /// --force` | … |`.
    pub fn missing(&self, page: &str) -> Vec<String> {
        let rows: Vec<Vec<&str>> = page
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
            .map(|row| row.split([' ', '[', ']']).collect())
            .collect();
        let mut missing = Vec::new();
        for (verb, options) in self.0.iter().filter(|(verb, _)| !verb.is_empty()) {
            let of_verb: Vec<_> = rows.iter().filter(|row| row[0] == verb).collect();
            if of_verb.is_empty() {
                missing.push(verb.clone());
                continue;
            }
            let general = ["--config", "--json", "--help", "-h"];
            let own = options.iter().filter(|option| !general.contains(&option.as_str()));
            // The long form stands for the short one.
            let absent = own.filter(|option| {
                option.starts_with("--")
                    && !of_verb.iter().any(|row| row.contains(&option.as_str()))
                    && !page.contains(&format!("`{option}`"))
            });
            missing.extend(absent.map(|option| format!("{verb} {option}")));
        }
        missing
    }

    /// What a page names that is not there. `topics` may follow `help`.
    pub fn unknown(&self, page: &str, topics: &[&str]) -> Vec<String> {
        let mut unknown = Vec::new();
        for (line, piece) in code_pieces(page) {
            let mut complain = |what: &str| unknown.push(format!("{line}: {what}"));
            for (at, _) in piece.match_indices("halley-sup ") {
                let is_word = !piece[..at].ends_with(|c: char| c.is_alphanumeric() || c == '/');
                if is_word {
                    let words = &piece[at + "halley-sup ".len()..];
                    self.look(words, topics, &mut complain);
                }
            }
            let first = piece.split(' ').next().unwrap_or_default();
            if self.0.contains_key(first) && !first.is_empty() {
                self.look(&piece, topics, &mut complain);
            } else if first.starts_with("--") && !self.0.values().any(|all| all.contains(first)) {
                complain(first);
            }
        }
        unknown
    }

    /// The words of one command, up to where the shell goes on with something else.
    fn look(&self, words: &str, topics: &[&str], complain: &mut impl FnMut(&str)) {
        let mut words = words
            .split_whitespace()
            .take_while(|word| !["|", "&", "&&", "#", ";", ">", "--"].contains(word))
            .map(|word| word.trim_matches(['[', ']', ';', ',']));
        let Some(verb) = words.next().filter(|verb| !is_placeholder(verb)) else { return };
        let Some(options) = self.0.get(if verb.starts_with('-') { "" } else { verb }) else {
            return complain(verb);
        };
        if verb.starts_with('-') && !options.contains(verb) {
            return complain(verb);
        }
        for word in words {
            let option = word.split('=').next().unwrap_or(word);
            if verb == "help" && !is_placeholder(word) && !option.starts_with('-') {
                let is_there = topics.contains(&word) || self.0.contains_key(word);
                if !is_there {
                    complain(&format!("help {word}"));
                }
            }
            if option.len() > 1 && option.starts_with('-') && !options.contains(option) {
                complain(&format!("{verb} {option}"));
            }
        }
    }
}

/// Written in capitals, or for the reader to fill in.
fn is_placeholder(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_uppercase() || c == '…')
}

/// The verbs in the top's help.
pub fn verbs(help: &str) -> Vec<&str> {
    let rows = help.lines().skip_while(|line| !line.starts_with("Commands:")).skip(1);
    let rows = rows.take_while(|line| line.starts_with("  "));
    // A description that goes on in the next line is indented further.
    let rows = rows.filter(|line| !line.starts_with("   "));
    rows.filter_map(|line| line.split_whitespace().next()).collect()
}

/// The options in a help text: `-n, --limit <LIMIT>`.
fn options(help: &str) -> BTreeSet<String> {
    let rows = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let words = rows.flat_map(|row| row.split("  ").next().unwrap_or(row).split([' ', ',']));
    words.filter(|word| word.starts_with('-')).map(str::to_owned).collect()
}

/// What stands in code marks, and each line of a shell's block, with its line.
fn code_pieces(page: &str) -> Vec<(usize, String)> {
    let mut pieces = Vec::new();
    let mut block = None;
    for (index, line) in page.lines().enumerate() {
        if let Some(kind) = line.trim_start().strip_prefix("```") {
            block = block.is_none().then_some(kind);
            continue;
        }
        match block {
            Some("sh") => pieces.push((index + 1, line.trim().to_owned())),
            Some(_) => {}
            None => {
                let inside = line.split('`').skip(1).step_by(2);
                pieces.extend(inside.map(|piece| (index + 1, piece.to_owned())));
            }
        }
    }
    pieces
}

/// A code mark that does not close in its line would hide what it names.
pub fn open_marks(page: &str) -> Vec<String> {
    let odd =
        |line: &str| !line.trim_start().starts_with("```") && line.matches('`').count() % 2 == 1;
    let lines = page.lines().enumerate().filter(|(_, line)| odd(line));
    lines.map(|(index, _)| format!("{}: a code mark goes on in the next line", index + 1)).collect()
}

#[cfg(test)]
fn commands() -> Commands {
    Commands::read(|args| {
        let text = match args {
            ["--help"] => {
                "Usage: x\n\nCommands:\n  run      Run\n  release  Release\n           on\n  \
                 help     H\n\nOptions:\n  -h, --help     Print help\n  -V, --version  V\n"
            }
            ["release", _] => {
                "Options:\n      --set <A=B>  Not --this\n  -n, --limit <N>\n      --json\n"
            }
            _ => "Options:\n  -h, --help  Print help\n",
        };
        text.to_owned()
    })
}

#[test]
fn verbs_and_options_that_only_the_help_knows_are_missed() {
    assert_eq!(commands().n_verbs(), 3);
    let page = "| `release SERVICE --set X` | x |\n| `help` | x |\n`run`\n";
    assert_eq!(commands().missing(page), ["release --limit", "run"]);
    let page = "| `release` | x |\n| `help` | x |\n| `run` | with `--limit` and `--set` |\n";
    assert_eq!(commands().missing(page), [""; 0]);
}

#[test]
fn commands_that_only_the_docs_know_are_found() {
    for (page, found) in [
        ("`halley-sup release --set a=b | x --not-ours`", ""),
        ("`halley-sup dance`", "1: dance"),
        ("`halley-sup release web --fast`", "1: release --fast"),
        ("`release SERVICE [--fast] -n 5 -x`", "1: release --fast, 1: release -x"),
        ("`halley-sup VERB`, `halley-sup --version`, `x/halley-sup --x`", ""),
        ("`halley-sup --verbose`", "1: --verbose"),
        ("see `--limit` and `--gone`", "1: --gone"),
        ("`curl --gone` and halley-sup dance", ""),
        ("`halley-sup help config`, `halley-sup help run`", ""),
        ("`halley-sup help confog`", "1: help confog"),
        ("```sh\nhalley-sup run & # now\nssh h halley-sup dance -\n```", "3: dance"),
        ("```toml\nx = \"halley-sup dance\"\n```\n`halley-sup dance`", "4: dance"),
    ] {
        assert_eq!(commands().unknown(page, &["config"]).join(", "), found, "{page}");
    }
    assert_eq!(open_marks("`a`\n```sh\na `b\nc`\n"), open_marks("\n\n`b\n`"));
    assert_eq!(open_marks("`a`\n```sh\n`b` | `").len(), 1);
}
