//! Which room may use which: the table in `src/lib.rs`, held.

use super::File;
use super::paths::{module_of, named};

/// A room, or a part of one, and the paths in the crate that it may name beside its own.
struct Row {
    room: &'static str,
    may_use: &'static [&'static str],
    /// Paths that the room uses against the rule, each with the reason.
    exceptions: &'static [(&'static str, &'static str)],
}

const ARROWS: &[Row] = &[
    row("text", &["core::time"]),
    row("json", &[]),
    row("api", &["core", "json"]),
    row("core", &[]),
    row("os", &["core::time", "core::kernel", "core::ordered", "json"]),
    Row {
        exceptions: &[
            ("os::beneath", "an env file may lie where a service's user can write"),
            ("os::limits", "a launcher sets limits as they were typed in"),
        ],
        ..row("config", &["core", "json"])
    },
    Row {
        exceptions: &[
            ("config::model::Settings", "a release keeps the settings of its installation"),
            ("config::model::Own", "and which of them are its own"),
            ("os::clock", "records are stamped with the time of their writing"),
        ],
        ..row("store", &["api", "core", "decode::wire", "json", "os::beneath", "os::fs"])
    },
    row("keeper", &["os", "core::time", "core::backoff", "core::ordered", "json"]),
    row("docs", &[]),
    row("decode", &["os"]),
    row("follow", &["os"]),
    row("forward", &["os", "core::backoff"]),
    Row {
        exceptions: &[
            ("keeper::estate", "a supervisor whose keeper has died becomes the next one"),
            ("keeper::link_from_env", "the socket by which the protocol is spoken is inherited"),
            ("follow::VERB", "the supervisor starts what lets kept connections follow"),
            ("forward::VERB", "the supervisor starts a forwarder as a process"),
            ("decode::VERB", "the supervisor starts a decoder as a process"),
        ],
        ..row(
            "supervisor",
            &["api", "core", "config", "json", "store", "os", "text", "keeper::protocol"],
        )
    },
    Row {
        exceptions: &[
            ("supervisor::VERB", "`run` names the process that the keeper starts"),
            ("supervisor::last_config", "`run` comes up with it when the files are spoilt"),
            ("keeper::Setup", "`run` becomes the keeper"),
            ("keeper::run", "`run` becomes the keeper"),
            ("keeper::take_over", "`run` takes over from a keeper that nobody has started"),
            ("keeper::holder", "`run` names itself in the lock as every keeper does"),
            ("store::layout::Layout", "`run` locks the root before there is a supervisor"),
            ("store::last_config", "`doctor` looks at the configuration that is kept"),
            ("store::damage", "`doctor` looks for damaged files also where no supervisor runs"),
        ],
        ..row("cli", &["api", "config", "core", "demo", "docs", "json", "os", "text"])
    },
    Row {
        exceptions: &[("supervisor::VERB", "the demo finds the supervisor's process to kill it")],
        ..row("demo", &["cli::out", "os", "text"])
    },
    row(
        "main",
        &[
            "cli::main",
            "decode",
            "demo::service",
            "follow",
            "forward",
            "keeper::estate::VERB",
            "keeper::main",
            "os::isolate",
            "os::name_process",
            "os::names",
            "os::launch",
            "supervisor",
        ],
    ),
    row("lib", &[]),
];

const fn row(room: &'static str, may_use: &'static [&'static str]) -> Row {
    Row { room, may_use, exceptions: &[] }
}

impl Row {
    fn of(path: &str) -> Option<&'static Self> {
        let room = room(path);
        ARROWS.iter().find(|row| row.room == room)
    }

    /// Every path that the row allows beside the room's own.
    fn allowed(&self) -> impl Iterator<Item = &'static str> {
        self.may_use.iter().copied().chain(self.exceptions.iter().map(|(path, _)| *path))
    }
}

/// Every path of a file that leads where it may not.
pub fn complaints(file: &File) -> Vec<String> {
    let Some(row) = Row::of(&file.path) else {
        return vec![format!(" the room {} is not in the table of arrows", room(&file.path))];
    };
    let may =
        |used: &str| is_below(used, row.room) || row.allowed().any(|path| is_below(used, path));
    let wrong = used_paths(file).into_iter().filter(|(_, used)| !may(used));
    wrong.map(|(line, used)| format!("{line}: {} may not use {used}", row.room)).collect()
}

/// Exceptions that no file needs, so that none outlives its reason.
pub fn unused(files: &[File]) -> Vec<String> {
    let mut unused = Vec::new();
    for row in ARROWS {
        let own = files.iter().filter(|file| room(&file.path) == row.room);
        let used: Vec<_> = own.flat_map(used_paths).collect();
        let is_used = |path: &str| used.iter().any(|(_, used)| is_below(used, path));
        let idle = row.exceptions.iter().filter(|(path, _)| !is_used(path));
        unused.extend(idle.map(|(path, _)| format!("{}: no file uses {path}", row.room)));
    }
    unused
}

fn room(path: &str) -> &str {
    let path = path.strip_prefix("src/").unwrap_or(path);
    path.split('/').next().unwrap_or(path).trim_end_matches(".rs")
}

/// Paths that a file names, with their lines. A file may name the top of the crate.
fn used_paths(file: &File) -> Vec<(usize, String)> {
    let named = named(file.code.text(), &module_of(&file.path)).into_iter();
    named
        .filter(|path| !path.names.is_empty())
        .map(|path| (path.line, path.names.join("::")))
        .collect()
}

fn is_below(used: &str, path: &str) -> bool {
    used.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[test]
fn a_forbidden_arrow_is_seen_in_every_spelling() {
    for (path, text, n_complaints) in [
        ("src/core/a.rs", "use crate::core::ids;", 0),
        ("src/core/a.rs", "use super::ids;", 0),
        ("src/core/a.rs", "use crate::os::fs;", 1),
        ("src/core/a.rs", "use super::super::os::fs;", 1),
        ("src/core/mod.rs", "use super::os;", 1),
        ("src/core/a.rs", "// use crate::os::fs;", 0),
        ("src/core/a.rs", "fn a(x: crate::store::X) {}", 1),
        ("src/core/a.rs", "use crate::{core, os, store::{a, b}};", 3),
        ("src/core/a.rs", "mod tests {\n use super::super::ids;\n}", 0),
        ("src/os/a.rs", "use crate::core::{time, ids};", 1),
        ("src/store/a.rs", "use crate::config::{model::Config, duration};", 2),
        ("src/store/a.rs", "use crate::config::model::{self, Settings};", 1),
        ("src/cli/a.rs", "use crate::supervisor::{self, VERB};", 1),
        ("src/cli/a.rs", "use crate::store::state::State;", 1),
        ("src/supervisor/a.rs", "use crate::keeper::{children, protocol};", 1),
        ("src/store/a.rs", "use crate::configure::x;", 1),
        ("src/keeper/a.rs", "use crate::supervisor::protocol;", 1),
        ("src/supervisor/a.rs", "use crate::keeper::protocol::Ask;", 0),
        ("src/demo/a.rs", "use crate::cli::{out, run};", 1),
        ("src/supervisor/a.rs", "use crate::cli;", 1),
        ("src/attic/a.rs", "", 1),
    ] {
        let (path, text) = (path.to_owned(), text.to_owned());
        let file = File { path, code: super::Code::of(&text), text };
        let complaints = complaints(&file);
        assert_eq!(complaints.len(), n_complaints, "{}: {}: {complaints:?}", file.path, file.text);
    }
}

#[test]
fn an_exception_that_no_file_needs_is_seen() {
    let used = [
        "use crate::api;",
        "use crate::core::ids;",
        "use crate::config::model::Own;",
        "use crate::os::{clock, fs};",
    ]
    .join("\n");
    let unused = unused(&super::example(&[("src/store/a.rs", &used)]));
    let of_store: Vec<_> = unused.iter().filter(|line| line.starts_with("store: ")).collect();
    assert_eq!(of_store, ["store: no file uses config::model::Settings"]);
}
