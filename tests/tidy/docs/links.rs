//! Links of the docs: each leads to a file, and to a test where it names one.

use std::path::Path;

/// Links that lead nowhere; `page` is the page's path.
pub fn broken(page: &Path, text: &str) -> Vec<String> {
    let folder = page.parent().unwrap_or(page);
    let mut broken = Vec::new();
    for target in targets(text).iter().filter(|target| !target.contains("://")) {
        let (path, name) = target.split_once('#').unwrap_or((target, ""));
        let found = std::fs::read_to_string(folder.join(path));
        let is_there = found.is_ok_and(|text| name.is_empty() || has_test(&text, name));
        if !is_there {
            broken.push(format!("{}: there is no {target}", page.display()));
        }
    }
    for number in used_without_target(text) {
        broken.push(format!("{}: [{number}] has no target", page.display()));
    }
    broken
}

/// Whether a test of this name runs: neither a function beside the tests, nor one that is ignored.
fn has_test(text: &str, name: &str) -> bool {
    let Some((before, _)) = text.split_once(&format!("fn {name}(")) else { return false };
    let attributes = before.lines().rev().map(str::trim).take_while(|line| {
        line.is_empty() || line.starts_with("#[") || line.starts_with("//") || *line == "async"
    });
    let attributes: Vec<_> = attributes.collect();
    let has = |words: &[&str]| attributes.iter().any(|it| words.iter().any(|w| it.starts_with(w)));
    has(&["#[test]", "#[tokio::test"]) && !has(&["#[ignore"])
}

/// `b` of `[a](b)`, and of `[1]: b` at the foot of a page.
fn targets(text: &str) -> Vec<&str> {
    let inline = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let at_foot = text.lines().filter_map(|line| line.strip_prefix('[')?.split_once("]: "));
    inline.chain(at_foot.map(|(_, target)| target)).collect()
}

/// `1` of `[a][1]` without a `[1]: b`.
fn used_without_target(text: &str) -> Vec<&str> {
    let used = text.split("][").skip(1).filter_map(|rest| rest.split(']').next());
    used.filter(|name| !text.contains(&format!("\n[{name}]: "))).collect()
}

#[test]
fn links_that_lead_nowhere_are_found() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let me = "tests/tidy/docs/links.rs";
    let ignored = "#[test]\n#[ignore = \"slow\"]\nfn a() {}\n\n#[test]\nfn b() {}\nfn c() {}";
    assert_eq!(["a", "b", "c"].map(|name| has_test(ignored, name)), [false, true, false]);
    for (text, n_broken) in [
        (format!("[a]({me}) [b](https://example.org/x) [c](LICENSE)"), 0),
        (format!("[a]({me}#links_that_lead_nowhere_are_found)"), 0),
        (format!("[a]({me}#links_that_lead)"), 1),
        ("[a](tests/tidy/docs/attic.rs)".to_owned(), 1),
        (format!("[a][1] [b][2]\n\n[1]: {me}#no_such_test\n"), 2),
        (format!("[a][1]\n\n[1]: {me}\n"), 0),
        (format!("[a]({me}#targets)"), 1),
    ] {
        assert_eq!(broken(&page, &text).len(), n_broken, "{text}");
    }
}
