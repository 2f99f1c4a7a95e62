//! The one place that prints. A reader that went away (`| head`) is no error.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use crate::api::Trouble;
use crate::cli::exit;
use crate::cli::given::{Reader, complete};
use crate::core::exit::Exit;

/// A line of the result, to stdout.
pub fn result(line: impl Display) {
    verbatim(complete(&line.to_string(), Reader::Person));
}

/// A line of the result for machines, to stdout.
pub fn json(line: impl Display) {
    verbatim(complete(&line.to_string(), Reader::Machine));
}

/// A line of somebody else's, to stdout.
pub fn verbatim(line: impl Display) {
    drop(writeln!(io::stdout(), "{line}"));
}

/// A line for people, to stderr.
pub fn say(line: impl Display) {
    drop(writeln!(io::stderr(), "{}", complete(&line.to_string(), Reader::Person)));
}

/// Whether people's output goes to a terminal.
pub fn is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// A part of a result in the colour of its number, on a terminal, unless `NO_COLOR` is set.
pub fn coloured(number: usize, text: &str) -> String {
    let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if is_plain || !io::stdout().is_terminal() {
        return text.to_owned();
    }
    // Cyan, yellow, green, magenta, blue: red is left to errors.
    let colour = [36, 33, 32, 35, 34][number % 5];
    format!("\x1b[{colour}m{text}\x1b[0m")
}

/// Wrong usage, or help: clap has the words.
pub fn usage(error: &clap::Error) -> ExitCode {
    drop(error.print());
    exit::code(if error.use_stderr() { Exit::Usage } else { Exit::Done })
}

/// The four lines of an error, and its exit code.
pub fn trouble(trouble: &Trouble) -> ExitCode {
    say(four_lines(trouble));
    exit::of_answer(trouble.exit)
}

/// What, why, still, next.
pub fn four_lines(trouble: &Trouble) -> String {
    let mut text = format!("error: {}", trouble.what);
    let mut add = |label: &str, value: &str| {
        for (n, line) in value.lines().enumerate() {
            let label = if n == 0 { label } else { "" };
            text.push_str(&format!("\n  {label:<6} {line}"));
        }
    };
    add("why:", &trouble.why);
    add("still:", &trouble.still);
    add("next:", &trouble.next.join("\n"));
    text
}
