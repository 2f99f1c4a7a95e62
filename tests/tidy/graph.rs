//! Which file of `src` uses which: an arrow leads from a file to the file whose module a path of
//! it names. Tests inside the files are left out, and so is `main.rs`, which nothing can name.

use std::collections::{BTreeMap, BTreeSet};

use super::File;
use super::paths::{module_of, named, without_tests};

/// The arrows between files.
pub struct Graph {
    /// From a file to each file it uses, with the first line that says so.
    arrows: BTreeMap<String, BTreeMap<String, usize>>,
}

impl Graph {
    pub fn of(files: &[File]) -> Self {
        let files = files.iter().filter(|file| file.path != "src/main.rs");
        let modules: BTreeMap<_, _> = files.map(|file| (module_of(&file.path), file)).collect();
        let mut arrows = BTreeMap::new();
        for (module, file) in &modules {
            let mut used = BTreeMap::new();
            for path in named(without_tests(file.code.text()), module) {
                // The longest part of the path that is a module; the rest are names inside of it.
                let mut prefixes = (1..=path.names.len()).rev().map(|n| &path.names[..n]);
                let to = prefixes.find_map(|prefix| modules.get(prefix));
                if let Some(to) = to.filter(|to| to.path != file.path) {
                    let line = used.entry(to.path.clone()).or_insert(path.line);
                    *line = path.line.min(*line);
                }
            }
            arrows.insert(file.path.clone(), used);
        }
        Self { arrows }
    }

    /// Every arrow: from, the line there, to.
    pub fn arrows(&self) -> impl Iterator<Item = (&str, usize, &str)> {
        self.arrows.iter().flat_map(|(from, used)| {
            used.iter().map(|(to, line)| (from.as_str(), *line, to.as_str()))
        })
    }

    /// Sets of files each of which leads, over others, to each other one; the largest first.
    pub fn circles(&self) -> Vec<Vec<&str>> {
        let reached: BTreeMap<_, _> =
            self.arrows.keys().map(|file| (file.as_str(), self.reached_from(file))).collect();
        let mut seen = BTreeSet::new();
        let mut circles = Vec::new();
        for (file, ahead) in &reached {
            let circle: Vec<_> =
                ahead.iter().copied().filter(|other| reached[other].contains(file)).collect();
            if !circle.is_empty() && seen.insert(circle.clone()) {
                circles.push(circle);
            }
        }
        circles.sort_by_key(|circle| std::cmp::Reverse(circle.len()));
        circles
    }

    fn reached_from(&self, file: &str) -> BTreeSet<&str> {
        let mut reached = BTreeSet::new();
        let mut next: Vec<&str> = self.arrows[file].keys().map(String::as_str).collect();
        while let Some(file) = next.pop() {
            if reached.insert(file) {
                next.extend(self.arrows[file].keys().map(String::as_str));
            }
        }
        reached
    }
}

#[test]
fn arrows_lead_to_the_longest_module_of_a_path() {
    let graph = Graph::of(&super::example(&[
        ("src/lib.rs", "pub mod a;\npub mod c;"),
        ("src/a/mod.rs", "pub mod b;\npub fn f() {}"),
        ("src/a/b.rs", "use super::f;\nuse crate::c::{self, D, e::E};\n// use crate::d::D;"),
        ("src/c/mod.rs", "mod tests {\n    use crate::a::b::B;\n}"),
        ("src/c/e.rs", "fn f() -> crate::d::D { \"crate::a::f\" }"),
        ("src/d.rs", ""),
        ("src/main.rs", "use crate::a;"),
    ]));
    let arrows: Vec<_> = graph.arrows().collect();
    let expected = [
        ("src/a/b.rs", 1, "src/a/mod.rs"),
        ("src/a/b.rs", 2, "src/c/e.rs"),
        ("src/a/b.rs", 2, "src/c/mod.rs"),
        ("src/c/e.rs", 1, "src/d.rs"),
    ];
    assert_eq!(arrows, expected);
    assert_eq!(graph.circles(), [[""; 0]; 0]);
}

#[test]
fn a_circle_is_seen_over_any_number_of_files() {
    let graph = Graph::of(&super::example(&[
        ("src/a.rs", "use crate::b;"),
        ("src/b.rs", "use crate::c;"),
        ("src/c.rs", "use crate::{a, d};"),
        ("src/d.rs", "use crate::e;"),
        ("src/e.rs", "use crate::d;"),
        ("src/f.rs", "use crate::a;"),
    ]));
    let expected = [vec!["src/a.rs", "src/b.rs", "src/c.rs"], vec!["src/d.rs", "src/e.rs"]];
    assert_eq!(graph.circles(), expected);
}
