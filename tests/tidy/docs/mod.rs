//! The docs against the code: what a user can write, call or get is in them, and they name nothing
//! that is not there.

mod commands;
mod exits;
mod files;
mod json;
mod keys;
mod links;
mod plain;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use commands::Commands;
use halley_sup::core::exit::Exit;
use halley_sup::core::operation::outcome::Word;
use halley_sup::docs::TOPICS;

use crate::{source, source_but, top};

/// Lines and columns of two screens, and of the links' targets below them.
const README_LINES: usize = 100;
const README_COLUMNS: usize = 120;

#[test]
fn every_key_of_the_configuration_is_in_its_table() {
    assert_eq!(keys::missing(&text("config"), halley_sup::config::KEYS), [""; 0]);
}

#[test]
fn every_verb_and_option_is_in_the_docs() {
    let commands = commands();
    assert!(commands.n_verbs() > 20, "the help was not understood");
    assert_eq!(commands.missing(&text("verbs")), [""; 0]);
}

#[test]
fn the_docs_name_no_command_that_is_not_there() {
    let commands = commands();
    let topics: Vec<_> = TOPICS.iter().map(|topic| topic.name).collect();
    complain(|page| commands.unknown(page, &topics));
    complain(commands::open_marks);
}

#[test]
fn the_exit_codes_of_the_docs_are_those_of_the_code() {
    let given: BTreeSet<u8> = Exit::ALL.iter().map(|exit| exit.code()).collect();
    assert_eq!(exits::documented(&text("exit")), given);
}

#[test]
fn every_exit_code_is_given_by_its_name() {
    // The demo's service is a program that ends as it is told.
    let files = source_but(&["src"], &["src/core/exit.rs", "src/demo/service.rs"]);
    crate::complain(&files, exits::bare_numbers);
}

#[test]
fn every_exit_code_has_a_place_that_gives_it() {
    let code = source_but(&["src"], &["src/core/exit.rs"]);
    let is_given = |exit: &&Exit| {
        let name = format!("Exit::{exit:?}");
        code.iter().any(|file| !file.code.words_found(&[name.as_str()]).is_empty())
    };
    let idle: Vec<_> = Exit::ALL.iter().filter(|exit| !is_given(exit)).collect();
    assert_eq!(idle, [] as [&Exit; 0]);
}

#[test]
fn every_key_of_the_json_output_is_in_the_docs() {
    let api = source(&["src/api"]);
    let page = text("json");
    let missing: Vec<_> = api.iter().flat_map(|file| json::missing(&page, file)).collect();
    assert_eq!(missing, [""; 0]);
}

#[test]
fn every_word_of_an_outcome_is_in_the_docs() {
    let page = text("json");
    let is_named = |word: &&Word| page.contains(&format!("`{}`", word.name()));
    let missing: Vec<_> = Word::ALL.iter().filter(|word| !is_named(word)).collect();
    assert_eq!(missing, [] as [&Word; 0]);
}

#[test]
fn docs_and_help_are_in_plain_words() {
    complain(plain::complaints);
    let help = help(&["--help"]);
    let verbs = commands::verbs(&help).into_iter();
    let texts = verbs.map(|verb| self::help(&[verb, "--help"])).chain([help.clone()]);
    let found: Vec<_> = texts.flat_map(|text| plain::complaints(&text)).collect();
    assert_eq!(found, [""; 0]);
}

#[test]
fn sentences_that_the_code_prints_are_in_plain_words() {
    crate::complain(&source(&["src"]), plain::in_sentences);
}

#[test]
fn every_topic_is_a_file_and_every_file_a_topic() {
    let files = fs::read_dir(top().join("src/docs")).unwrap();
    let names = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names: Vec<_> = names.collect();
    assert_eq!(strays(&names, &topics()), [""; 0]);
    let verbs = help(&["--help"]);
    for verb in commands::verbs(&verbs) {
        assert!(!topics().contains(&verb), "{verb} is a verb and a topic");
    }
}

#[test]
fn links_lead_somewhere_and_named_tests_are_there() {
    let broken: Vec<_> =
        pages().iter().flat_map(|(path, text)| links::broken(path, text)).collect();
    assert_eq!(broken, [""; 0]);
}

#[test]
fn files_that_the_docs_name_are_there() {
    complain(|page| files::missing(top(), page));
    let bench = fs::read_to_string(top().join("scripts/bench/main.rs")).unwrap();
    complain(|page| files::unknown_figures(&bench, page));
}

#[test]
fn the_readme_fits_on_two_screens() {
    let readme = fs::read_to_string(top().join("README.md")).unwrap();
    assert_eq!(beyond_two_screens(&readme), [""; 0]);
}

#[test]
fn strays_and_a_readme_that_grows_are_complained_about() {
    let files = ["a.md", "b.md", "mod.rs"].map(str::to_owned);
    assert_eq!(strays(&files, &["a", "c"]), ["b.md is no topic", "c has no file"]);
    assert_eq!(strays(&files, &["a", "b"]), [""; 0]);
    let line = "x".repeat(README_COLUMNS);
    assert_eq!(beyond_two_screens(&line), [""; 0]);
    assert_eq!(beyond_two_screens(&format!("{line}ü")), ["1: 121 columns"]);
    let long = "x\n".repeat(README_LINES);
    assert_eq!(beyond_two_screens(&format!("{long}[1]: x\n")), [""; 0]);
    assert_eq!(beyond_two_screens(&format!("{long}x\n")), ["101 lines"]);
}

/// Files without a topic, topics without a file.
fn strays(files: &[String], topics: &[&str]) -> Vec<String> {
    let names = files.iter().filter_map(|file| file.strip_suffix(".md"));
    let unregistered = names.filter(|name| !topics.contains(name));
    let unregistered = unregistered.map(|name| format!("{name}.md is no topic"));
    let missing = topics.iter().filter(|name| !files.contains(&format!("{name}.md")));
    unregistered.chain(missing.map(|name| format!("{name} has no file"))).collect()
}

/// What of a text is too long; targets of links at its foot are not read on a screen.
fn beyond_two_screens(text: &str) -> Vec<String> {
    let n_lines =
        text.lines().filter(|line| !(line.starts_with('[') && line.contains("]: "))).count();
    let too_many = (n_lines > README_LINES).then(|| format!("{n_lines} lines"));
    let widths = text.lines().map(|line| line.chars().count()).enumerate();
    let wide = widths.filter(|(_, width)| *width > README_COLUMNS);
    let wide = wide.map(|(index, width)| format!("{}: {width} columns", index + 1));
    too_many.into_iter().chain(wide).collect()
}

fn complain(rule: impl Fn(&str) -> Vec<String>) {
    let complaints: Vec<_> = pages()
        .iter()
        .flat_map(|(path, text)| {
            rule(text).into_iter().map(|complaint| format!("{}:{complaint}", path.display()))
        })
        .collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// The README and every topic, with their paths.
fn pages() -> Vec<(PathBuf, String)> {
    let path = |topic: &halley_sup::docs::Topic| format!("src/docs/{}.md", topic.name);
    let paths = TOPICS.iter().map(path).chain(["README.md".to_owned()]);
    paths
        .map(|path| top().join(path))
        .map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
        .collect()
}

fn topics() -> Vec<&'static str> {
    TOPICS.iter().map(|topic| topic.name).collect()
}

fn text(topic: &str) -> String {
    fs::read_to_string(top().join(format!("src/docs/{topic}.md"))).unwrap()
}

fn commands() -> Commands {
    Commands::read(help)
}

fn help(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_halley-sup")).args(args).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}
