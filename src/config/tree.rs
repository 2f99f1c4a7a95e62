//! What a release's tree is made of beside its artifact: `links`, `writable`, `absolute_links`.

use std::path::{Component, Path, PathBuf};

use super::raw::{Found, Section};

/// What the host lays over a tree, and allows in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// Names that lead to `shared/`: what is there outlives the release.
    pub links: Vec<PathBuf>,
    /// Directories of the release's own that its program may write to.
    pub writable: Vec<PathBuf>,
    /// Where an absolute symlink of an artifact may lead, beside `shared/`.
    pub absolute_links: Vec<PathBuf>,
}

impl Default for Tree {
    fn default() -> Self {
        Self { links: Vec::new(), writable: Vec::new(), absolute_links: vec!["/usr".into()] }
    }
}

/// Reads the three keys.
pub(super) fn read(section: &Section<'_>) -> Tree {
    let mut taken = Vec::new();
    let links = inner(section, "links", &mut taken);
    let writable = inner(section, "writable", &mut taken);
    let usual = Tree::default().absolute_links;
    let absolute_links = section.texts("absolute_links").map_or(usual, |texts| {
        let hint = "write a list of directories, [\"/usr\", \"/opt/python\"]";
        let is_dir = |path: &Path| path.is_absolute() && is_plain(path);
        paths(section, "absolute_links", texts, hint, &mut |path| is_dir(path))
    });
    Tree { links, writable, absolute_links }
}

/// Paths in the tree, none of them in another one.
fn inner(section: &Section<'_>, key: &str, taken: &mut Vec<PathBuf>) -> Vec<PathBuf> {
    let hint = "write paths in the release, none in another one: [\"uploads\", \"public/media\"]";
    let texts = section.texts(key).unwrap_or_default();
    paths(section, key, texts, hint, &mut |path| {
        let is_apart = !taken.iter().any(|one| one.starts_with(path) || path.starts_with(one));
        taken.push(path.to_owned());
        is_apart && path.is_relative() && is_plain(path)
    })
}

fn paths(
    section: &Section<'_>,
    key: &str,
    texts: Vec<Found<String>>,
    hint: &str,
    is_good: &mut dyn FnMut(&Path) -> bool,
) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for Found { value, line } in texts {
        if !is_good(Path::new(&value)) {
            let message = format!("{value:?} cannot stand here");
            section.report().add_with_hint(line, &section.path(key), message, hint);
        }
        paths.push(PathBuf::from(value));
    }
    paths
}

/// It names something, by names alone.
fn is_plain(path: &Path) -> bool {
    let is_named = |part| matches!(part, Component::RootDir | Component::Normal(_));
    path.file_name().is_some() && path.components().all(is_named)
}

#[cfg(test)]
mod tests {
    use toml::de::DeTable;

    use super::*;
    use crate::config::problem::Report;

    #[test]
    fn paths_are_plain_and_none_is_in_another() {
        for (text, n_problems) in [
            ("", 0),
            ("links = [\"uploads/\", \"config/master.key\"]\nwritable = [\"tmp\"]", 0),
            ("absolute_links = []", 0),
            ("absolute_links = [\"/opt/python\"]", 0),
            ("links = [\"a\", \"a/b\"]", 1),
            ("links = [\"a\"]\nwritable = [\"a\"]", 1),
            ("links = [\"../a\"]", 1),
            ("links = [\"/a\", \"\", \".\"]", 3),
            ("writable = [\"a/../b\"]", 1),
            ("absolute_links = [\"opt\", \"/\"]", 2),
        ] {
            let table = DeTable::parse(text).unwrap();
            let report = Report::new(Path::new("t.toml"), text);
            read(&Section::free("", &(0..0), table.get_ref(), &report));
            let problems = report.into_problems();
            assert_eq!(problems.len(), n_problems, "{text}: {problems:?}");
        }
    }
}
