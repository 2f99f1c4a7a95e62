//! The paths by which a file names other parts of the crate, resolved from the top.

use super::code::name_length;

/// A path from the top of the crate: `a::b::C` of `crate::a::b::C`, and its line.
#[derive(Debug, PartialEq, Eq)]
pub struct Named {
    pub line: usize,
    pub names: Vec<String>,
}

/// The module of a file, by its path in the repository: `a`, `b` for `src/a/b.rs`.
pub fn module_of(path: &str) -> Vec<String> {
    let path = path.strip_prefix("src/").unwrap_or(path);
    let names = path.trim_end_matches(".rs").split('/');
    names.filter(|name| !["mod", "lib", "main"].contains(name)).map(str::to_owned).collect()
}

/// The code before the tests of the same file.
pub fn without_tests(code: &str) -> &str {
    &code[..code.find("mod tests {").unwrap_or(code.len())]
}

/// Every path from `crate`, from `super`, from the library's name, from `self`, or from the name of a
/// child of the file. Groups are taken apart.
pub fn named(code: &str, module: &[String]) -> Vec<Named> {
    let n_code = without_tests(code).len();
    let mut named = children(without_tests(code), module);
    for root in ["crate::", "halley_sup::", "super::"] {
        for (at, _) in code.match_indices(root) {
            // What may see an item is no use of it.
            let is_limit = code[..at].ends_with("pub(in ");
            if is_limit || code[..at].ends_with(is_inside_a_path) {
                continue;
            }
            let mut from = if root == "super::" { module.to_vec() } else { Vec::new() };
            if root == "super::" && at >= n_code {
                from.push("tests".to_owned());
            }
            let mut text = &code[at..];
            while let Some(rest) = text.strip_prefix("super::") {
                from.pop();
                text = rest;
            }
            let line = code[..at].matches('\n').count() + 1;
            let text = text.strip_prefix(root).unwrap_or(text);
            named.extend(expand(text).into_iter().map(|below| {
                let names = from.iter().map(String::as_str).chain(below);
                Named { line, names: names.map(str::to_owned).collect() }
            }));
        }
    }
    named
}

fn is_inside_a_path(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == ':'
}

/// Paths that begin with `self` or with a child that a `mod` line of this file names.
fn children(code: &str, module: &[String]) -> Vec<Named> {
    let lines = code.lines().filter_map(|line| line.trim().strip_suffix(';'));
    let declared = lines.filter_map(|line| line.rsplit_once("mod ").map(|(_, name)| name));
    let mut named = Vec::new();
    for (root, is_self) in declared.map(|name| (name, false)).chain([("self", true)]) {
        for (at, _) in code.match_indices(&format!("{root}::")) {
            if code[..at].ends_with(is_inside_a_path) {
                continue;
            }
            let text = &code[at..];
            let text = if is_self { &text["self::".len()..] } else { text };
            let line = code[..at].matches('\n').count() + 1;
            named.extend(expand(text).into_iter().map(|below| {
                let names = module.iter().map(String::as_str).chain(below);
                Named { line, names: names.map(str::to_owned).collect() }
            }));
        }
    }
    named
}

/// `a`, `b` of `a::b`; `a`, `b` and `a`, `c` of `a::{b, c}`; `a` of `a::{self}` and of `a as b`.
fn expand(text: &str) -> Vec<Vec<&str>> {
    if let Some(inside) = text.strip_prefix('{') {
        return items(inside).into_iter().flat_map(expand).collect();
    }
    let (name, rest) = text.split_at(name_length(text));
    if name == "self" || name.is_empty() {
        return vec![Vec::new()];
    }
    match rest.strip_prefix("::") {
        Some(rest) => {
            let below = expand(rest).into_iter();
            below.map(|next| [name].into_iter().chain(next).collect()).collect()
        }
        None => vec![vec![name]],
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
fn a_path_is_resolved_in_every_spelling() {
    for (code, paths) in [
        ("use crate::x::Y;", "1 x::Y"),
        ("fn f(y: &crate::x::Y<u8>) {}", "1 x::Y"),
        ("\nuse super::c::D;", "2 a::c::D"),
        ("use super::super::c;", "1 c"),
        ("use crate::{x, y::{self, Z as W}};", "1 x, 1 y, 1 y::Z"),
        ("use crate::x::{\n    y,\n    z::*,\n};", "1 x::y, 1 x::z"),
        ("use halley_sup::x;", "1 x"),
        ("pub(in crate::x) fn f() {}", ""),
        ("use self::x::Y; pub(crate) fn my_crate() {}", "1 a::b::x::Y"),
        ("mod z;\nfn f(y: z::Y) { xz::f() }", "2 a::b::z::Y"),
        ("fn f() {}\nmod tests {\n    use super::*;\n}", "3 a::b"),
    ] {
        let module = module_of("src/a/b.rs");
        let named = named(code, &module).into_iter();
        let named: Vec<_> = named.map(|n| format!("{} {}", n.line, n.names.join("::"))).collect();
        assert_eq!(named.join(", "), paths, "{code}");
    }
}
