//! `help`, `--help`, and the reference that the binary carries.

use std::io::Write;
use std::process::{Command, Stdio};

use halley_sup::docs::TOPICS;

use crate::{halley, printed, snapshot};

#[test]
fn all_help_is_as_it_was() {
    let top = printed(&["--help"]);
    let rows = top.lines().skip_while(|line| *line != "Commands:").skip(1);
    let rows = rows.take_while(|line| line.starts_with("  "));
    let verbs: Vec<_> = rows.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(verbs.len() > 20, "{top}");
    let mut texts = vec![top.clone(), printed(&["help"])];
    texts.extend(verbs.iter().map(|verb| printed(&[verb, "--help"])));
    snapshot("help", &texts.join("\n"));
}

#[test]
fn help_of_a_command_is_its_own() {
    let same = |text: String| text.split_once('\n').unwrap().1.to_owned();
    assert_eq!(same(printed(&["help", "release"])), same(printed(&["release", "--help"])));
}

#[test]
fn a_topic_is_printed_as_it_is_where_there_is_no_terminal() {
    for topic in TOPICS {
        let output = halley(&["help", topic.name]).env("PAGER", "false").output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), topic.text(), "{}", topic.name);
        assert!(output.status.success() && output.stderr.is_empty());
    }
}

#[test]
fn an_unknown_topic_is_an_error_with_a_suggestion() {
    let texts = [printed(&["help", "confg"]), printed(&["help", "quux"])];
    snapshot("help_unknown", &texts.join("\n"));
}

#[test]
fn on_a_terminal_a_topic_goes_through_the_pager_as_it_is_named() {
    let bold = "\x1b[1mExit codes\x1b[0m";
    // The pager's own output is seen, and the text it was given.
    let paged = on_terminal("HALLEY_PAGER='sed -n 1s/^/paged:/p'");
    assert_eq!(paged.trim(), format!("paged:{bold}"));
    for variables in ["HALLEY_PAGER=/no/such/pager", "HALLEY_PAGER=", "PAGER=cat"] {
        let text = on_terminal(variables);
        assert!(text.starts_with(bold) && text.contains("rolled back after"), "{text}");
    }
    assert!(on_terminal("TERM=dumb PAGER=false").starts_with("# Exit codes"));
    assert_eq!(on_terminal("PAGER=true"), "");
    // No shell: the words are the program's arguments.
    assert_eq!(on_terminal("PAGER='echo $HOME;id'").trim(), "$HOME;id");
}

/// What `help exit` shows on a terminal with these variables.
fn on_terminal(variables: &str) -> String {
    let command = format!("TERM=xterm {variables} {} help exit", env!("CARGO_BIN_EXE_halley-sup"));
    let mut script = Command::new("script");
    script.args(["-qec", &command, "/dev/null"]).env_remove("PAGER").env_remove("HALLEY_PAGER");
    let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().flush().unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&output.stdout).replace('\r', "")
}
