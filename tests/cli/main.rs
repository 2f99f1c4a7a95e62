//! What the command line prints, held by snapshots beside this file. A difference fails the test;
//! when it is wanted: `INSTA_UPDATE=always cargo test --test cli`, and read the diff.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on must stop")]

mod help;
mod redact;
mod refusals;
mod releases;
mod states;
mod verbs;
/// Runs a daemon of its own for each test; the client of the end-to-end tests.
#[path = "../e2e/world.rs"]
#[allow(dead_code, clippy::print_stderr, reason = "shared with the end-to-end tests")]
mod world;

use std::process::{Command, Output};

use world::{Said, World};

/// The binary in an environment of nothing but a path.
fn halley(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_halley-sup"));
    command.args(args).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

/// Everything that a command prints: stdout, then stderr, and its exit code when that is not 0.
fn printed(args: &[&str]) -> String {
    let Output { status, stdout, stderr } = halley(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let code = status.code().unwrap_or(-1);
    let code = if code == 0 { String::new() } else { format!("exit {code}\n") };
    format!("$ halley-sup {}\n{}{}{code}", args.join(" "), text(stdout), text(stderr))
}

/// The same for a client of this world's daemon.
fn ran(world: &World, args: &[&str]) -> String {
    let Said { code, stdout, stderr } = world.cli(args);
    let code = if code == 0 { String::new() } else { format!("exit {code}\n") };
    format!("$ halley-sup {}\n{stdout}{stderr}{code}", args.join(" "))
}

/// Compares a text with the snapshot of this name.
fn snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}
