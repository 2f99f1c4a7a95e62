//! Which room may use which: the table in `src/lib.rs`, held.

use super::File;
use super::code::name_length;

/// A room, or a part of one, and the paths in the crate that it may name.
const ARROWS: &[(&str, &[&str])] = &[
    ("text.rs", &["core::time"]),
    ("api", &["api"]),
    ("core", &["core"]),
    ("os", &["os", "core::time"]),
    ("config", &["config", "core"]),
    ("store", &["store", "core", "config::model", "os", "api"]),
    ("keeper", &["keeper", "os", "core::time"]),
    ("forward", &["forward", "os"]),
    (
        "supervisor",
        &["supervisor", "text", "api", "core", "config", "store", "os", "keeper", "forward::VERB"],
    ),
    (
        "cli",
        &[
            "cli",
            "demo",
            "docs",
            "text",
            "api",
            "core",
            "config",
            "store",
            "os",
            "keeper",
            "supervisor",
        ],
    ),
    ("docs", &["docs"]),
    ("demo", &["demo", "cli::out", "os", "supervisor::VERB"]),
    ("main.rs", &["cli", "demo::service", "forward", "supervisor", "os"]),
    ("lib.rs", &[]),
];

/// Every path of a file that leads where it may not.
pub fn complaints(file: &File) -> Vec<String> {
    let path = file.path.strip_prefix("src/").unwrap_or(&file.path);
    let room = path.split('/').next().unwrap_or(path);
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == room) else {
        return vec![format!(" the room {room} is not in the table of arrows")];
    };
    let used = used_paths(file.code.text(), module_depth(path));
    let wrong = used.iter().filter(|(_, used)| !is_allowed(used, allowed));
    wrong.map(|(line, used)| format!("{line}: {room} may not use {used}")).collect()
}

fn is_allowed(used: &str, allowed: &[&str]) -> bool {
    let below = |path: &&&str| {
        used.strip_prefix(**path).is_some_and(|rest| !rest.starts_with(|c| c != ':'))
    };
    allowed.iter().any(|path| below(&path))
}

/// How many `super` lead from a file's module to the top.
fn module_depth(path: &str) -> usize {
    let names = path.trim_end_matches(".rs").split('/');
    names.filter(|name| !["mod", "lib", "main"].contains(name)).count()
}

/// Paths from the top of the crate, two names deep, with their lines. Groups are taken apart.
fn used_paths(code: &str, depth: usize) -> Vec<(usize, String)> {
    let supers = "super::".repeat(depth);
    let n_code = code.find("mod tests {").unwrap_or(code.len());
    let mut used = Vec::new();
    for prefix in ["crate::", "halley_sup::", supers.as_str()] {
        for (at, _) in code.match_indices(prefix).filter(|_| !prefix.is_empty()) {
            let is_super = prefix == supers;
            let inside =
                code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
            if inside || (is_super && at > n_code) {
                continue;
            }
            let line = code[..at].matches('\n').count() + 1;
            let names = names_at(&code[at + prefix.len()..]);
            used.extend(names.into_iter().map(|name| (line, name)));
        }
    }
    used
}

/// `a::b` of `a::b::c`; `a::b` and `a::c` of `a::{b, c::d}`; `a` and `b::c` of `{a, b::c}`.
fn names_at(text: &str) -> Vec<String> {
    expand(text, 2)
}

fn expand(text: &str, n_names: usize) -> Vec<String> {
    if let Some(inside) = text.strip_prefix('{') {
        return items(inside).iter().flat_map(|item| expand(item, n_names)).collect();
    }
    let (name, rest) = text.split_at(name_length(text));
    if name == "self" || name.is_empty() {
        return vec![String::new()];
    }
    match rest.strip_prefix("::").filter(|_| n_names > 1) {
        Some(rest) => {
            let below = expand(rest, n_names - 1).into_iter();
            below.map(|next| format!("{name}::{next}").trim_end_matches("::").to_owned()).collect()
        }
        None => vec![name.to_owned()],
    }
}

/// The items of a group, split at the commas of its own level.
fn items(inside: &str) -> Vec<&str> {
    let mut items = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, c) in inside.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                items.push(inside[start..at].trim());
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    items.retain(|item| !item.is_empty());
    items
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
        ("src/store/a.rs", "use crate::config::{model::Config, duration};", 1),
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
