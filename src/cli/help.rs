//! `help [TOPIC]`: a topic of the reference, or a command's own help; without a name, the list of
//! both.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::Args;

use crate::api::Trouble;
use crate::cli::verb::Own;
use crate::cli::{command, exit, markdown, out, pager};
use crate::config;
use crate::core::exit::Exit;
use crate::docs::{TOPICS, Topic};

/// What people read at most in one line; wider is tiring.
const COLUMNS_MAX: usize = 100;
/// In narrower lines a table has no room.
const COLUMNS_MIN: usize = 40;

/// Show a topic of the reference, or the help of a command
#[derive(Debug, Args)]
pub struct Help {
    /// A topic of the reference, or a command
    topic: Option<String>,
}

impl Own for Help {
    fn perform(self) -> ExitCode {
        let Some(name) = self.topic else {
            show(&index(), |text, _| text.to_owned());
            return exit::code(Exit::Done);
        };
        if let Some(topic) = TOPICS.iter().find(|topic| topic.name == name) {
            show(&topic.text(), markdown::render);
            return exit::code(Exit::Done);
        }
        if commands().contains(&name) {
            return match command().try_get_matches_from(["halley-sup", &name, "--help"]) {
                Err(help) => out::usage(&help),
                Ok(_) => exit::code(Exit::Done),
            };
        }
        out::trouble(&unknown(&name))
    }
}

/// The names of all commands.
fn commands() -> Vec<String> {
    command().get_subcommands().map(|command| command.get_name().to_owned()).collect()
}

/// The help of the top, with the topics after it.
fn index() -> String {
    let width = TOPICS.iter().map(|topic| topic.name.len()).max().unwrap_or_default();
    let row = |Topic { name, about, .. }: &Topic| format!("  {name:<width$}  {about}");
    let rows: Vec<_> = TOPICS.iter().map(row).collect();
    let topics = format!("Topics (halley-sup help TOPIC):\n{}", rows.join("\n"));
    command().after_help(topics).render_help().to_string()
}

fn unknown(name: &str) -> Trouble {
    let commands = commands();
    let known = || TOPICS.iter().map(|topic| topic.name).chain(commands.iter().map(String::as_str));
    // The given name may be longer than the known one: `configuration`.
    let longer = || known().find(|word| word.len() >= 3 && name.starts_with(word));
    let meant = config::nearest(name, known()).or_else(longer);
    Trouble {
        what: format!("there is no topic or command {name:?}"),
        why: meant.map_or(String::new(), |meant| format!("did you mean {meant:?}?")),
        still: String::new(),
        next: vec![meant.map_or("halley-sup help".to_owned(), |m| format!("halley-sup help {m}"))],
        exit: Exit::Usage.code(),
    }
}

/// To a terminal rendered and through a pager; elsewhere the text as it is.
fn show(text: &str, render: impl Fn(&str, usize) -> String) {
    let is_plain = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    if is_plain || !io::stdout().is_terminal() {
        return out::result(text.trim_end());
    }
    // A terminal that does not know its size reports 0.
    let known = rustix::termios::tcgetwinsize(io::stdout()).map(|size| usize::from(size.ws_col));
    let columns = known.ok().filter(|columns| *columns > 0).unwrap_or(80);
    let text = render(text, columns.clamp(COLUMNS_MIN, COLUMNS_MAX));
    if !pager::page(&text) {
        out::result(text.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_nearly_right_is_suggested() {
        for (name, next) in [
            ("confg", "halley-sup help config"),
            ("configuration", "halley-sup help config"),
            ("relaese", "halley-sup help release"),
            ("hand", "halley-sup help handoff"),
            ("quux", "halley-sup help"),
        ] {
            let trouble = unknown(name);
            assert_eq!((trouble.next, trouble.exit), (vec![next.to_owned()], 2), "{name}");
        }
    }
}
